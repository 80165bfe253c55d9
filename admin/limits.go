package admin

import (
	"fmt"
	"net/http"

	"balefire/store"
	"balefire/zones"
)

// within says whether the names that a change set puts records at stay within RecordsPerRRset and TypesPerName,
// which bound what one question can cost. They are this door's own: what is there already, or comes by other doors, is not
// looked at, and two changes at once may together pass them.
func (s *Server) within(cs *zones.ChangeSet, place func(op int) string) error {
	touched := map[zones.Name]int{} // the last operation that puts something there
	for i, op := range cs.Ops {
		switch op := op.(type) {
		case zones.OpPutRRset:
			touched[op.RRset.Owner] = i
		case zones.OpAddRecords:
			touched[op.RRset.Owner] = i
		case zones.OpCreateZone:
			return s.withinWhole(op.RRsets, place(i))
		case zones.OpReplaceZone:
			return s.withinWhole(op.RRsets, place(i))
		}
	}
	if len(touched) == 0 {
		return nil
	}
	if _, elsewhere := s.elsewhere(cs.Zone); elsewhere {
		return nil // nobody here can look; what the operations bring was looked at when they were read
	}
	r, err := s.reading(cs.Zone)
	if isNoZone(err) {
		return nil // the outcome will tell
	}
	if err != nil {
		return err
	}
	defer r.Close()
	for owner, last := range touched {
		if err := s.withinNode(r, cs.Ops, owner, place(last)); err != nil {
			return err
		}
	}
	return nil
}

// withinNode goes through what the operations do to one name.
func (s *Server) withinNode(r *store.Reading, ops []zones.Op, owner zones.Name, at string) error {
	present, err := r.Node(owner)
	if err != nil {
		return err
	}
	sets := make(map[zones.Key]zones.RRset, len(present))
	for _, set := range present {
		sets[set.Key] = set
	}
	var grown []zones.Key
	for _, op := range ops {
		switch op := op.(type) {
		case zones.OpPutRRset:
			if op.RRset.Owner == owner {
				sets[op.RRset.Key] = op.RRset
				grown = append(grown, op.RRset.Key)
			}
		case zones.OpAddRecords:
			if op.RRset.Owner == owner {
				merged, err := sets[op.RRset.Key].Union(op.RRset)
				if err != nil {
					return s.tooMany(at, owner, op.RRset.Type, 1<<16)
				}
				sets[op.RRset.Key] = merged
				grown = append(grown, op.RRset.Key)
			}
		case zones.OpDeleteRecords:
			if op.RRset.Owner == owner {
				if rest := sets[op.RRset.Key].Minus(op.RRset); rest.IsZero() {
					delete(sets, op.RRset.Key)
				} else {
					sets[op.RRset.Key] = rest
				}
			}
		case zones.OpDeleteRRset:
			if op.Owner == owner {
				delete(sets, zones.Key{Type: op.Type})
			}
		case zones.OpDeleteName:
			if op.Owner == owner {
				clear(sets)
			}
		}
	}
	for _, key := range grown {
		if n := sets[key].Len(); n > s.opts.Limits.RecordsPerRRset {
			return s.tooMany(at, owner, key.Type, n)
		}
	}
	types := map[zones.Type]bool{}
	for key := range sets {
		types[key.Type] = true
	}
	if len(types) > s.opts.Limits.TypesPerName {
		return s.tooManyTypes(at, owner, len(types))
	}
	return nil
}

// withinWhole is within for all RRsets of a zone.
func (s *Server) withinWhole(sets []zones.RRset, at string) error {
	types := map[zones.Name]int{}
	for _, set := range sets {
		if set.Len() > s.opts.Limits.RecordsPerRRset {
			return s.tooMany(at, set.Owner, set.Type, set.Len())
		}
		if types[set.Owner]++; types[set.Owner] > s.opts.Limits.TypesPerName {
			return s.tooManyTypes(at, set.Owner, types[set.Owner])
		}
	}
	return nil
}

func (s *Server) tooMany(at string, owner zones.Name, t zones.Type, n int) error {
	p := notValid(mistake{at, fmt.Sprintf("%s %s would have %d records; at most %d are allowed", owner, t, n, s.opts.Limits.RecordsPerRRset)})
	p.Owner, p.RRType = owner.String(), t.String()
	return p
}

func (s *Server) tooManyTypes(at string, owner zones.Name, n int) error {
	p := notValid(mistake{at, fmt.Sprintf("%s would have %d types; at most %d are allowed", owner, n, s.opts.Limits.TypesPerName)})
	p.Owner = owner.String()
	return p
}

// Shrink guard: replacing a whole zone by one that lacks more than a fifth of over 100 RRsets is more often a cut
// file than a wish, and has taken top-level domains down. Changes of single records are never asked.
const (
	shrinkFrom = 100 // RRsets; zones of so many, or fewer, are not guarded
	shrinkPart = 5   // one in so many may go
)

func shrinks(had, lost uint64) bool { return had > shrinkFrom && lost*shrinkPart > had }

func shrinking(apex zones.Name, had, lost uint64) *problem {
	p := newProblem(http.StatusConflict, "shrinking",
		"%d of the %d RRsets of %s would go; with ?force=true they do", lost, had, apex)
	p.Errors = []mistake{{"?force", "is needed to remove more than a fifth of over 100 RRsets"}}
	return p
}
