package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"balefire/store"
	"balefire/zones"
)

// A look-up asks for many RRsets at once, of zones in any partitions. What it finds in one zone is from one position;
// different zones may be from different ones.

// found is the answer to one question. Status is found, no-such-rrset, no-such-zone or unavailable: the last says that
// it is not known.
type found struct {
	Zone     string   `json:"zone"`
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Status   string   `json:"status"`
	TTL      *uint32  `json:"ttl,omitempty"`
	Records  []string `json:"records,omitempty"`
	Serial   *uint32  `json:"serial,omitempty"`
	Position string   `json:"position,omitempty"`
	Detail   string   `json:"detail,omitempty"`
}

// lookupUnavailable is the status of what is not known.
const lookupUnavailable = "unavailable"

type question struct {
	apex, name zones.Name
	rtype      zones.Type
}

// lookedUp has an answer for each question, in their order.
type lookedUp struct {
	Results []found `json:"results"`
}

// lookupWorkers is how many zones of one look-up are read at once.
const lookupWorkers = 8

func (s *Server) postLookup(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	body, err := readJSON(w, r, s.opts.Limits.Body)
	if err != nil {
		return err
	}
	f := &form{}
	questions := s.readQuestions(f, body)
	if err := f.err(); err != nil {
		return err
	}
	answers := make([]found, len(questions))
	budget := &octetBudget{left: s.opts.Limits.PageOctets}
	here, others := s.placeQuestions(r, questions)
	var asking sync.WaitGroup
	asking.Go(func() { s.lookElsewhere(r, questions, others, answers, budget) })
	s.lookHere(r.Context(), questions, here, answers, budget)
	asking.Wait()
	if budget.spent() {
		return newProblem(http.StatusRequestEntityTooLarge, "too-large",
			"the answer would have more than %d octets of RDATA: ask for fewer at once", s.opts.Limits.PageOctets)
	}
	return writeJSON(w, http.StatusOK, lookedUp{answers})
}

// lookHere answers the questions about zones that this node can speak of, zone by zone.
func (s *Server) lookHere(ctx context.Context, questions []question, byZone map[zones.Name][]int, answers []found, budget *octetBudget) {
	apexes := make(chan zones.Name)
	var workers sync.WaitGroup
	for range min(lookupWorkers, len(byZone)) {
		workers.Go(func() {
			for apex := range apexes {
				s.lookIn(ctx, apex, questions, byZone[apex], answers, budget)
			}
		})
	}
	for apex := range byZone {
		apexes <- apex
	}
	close(apexes)
	workers.Wait()
}

func (s *Server) readQuestions(f *form, body value) []question {
	o := f.object(body)
	v, ok := o.required("queries")
	items := o.array(v, ok)
	o.end()
	switch limit := s.opts.Limits.Lookups; {
	case len(items) > limit:
		f.add(v.at, "%d questions; at most %d are allowed", len(items), limit)
		return nil
	case ok && len(items) == 0 && v.what == "array":
		f.add(v.at, "is empty")
	}
	questions := make([]question, 0, len(items))
	for _, item := range items {
		q := f.object(item)
		var asked question
		v, ok := q.required("zone")
		asked.apex, ok = q.name(v, ok, zones.Root)
		name, there := q.required("name")
		if ok {
			if asked.name, ok = q.name(name, there, asked.apex); ok && !asked.name.IsAtOrBelow(asked.apex) {
				q.add(name.at, "%s is not in the zone %s: leave its final dot out to make it relative", asked.name, asked.apex)
			}
		}
		asked.rtype, _ = q.rtype()
		if asked.rtype == zones.TypeRRSIG {
			q.add(q.at+"/type", "RRSIGs are kept by the type that they cover: get them one by one")
		}
		q.end()
		questions = append(questions, asked)
	}
	return questions
}

// octetBudget bounds what all workers of a look-up may collect.
type octetBudget struct {
	mu   sync.Mutex
	left int
}

func (b *octetBudget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left -= n
	return b.left >= 0
}

func (b *octetBudget) spent() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left < 0
}

// lookIn answers the questions about one zone, those with the indexes given.
func (s *Server) lookIn(ctx context.Context, apex zones.Name, questions []question, which []int, answers []found, budget *octetBudget) {
	reading, err := s.reading(apex)
	if err == nil {
		defer reading.Close()
	}
	for _, i := range which {
		q := questions[i]
		a := &answers[i]
		*a = found{Zone: apex.String(), Name: q.name.String(), Type: q.rtype.String()}
		switch {
		case errors.Is(err, store.ErrNoZone):
			a.Status = "no-such-zone"
		case err != nil:
			a.Status, a.Detail = lookupUnavailable, s.told(err)
		case ctx.Err() != nil || budget.spent():
			a.Status = lookupUnavailable
		default:
			s.look(reading, q, a, budget)
		}
	}
}

func (s *Server) look(reading *store.Reading, q question, a *found, budget *octetBudget) {
	set, ok, err := reading.RRset(q.name, zones.Key{Type: q.rtype})
	if err != nil {
		a.Status, a.Detail = lookupUnavailable, s.told(err)
		return
	}
	serial := uint32(reading.Info.Serial)
	a.Serial, a.Position, a.Status = &serial, reading.Position().String(), "no-such-rrset"
	if ok && budget.take(set.Size()) {
		ttl := set.TTL
		a.Status, a.TTL, a.Records = "found", &ttl, showRRset(set).Records
	}
}

// told is what a client is told of a failed read; the log has all of it.
func (s *Server) told(err error) string {
	p := problemOf(err)
	if p.cause != nil {
		s.log.Warn().Err(err).Msg("look-up failed")
	}
	return fmt.Sprintf("%s: %s", p.Title, p.Detail)
}
