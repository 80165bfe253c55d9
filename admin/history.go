package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
)

// historyEntry is one change set of a zone's history.
type historyEntry struct {
	ID       string          `json:"id"`
	ChangeID string          `json:"change_id"`
	Time     time.Time       `json:"time"`
	Author   string          `json:"author"`
	Reason   string          `json:"reason,omitempty"`
	Action   string          `json:"action"`
	From     uint32          `json:"from"`
	To       uint32          `json:"to"`
	Changes  []historyChange `json:"changes,omitempty"`
}

// historyChange is what a change set did to one RRset; a side that is missing did not exist.
type historyChange struct {
	Owner  string `json:"owner"`
	Type   string `json:"type"`
	Before *rrset `json:"before,omitempty"`
	After  *rrset `json:"after,omitempty"`
}

func showHistory(h store.HistoryEntry) historyEntry {
	shown := historyEntry{
		ID: h.Position.String(), ChangeID: h.ID.String(), Time: h.Time, Author: h.Author, Reason: h.Reason,
		Action: h.Action.String(), From: uint32(h.From), To: uint32(h.To),
	}
	for _, c := range h.Changes {
		side := historyChange{Owner: c.Owner.String(), Type: c.Key.Type.String()}
		if !c.Before.IsZero() {
			before := showRRset(c.Before.WithOwner(c.Owner))
			side.Before = &before
		}
		if !c.After.IsZero() {
			after := showRRset(c.After.WithOwner(c.Owner))
			side.After = &after
		}
		shown.Changes = append(shown.Changes, side)
	}
	return shown
}

// historyPage bounds a page of history, whose entries can be large.
const historyPage = 100

// getHistory lists the last change sets of a zone, newest first. It knows deleted zones, too.
func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) error {
	apex, err := zoneOf(r)
	if err != nil {
		return err
	}
	query, err := queryOf(r, "before", "limit")
	if err != nil {
		return err
	}
	limit, err := limitOf(query, 50, s.opts.Limits.Page)
	if err != nil {
		return err
	}
	var before int64
	if query.Has("before") {
		position, err := store.ParsePosition(query.Get("before"))
		if err != nil {
			return badParameter("?before", "%v", err)
		}
		if before = position.Offset; before == 0 {
			before = -1 // nothing is before it; 0 would be the newest
		}
	}
	answer := struct {
		Entries []historyEntry `json:"entries"`
		Next    string         `json:"next,omitempty"`
	}{Entries: []historyEntry{}}
	octets := 0
	var last store.Position
	more := false
	for before >= 0 && len(answer.Entries) < limit && octets < s.opts.Limits.PageOctets {
		step := min(historyPage, limit-len(answer.Entries))
		entries, err := s.opts.Reader.History(apex, before, step)
		if err != nil {
			return err
		}
		for _, h := range entries {
			answer.Entries = append(answer.Entries, showHistory(h))
			for _, c := range h.Changes {
				octets += c.Before.Size() + c.After.Size()
			}
			last = h.Position
		}
		if more = len(entries) == step && last.Offset > 0; !more {
			break
		}
		before = last.Offset
	}
	if more {
		answer.Next = last.String()
	}
	if len(answer.Entries) == 0 && !query.Has("before") {
		reading, err := s.read(apex) // no history is kept, or there is no such zone
		if err != nil {
			return err
		}
		reading.Close()
	}
	return writeJSON(w, http.StatusOK, answer)
}

// postRollback brings a zone's records back to what they were at a serial, by one change set with the operations that
// do it. Its serial goes forward all the same.
func (s *Server) postRollback(w http.ResponseWriter, r *http.Request) error {
	apex, d, f, o, err := s.zoneChange(w, r)
	if err != nil {
		return err
	}
	v, ok := o.required("serial")
	number, _ := o.number(v, ok, 1<<32-1)
	to := zones.Serial(number)
	o.end()
	if err := f.err(); err != nil {
		return err
	}
	why := "roll back to serial " + strconv.FormatUint(number, 10)
	if d.reason != "" {
		why += ": " + d.reason
	}
	if len(why) > change.MaxReason {
		return notValid(mistake{"/reason", fmt.Sprintf("too long by %d octets", len(why)-change.MaxReason)})
	}
	d.reason = why
	if d.keep > 0 {
		// A second call would come to other operations, as the zone has changed since: to none.
		if got, done, err := s.rolledBack(apex, d); done || err != nil {
			if err != nil {
				return err
			}
			return answer(w, http.StatusOK, got)
		}
	}
	ops, current, err := s.opts.Reader.Rollback(apex, to)
	switch {
	case isNoZone(err):
		reading, err := s.read(apex) // tells "not hosted" from "not known"
		if err == nil {
			reading.Close()
			err = noSuchZone(apex) // it has come this very moment
		}
		return err
	case errors.Is(err, store.ErrNoRollback):
		return newProblem(http.StatusConflict, "rejected", "%v", err)
	case err != nil:
		return err
	}
	if len(ops) == 0 {
		// If-Match has to hold all the same.
		for _, p := range d.match {
			if is, ok := p.(zones.IfSerial); ok && is.Serial != current {
				return rejected(&zones.Rejection{Rule: zones.RulePrecondition, Op: -1, Detail: fmt.Sprintf("the serial is %d", current)}, nil)
			}
		}
		serial := uint32(current)
		return answer(w, http.StatusOK, changed{Status: statusApplied, Zone: apex.String(), Serial: &serial})
	}
	cs := s.changeSet(apex, d, zones.IfSerial{Serial: current})
	cs.Ops = ops
	got, err := s.submit(r.Context(), submission{cs: cs, wait: d.wait, preconditions: 1})
	if err != nil {
		var p *problem
		if errors.As(err, &p) && p.Rule == string(zones.RulePrecondition) && strings.HasPrefix(fieldOf(p), "/preconditions/") {
			p.Detail, p.Errors = "the zone was changed meanwhile; nothing was rolled back", nil
		}
		return err
	}
	return answer(w, http.StatusOK, got)
}

func fieldOf(p *problem) string {
	if len(p.Errors) == 0 {
		return ""
	}
	return p.Errors[0].Field
}

// rolledBack returns the result of an earlier roll-back with the same key, if there was one.
func (s *Server) rolledBack(apex zones.Name, d demands) (got changed, done bool, err error) {
	number, ok := s.opts.Publisher.PartitionOf(apex)
	if !ok {
		return got, false, nil
	}
	p := s.opts.Reader.Partition(number)
	if p == nil {
		return got, false, nil
	}
	outcome, err := p.LookupID(d.id)
	if errors.Is(err, store.ErrNoOutcome) {
		return got, false, nil
	}
	if err != nil {
		return got, false, err
	}
	reused := &zones.Rejection{Rule: zones.RuleDuplicate, Owner: apex, Op: -1, Detail: "the key was used for another request"}
	if outcome.Zone != apex {
		return got, false, rejected(reused, nil)
	}
	_, entry, err := s.opts.Reader.HistoryAt(outcome.Position)
	switch {
	case err == nil && entry.Reason != d.reason:
		return got, false, rejected(reused, nil)
	case err != nil && !errors.Is(err, store.ErrNoOutcome):
		return got, false, err
	}
	if outcome.Status == store.StatusRejected {
		return got, false, rejected(outcome.Rejection, &outcome.Position)
	}
	got.take(outcome)
	got.Duplicate = true
	return got, true, nil
}

// contextWithin bounds a wait by the request and a time.
func contextWithin(r *http.Request, wait time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(r.Context(), wait)
}
