package admin

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
)

// postChanges applies a change set: operations and preconditions in one go, whole or not at all.
func (s *Server) postChanges(w http.ResponseWriter, r *http.Request) error {
	apex, d, f, o, err := s.zoneChange(w, r, "force")
	if err != nil {
		return err
	}
	force, err := flagOf(r.URL.Query(), "force")
	if err != nil {
		return err
	}
	p := &changeReader{form: f, apex: apex, records: s.opts.Limits.RecordsPerRRset, check: s.opts.CheckRemote}
	v, ok := o.optional("preconditions")
	var preconditions []zones.Precondition
	for _, item := range o.array(v, ok) {
		preconditions = append(preconditions, p.precondition(f.object(item)))
	}
	v, ok = o.required("operations")
	items := o.array(v, ok)
	var ops []zones.Op
	for _, item := range items {
		ops = append(ops, p.operation(f.object(item)))
	}
	if ok && len(items) == 0 && v.what == "array" {
		o.add(v.at, "is empty")
	}
	o.end()
	if err := f.err(); err != nil {
		return err
	}
	if replace, ok := ops[0].(zones.OpReplaceZone); ok && !force {
		if err := s.guard(r.Context(), apex, slices.Values(replace.RRsets)); err != nil {
			return err
		}
	}
	return s.change(w, r, apex, d, preconditions, ops, func(op int) string { return items[op].at })
}

// changeReader reads preconditions and operations.
type changeReader struct {
	*form
	apex    zones.Name
	records int // at most, of an RRset
	check   func(zones.Remote) error
}

// The names by which the API knows preconditions and operations. Those that stage a large zone are not among
// them: PUT …/file does that, with its checks; nor is raising a partition's format level, which is not about a zone.
const (
	preconditionNames = "rrset_exists, rrset_equals, rrset_absent, name_in_use, name_not_in_use, serial, zone_absent, expression"
	operationNames    = "put_rrset, add_records, delete_records, delete_rrset, delete_name, create_zone, replace_zone, delete_zone, set_settings"
)

func (p *changeReader) precondition(o *object) zones.Precondition {
	defer o.end()
	v, ok := o.required("if")
	kind, ok := o.text(v, ok)
	switch kind {
	case "rrset_exists":
		owner, t := p.place(o)
		return zones.IfRRsetExists{Owner: owner, Type: t}
	case "rrset_absent":
		owner, t := p.place(o)
		return zones.IfRRsetAbsent{Owner: owner, Type: t}
	case "rrset_equals":
		set, _ := o.rrset(p.apex, p.records, false)
		return zones.IfRRsetEquals{RRset: set}
	case "name_in_use":
		owner, _ := o.owner(p.apex)
		return zones.IfNameInUse{Owner: owner}
	case "name_not_in_use":
		owner, _ := o.owner(p.apex)
		return zones.IfNameNotInUse{Owner: owner}
	case "serial":
		v, ok := o.required("serial")
		serial, _ := o.number(v, ok, 1<<32-1)
		return zones.IfSerial{Serial: zones.Serial(serial)}
	case "zone_absent":
		return zones.IfZoneAbsent{}
	case "expression":
		return p.expression(o)
	}
	if ok {
		o.add(v.at, "%q: want one of %s", kind, preconditionNames)
	}
	o.names, o.items = nil, nil // what belongs to it can't be known
	return nil
}

func (p *changeReader) expression(o *object) zones.Precondition {
	owner, t := p.place(o)
	v, ok := o.required("expression")
	text, ok := o.text(v, ok)
	if ok {
		if _, err := change.ParseCondition(text); err != nil {
			o.add(v.at, "%v", err)
		}
	}
	return zones.IfExpression{Owner: owner, Type: t, Expression: text}
}

func (p *changeReader) place(o *object) (zones.Name, zones.Type) {
	owner, _ := o.owner(p.apex)
	t, _ := o.rtype()
	return owner, t
}

func (p *changeReader) operation(o *object) zones.Op {
	defer o.end()
	v, ok := o.required("op")
	kind, ok := o.text(v, ok)
	switch kind {
	case "put_rrset":
		set, _ := o.rrset(p.apex, p.records, true)
		return zones.OpPutRRset{RRset: set}
	case "add_records":
		set, _ := o.rrset(p.apex, p.records, true)
		return zones.OpAddRecords{RRset: set}
	case "delete_records":
		set, _ := o.rrset(p.apex, 1<<16-1, false)
		return zones.OpDeleteRecords{RRset: set}
	case "delete_rrset":
		owner, t := p.place(o)
		return zones.OpDeleteRRset{Owner: owner, Type: t}
	case "delete_name":
		owner, _ := o.owner(p.apex)
		return zones.OpDeleteName{Owner: owner}
	case "create_zone":
		op := zones.OpCreateZone{Settings: o.settings(p.apex, p.check).Settings}
		if !op.Settings.IsSecondary() {
			op.RRsets = p.content(o)
		}
		return op
	case "replace_zone":
		policy, set := o.policy("serial_policy")
		sets := p.content(o)
		slices.SortFunc(sets, zones.CompareRRsets)
		return zones.OpReplaceZone{Settings: zones.ZoneSettings{SerialPolicy: policy}, SetSettings: set, RRsets: sets}
	case "delete_zone":
		return zones.OpDeleteZone{}
	case "set_settings":
		op := o.settings(p.apex, p.check)
		if op.Parts == 0 {
			o.add(o.at, "nothing to change; known here: %s", strings.Join(o.known, ", "))
		}
		return op
	}
	if ok {
		o.add(v.at, "%q: want one of %s", kind, operationNames)
	}
	o.names, o.items = nil, nil
	return nil
}

// content reads all RRsets of a zone.
func (p *changeReader) content(o *object) []zones.RRset {
	v, ok := o.required("rrsets")
	return o.rrsets(v, ok, p.apex, p.records)
}

// changeDetail is a change: what became of it and, while the zone's history keeps it, what it did.
type changeDetail struct {
	changed
	Time    *time.Time      `json:"time,omitempty"`
	Author  string          `json:"author,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Action  string          `json:"action,omitempty"`
	From    *uint32         `json:"from,omitempty"`
	Changes []historyChange `json:"changes,omitempty"`
	// Groups says of each replica group whether it has the change; nil when that was not asked for, or is not known.
	Groups []reachView `json:"groups,omitempty"`
}

// getChange tells what became of a change. It is asked for by its position or, when that is not known, by its
// own ID, for as long as the partition remembers it.
func (s *Server) getChange(w http.ResponseWriter, r *http.Request) error {
	known := []string{"wait", "groups"}
	if s.relayed(r) {
		known = append(known, "partitions")
	}
	query, err := queryOf(r, known...)
	if err != nil {
		return err
	}
	wait, err := s.waitOf(r, query, 0)
	if err != nil {
		return err
	}
	groups, err := flagOf(query, "groups")
	if err != nil {
		return err
	}
	if groups {
		if _, err := s.groups(); err != nil {
			return err
		}
	}
	text := r.PathValue("id")
	if position, err := store.ParsePosition(text); err == nil {
		return s.changeAt(w, r, position, wait, groups)
	}
	var id zones.ChangeID
	if b, err := hex.DecodeString(text); err == nil && len(b) == len(id) && strings.ToLower(text) == text {
		copy(id[:], b)
		partitions, err := s.partitionsOf(query)
		if err != nil {
			return err
		}
		return s.changeByID(w, r, id, partitions, wait, groups)
	}
	return badParameter("{id}", `%q: want a position such as "3@4711", or the 32 hexadecimal digits of a change_id`, text)
}

func (s *Server) changeAt(w http.ResponseWriter, r *http.Request, at store.Position, wait time.Duration, groups bool) error {
	pending := changeDetail{changed: changed{ID: at.String(), Position: at.String(), Status: statusPending}}
	if peers := s.opts.Peers; peers != nil && at.Partition < peers.Partitions() && !peers.Holds(at.Partition) {
		return s.changeElsewhere(w, r, pending, at, groups)
	}
	p := s.opts.Reader.Partition(at.Partition)
	if p == nil {
		return newProblem(http.StatusNotFound, "not-found", "partition %d is not here", at.Partition)
	}
	if p.Applied().Offset < at.Offset {
		if s.beyondLog(r, at) {
			return newProblem(http.StatusNotFound, "not-found", "there is no record at %s: the log does not reach so far", at)
		}
		if wait <= 0 {
			return s.writeChange(w, r, pending, at, groups)
		}
		outcome, err := s.waitFor(r, at, wait)
		switch {
		case err == nil:
			return s.showChange(w, r, outcome, groups)
		case errors.Is(err, store.ErrNoOutcome):
		case errors.Is(err, replication.ErrHalted):
			return err
		default:
			return s.writeChange(w, r, pending, at, groups)
		}
	}
	outcome, err := p.Outcome(at.Offset)
	if errors.Is(err, store.ErrNoOutcome) {
		return newProblem(http.StatusNotFound, "not-found", "%s was applied, but too long ago: what became of it is not kept", at)
	}
	if err != nil {
		return err
	}
	return s.showChange(w, r, outcome, groups)
}

// beyondLog reports whether the log certainly has no record at a position yet.
func (s *Server) beyondLog(r *http.Request, at store.Position) bool {
	if s.opts.LogEnd == nil {
		return false
	}
	ctx, cancel := contextWithin(r, logEndPatience)
	defer cancel()
	end, err := s.opts.LogEnd(ctx, at.Partition)
	return err == nil && at.Offset >= end
}

// logEndPatience is how long the log may take to say how far it goes; without its word, what is not applied is pending.
const logEndPatience = 2 * time.Second

// askAgain is how often a change that is known only by its ID is looked for while its client waits.
const askAgain = 50 * time.Millisecond

// changeByID looks through all partitions, as an ID does not tell which one. That it is found nowhere proves nothing.
func (s *Server) changeByID(w http.ResponseWriter, r *http.Request, id zones.ChangeID, partitions []int32, wait time.Duration, groups bool) error {
	_, others := s.divide(partitions)
	if s.relayed(r) && len(others) > 0 {
		return notHeld(others[0])
	}
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	ticker := time.NewTicker(askAgain)
	defer ticker.Stop()
	var unasked []int32
	for {
		for _, p := range s.opts.Reader.Partitions() {
			outcome, err := p.LookupID(id)
			if err == nil {
				return s.showChange(w, r, outcome, groups)
			}
			if !errors.Is(err, store.ErrNoOutcome) && !errors.Is(err, store.ErrClosed) {
				return err
			}
		}
		if len(others) > 0 {
			found, nobody := s.askForChange(r, id, others, groups)
			if found != nil {
				return writePeerAnswer(w, found)
			}
			unasked = nobody
			ticker.Reset(askPeersAgain)
		}
		select {
		case <-ticker.C:
			continue
		case <-deadline.C:
		case <-r.Context().Done():
		}
		if len(unasked) > 0 && s.opts.Peers != nil {
			p := unheld(unasked[0])
			p.Detail = fmt.Sprintf("the change %s is not remembered in the partitions that could be asked; no node of this region holds %s just now", id, partitionsText(unasked))
			return p
		}
		return newProblem(http.StatusNotFound, "not-found",
			"no change %s is remembered here: it was not made, or is not applied yet, or was too long ago", id)
	}
}

func (s *Server) waitFor(r *http.Request, at store.Position, wait time.Duration) (store.Outcome, error) {
	ctx, cancel := contextWithin(r, wait)
	defer cancel()
	return s.opts.Publisher.Wait(ctx, at, replication.ThisNode)
}

func (s *Server) showChange(w http.ResponseWriter, r *http.Request, outcome store.Outcome, groups bool) error {
	detail := changeDetail{}
	detail.take(outcome)
	detail.ID, detail.Position = outcome.Position.String(), outcome.Position.String()
	at := outcome.Time
	detail.Time = &at
	first := store.Position{Partition: outcome.Partition, Offset: outcome.First}
	_, entry, err := s.opts.Reader.HistoryAt(first)
	switch {
	case err == nil:
		shown := showHistory(entry)
		from := shown.From
		detail.Author, detail.Reason, detail.Action = shown.Author, shown.Reason, shown.Action
		detail.From, detail.Changes = &from, shown.Changes
	case !errors.Is(err, store.ErrNoOutcome):
		return err
	}
	return s.writeChange(w, r, detail, outcome.Position, groups)
}

// writeChange answers with a change, and with how far the groups are with it, if that is asked for.
func (s *Server) writeChange(w http.ResponseWriter, r *http.Request, detail changeDetail, at store.Position, groups bool) error {
	if groups {
		ctx, cancel := contextWithin(r, statusPatience)
		defer cancel()
		reached, err := s.opts.Groups.Reached(ctx, at)
		if err != nil {
			return fromLog(err)
		}
		detail.Groups = showReach(reached)
	}
	return writeJSON(w, http.StatusOK, detail)
}
