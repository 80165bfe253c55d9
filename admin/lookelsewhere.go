package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"balefire/zones"
)

// placeQuestions divides the questions of a look-up, by their index: those about zones that this node answers for, by zone, and
// those that others do, by partition. A node that was asked by another one keeps them all.
func (s *Server) placeQuestions(r *http.Request, questions []question) (here map[zones.Name][]int, others map[int32][]int) {
	here, others = map[zones.Name][]int{}, map[int32][]int{}
	for i, q := range questions {
		partition, elsewhere := s.elsewhere(q.apex)
		if elsewhere && !s.relayed(r) {
			others[partition] = append(others[partition], i)
		} else {
			here[q.apex] = append(here[q.apex], i)
		}
	}
	return here, others
}

// lookElsewhere asks other nodes the questions about the partitions that they hold.
func (s *Server) lookElsewhere(r *http.Request, questions []question, byPartition map[int32][]int, answers []found, budget *octetBudget) {
	nobody := s.spread(slices.Sorted(maps.Keys(byPartition)), func(of share) (unanswered []int32) {
		var which []int
		for _, p := range of.partitions {
			which = append(which, byPartition[p]...)
		}
		got, err := s.askQuestions(r, of.peer, questions, which, budget)
		if err != nil {
			return of.partitions
		}
		for k, i := range which {
			answers[i] = got[k]
		}
		for _, p := range of.partitions {
			if slices.ContainsFunc(byPartition[p], func(i int) bool { return answers[i].Status == lookupUnavailable }) {
				unanswered = append(unanswered, p)
			}
		}
		return unanswered
	})
	for _, p := range nobody {
		for _, i := range byPartition[p] {
			q := questions[i]
			if answers[i].Status == "" {
				problem := unheld(p)
				answers[i] = found{
					Zone: q.apex.String(), Name: q.name.String(), Type: q.rtype.String(),
					Status: lookupUnavailable, Detail: fmt.Sprintf("%s: %s", problem.Title, problem.Detail),
				}
			}
		}
	}
}

// asked is a question as another node takes it.
type asked struct {
	Zone string `json:"zone"`
	Name string `json:"name"`
	Type string `json:"type"`
}

func (s *Server) askQuestions(r *http.Request, peer Peer, questions []question, which []int, budget *octetBudget) ([]found, error) {
	queries := make([]asked, len(which))
	for k, i := range which {
		q := questions[i]
		queries[k] = asked{q.apex.String(), q.name.String(), q.rtype.String()}
	}
	body, err := json.Marshal(map[string]any{"queries": queries})
	if err != nil {
		return nil, err
	}
	// RDATA as text takes up to four times its octets, and each answer has its names.
	most := int64(4*s.opts.Limits.PageOctets + len(which)*2*zoneOctets)
	a, err := s.askPeer(r, peer, s.opts.Limits.PeerWait, most, http.MethodPost, &url.URL{Path: "/v1/lookup"}, body)
	if err == nil && a.status == http.StatusRequestEntityTooLarge {
		budget.take(s.opts.Limits.PageOctets + 1) // one node's share alone is too much
		return make([]found, len(which)), nil
	}
	var got lookedUp
	if err == nil {
		err = a.json(&got)
	}
	if err == nil && len(got.Results) != len(which) {
		err = fmt.Errorf("node %s gave %d results for %d questions", peer.ID, len(got.Results), len(which))
	}
	if err != nil {
		return nil, err
	}
	for _, f := range got.Results {
		for _, text := range f.Records {
			budget.take(len(text))
		}
	}
	return got.Results, nil
}
