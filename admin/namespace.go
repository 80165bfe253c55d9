package admin

import (
	"context"
	"errors"
	"net/http"

	"balefire/replication/mutationlog"
)

// Freezer is how a namespace that is being moved is told to take no more changes, on all its nodes. *mutationlog.Log
// satisfies it.
type Freezer interface {
	// Freeze is repeatable. An error marked mutationlog.ErrFrozen means that the namespace goes elsewhere already.
	Freeze(ctx context.Context, to, reason string) error
	Thaw(ctx context.Context) error
}

// maxFreezeText bounds where a namespace goes, and why, in octets each: both are in the refusal of every change.
const maxFreezeText = 500

// freezer returns what freezes the namespace, or the problem that nothing does.
func (s *Server) freezer() (Freezer, error) {
	if s.opts.Freezer == nil {
		return nil, notKnown("this server can't freeze its namespace")
	}
	return s.opts.Freezer, nil
}

// postFreeze makes all nodes of the namespace refuse changes, each as soon as it has read of it: what is published
// meanwhile is in the log like any other change.
func (s *Server) postFreeze(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	namespace, err := s.freezer()
	if err != nil {
		return err
	}
	body, err := readJSON(w, r, s.opts.Limits.Body)
	if err != nil {
		return err
	}
	f := &form{}
	o := f.object(body)
	v, ok := o.required("to")
	to, ok := o.text(v, ok)
	if ok && (to == "" || len(to) > maxFreezeText) {
		o.add(v.at, "%d octets; want 1 to %d", len(to), maxFreezeText)
	}
	why := o.reason(maxFreezeText)
	o.end()
	if err := f.err(); err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
	defer cancel()
	err = namespace.Freeze(ctx, to, why)
	if errors.Is(err, mutationlog.ErrFrozen) {
		return newProblem(http.StatusConflict, "rejected", "%v", err)
	}
	if err != nil {
		return fromLog(err)
	}
	s.log.Warn().Str("to", to).Str("reason", why).Msg("the namespace takes no more changes")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// deleteFreeze makes the namespace take changes again.
func (s *Server) deleteFreeze(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	namespace, err := s.freezer()
	if err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
	defer cancel()
	if err := namespace.Thaw(ctx); err != nil {
		return fromLog(err)
	}
	s.log.Warn().Msg("the namespace takes changes again")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
