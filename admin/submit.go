package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
)

// changed is what a write came to. ID is its position: what /v1/changes knows it by.
type changed struct {
	ID       string  `json:"id,omitempty"`
	ChangeID string  `json:"change_id,omitempty"`
	Status   string  `json:"status"`
	Zone     string  `json:"zone,omitempty"`
	Serial   *uint32 `json:"serial,omitempty"`
	Position string  `json:"position,omitempty"`
	// Duplicate says that this is the result of an earlier request with the same Idempotency-Key.
	Duplicate bool    `json:"duplicate,omitempty"`
	Error     *reason `json:"error,omitempty"`
	// Missing are the groups that were waited for, and did not have it in time.
	Missing []reachView `json:"missing,omitempty"`
}

// reason is why a change was rejected.
type reason struct {
	Rule   string `json:"rule"`
	Owner  string `json:"owner,omitempty"`
	Type   string `json:"type,omitempty"`
	Detail string `json:"detail,omitempty"`
}

const (
	statusApplied  = "applied"
	statusRejected = "rejected"
	statusPending  = "pending"
)

// submission is a change set on its way.
type submission struct {
	cs   *zones.ChangeSet
	wait waiting
	// preconditions is how many of the change set's the client wrote in the body; the others come from headers.
	preconditions int
	// place names the field of an operation; nil when the body has no operations.
	place func(op int) string
}

// changeSet begins a change set as the demands say. Preconditions of the body come before those of the header.
func (s *Server) changeSet(apex zones.Name, d demands, body ...zones.Precondition) *zones.ChangeSet {
	return &zones.ChangeSet{
		ID: d.id, Zone: apex, Author: d.author, Reason: d.reason, Keep: d.keep,
		Preconditions: append(body, d.match...),
	}
}

// submit checks and publishes a change set, waits for its outcome, and says what it came to. A rejection is an error.
func (s *Server) submit(ctx context.Context, sub submission) (changed, error) {
	if rej := change.Check(sub.cs); rej != nil {
		return changed{}, sub.explain(rejected(rej, nil), rej)
	}
	position, err := s.publish(ctx, sub.cs)
	if err != nil {
		return changed{}, err
	}
	return s.await(ctx, sub, position)
}

// publish appends a change set to the log. Once begun it goes on when the client leaves, as its outcome would be
// unknown; it ends by its own time limit.
func (s *Server) publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Limits.PublishTimeout)
	defer cancel()
	position, err := s.opts.Publisher.Publish(ctx, cs)
	if err != nil {
		s.metrics.change("unpublished")
		return position, unpublished(err, cs.ID)
	}
	return position, nil
}

// await waits for the outcome of a published change set.
func (s *Server) await(ctx context.Context, sub submission, position store.Position) (changed, error) {
	got := changed{
		ID: position.String(), Position: position.String(), ChangeID: sub.cs.ID.String(),
		Status: statusPending, Zone: sub.cs.Zone.String(),
	}
	if sub.wait.time <= 0 {
		s.metrics.change(statusPending)
		return got, nil
	}
	ctx, cancel := context.WithTimeout(ctx, sub.wait.time)
	defer cancel()
	outcome, err := s.opts.Publisher.Wait(ctx, position, sub.wait.scope)
	var missing *replication.MissingError
	switch {
	case err == nil:
	case errors.As(err, &missing):
		got.Missing = showReach(missing.Missing)
		if outcome.Position != position || outcome.Status == 0 {
			s.metrics.change(statusPending)
			return got, nil
		}
	case errors.Is(err, replication.ErrHalted):
		p := newProblem(http.StatusServiceUnavailable, "unavailable",
			"the change is in the log at %s, but this node does not apply it: %v", position, err)
		p.ID, p.ChangeID, p.cause = position.String(), sub.cs.ID.String(), err
		return changed{}, p
	default:
		// It is in the log, and will be applied; this request won't see it.
		s.metrics.change(statusPending)
		return got, nil
	}
	if outcome.ID != sub.cs.ID {
		// This node's copy has another record at that position: its log is not the one that the copy was made from.
		p := newProblem(http.StatusGatewayTimeout, "outcome-unknown", "another change is at %s on this node: its log has lost some", position)
		p.ID, p.ChangeID = position.String(), sub.cs.ID.String()
		return changed{}, p
	}
	s.metrics.change(outcome.Status.String())
	got.take(outcome)
	if outcome.Status == store.StatusRejected {
		return changed{}, sub.explain(rejected(outcome.Rejection, &outcome.Position), outcome.Rejection)
	}
	return got, nil
}

// take fills in an outcome. Of a change set that came again, it is that of the first one.
func (c *changed) take(o store.Outcome) {
	first := store.Position{Partition: o.Partition, Offset: o.First}
	if !o.Duplicate {
		first = o.Position
	}
	serial := uint32(o.Serial)
	c.ID, c.Position, c.Status, c.Duplicate = first.String(), first.String(), o.Status.String(), o.Duplicate
	c.Serial = &serial
	if o.ID != (zones.ChangeID{}) {
		c.ChangeID = o.ID.String()
	}
	if o.Zone != "" {
		c.Zone = o.Zone.String()
	}
	if o.Rejection != nil {
		c.Error = &reason{Rule: string(o.Rejection.Rule), Owner: o.Rejection.Owner.String(), Detail: o.Rejection.Detail}
		if o.Rejection.Type != 0 {
			c.Error.Type = o.Rejection.Type.String()
		}
	}
}

// explain names the field that a rejection is about, where there is one.
func (sub submission) explain(p *problem, rej *zones.Rejection) *problem {
	p.ChangeID = sub.cs.ID.String()
	detail := rej.Detail
	if detail == "" {
		detail = string(rej.Rule)
	}
	switch {
	case rej.Op < 0:
	case rej.Rule == zones.RulePrecondition || rej.Rule == zones.RuleBadCondition:
		field := fmt.Sprintf("/preconditions/%d", rej.Op)
		if rej.Op >= sub.preconditions {
			field = "If-Match"
			if rej.Op < len(sub.cs.Preconditions) {
				switch sub.cs.Preconditions[rej.Op].(type) {
				case zones.IfZoneAbsent, zones.IfRRsetAbsent:
					field = "If-None-Match"
				}
			}
		}
		p.Errors = []mistake{{field, detail}}
	case sub.place != nil:
		p.Errors = []mistake{{sub.place(rej.Op), detail}}
	}
	return p
}

// answer writes what a change came to: 202 while it is pending or somebody lacks it, otherwise the given status.
func answer(w http.ResponseWriter, status int, got changed) error {
	h := w.Header()
	if got.Status == statusPending || len(got.Missing) > 0 {
		h.Set("Location", "/v1/changes/"+got.ID)
		return writeJSON(w, http.StatusAccepted, got)
	}
	if got.Serial != nil && *got.Serial != 0 {
		h.Set("ETag", tag(zones.Serial(*got.Serial)))
	}
	return writeJSON(w, status, got)
}
