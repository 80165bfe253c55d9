package main

import (
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	tests := map[string]struct {
		of     figures
		median float64
		spread string
	}{
		"none": {nil, 0, none},
		"one":  {figures{3}, 3, "3.0 – 3.0"},
		"odd":  {figures{9, 1, 5}, 5, "1.0 – 9.0"},
		"even": {figures{8, 1, 2, 4}, 3, "1.0 – 8.0"},
	}
	for name, tt := range tests {
		if got := tt.of.median(); got != tt.median {
			t.Errorf("%s: median %v, want %v", name, got, tt.median)
		}
		if got := tt.of.spread(1); got != tt.spread {
			t.Errorf("%s: spread %q, want %q", name, got, tt.spread)
		}
	}
	unsorted := figures{2, 1}
	unsorted.median()
	if unsorted[0] != 2 {
		t.Error("the median sorts the figures themselves")
	}
}

func TestTable(t *testing.T) {
	tab := table{title: "T", head: []string{"server", "x"}}
	tab.row("A", "1")
	tab.note("said:\nmore")
	tab.note("said:\nmore")
	var b strings.Builder
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	want := "### T\n\n| server | x |\n| --- | --- |\n| A | 1 |\n\n- said:; more\n\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// TestSummary has a server that comes later, and one that can't do everything: no figure may stand below another load's name.
func TestSummary(t *testing.T) {
	a, b := &server{name: "A"}, &server{name: "B"}
	var s summary
	s.add("first", []*server{a}, []*result{{server: a, cost: figures{1}}})
	s.add("second", []*server{a, b}, []*result{nil, {server: b, cost: figures{2}}})
	s.add("third", []*server{a}, []*result{{server: a, cost: figures{3}}})
	s.fill()
	var got strings.Builder
	if err := s.write(&got); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| server | first | second | third |", "| A | 1.00 | – | 3.00 |", "| B | – | 2.00 | – |"} {
		if !strings.Contains(got.String(), want+"\n") {
			t.Errorf("no row %q in\n%s", want, got.String())
		}
	}
}
