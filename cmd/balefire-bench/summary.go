package main

import (
	"fmt"
	"os"
)

// summary is the CPU time of each server for each kind of load, side by side.
type summary struct {
	table
	loads []string
	costs map[string][]string // by server
	order []string
}

func (s *summary) add(name string, servers []*server, all []*result) {
	if s.costs == nil {
		s.costs = map[string][]string{}
	}
	for i, srv := range servers {
		if _, ok := s.costs[srv.name]; !ok {
			s.order = append(s.order, srv.name)
		}
		cells := s.costs[srv.name]
		for len(cells) < len(s.loads) {
			cells = append(cells, none)
		}
		if all[i] == nil {
			cells = append(cells, none)
		} else {
			cells = append(cells, fmt.Sprintf("%.2f", all[i].cost.median()))
		}
		s.costs[srv.name] = cells
	}
	s.loads = append(s.loads, name)
}

// fill makes the table's head and rows of what was added.
func (s *summary) fill() {
	s.head = append([]string{"server"}, s.loads...)
	for _, name := range s.order {
		cells := s.costs[name]
		for len(cells) < len(s.loads) {
			cells = append(cells, none)
		}
		s.row(append([]string{name}, cells...)...)
	}
}

func (s *summary) print() error {
	s.fill()
	return s.write(os.Stdout)
}
