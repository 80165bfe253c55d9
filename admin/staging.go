package admin

import (
	"context"
	"errors"
	"net/http"

	"balefire/replication"
	"balefire/replication/staging"
	"balefire/store"
	"balefire/zones"
)

// publish sends the zone, whole, and waits for what becomes of it.
func (j *importJob) publish(ctx context.Context) (changed, error) {
	stage := staging.Stage{
		ID: j.stageID(), Publisher: stagePublisher{j.s},
		New: func() *zones.ChangeSet { return j.s.changeSet(j.apex, j.demands) },
	}
	op, err := stage.Op(ctx, j.content, j.plainSets(), zones.ZoneSettings{SerialPolicy: j.policy}, j.setPolicy)
	if err != nil {
		j.abort(ctx, &stage)
		var rej *staging.RejectedError
		if errors.As(err, &rej) {
			return changed{}, rejected(rej.Reason, rej.Position)
		}
		return changed{}, err
	}
	cs := j.s.changeSet(j.apex, j.demands)
	cs.Ops = []zones.Op{op}
	got, err := j.s.submit(ctx, submission{cs: cs, wait: j.wait})
	var p *problem
	if errors.As(err, &p) && p.Rule != "" && p.Rule != string(zones.RuleDuplicate) {
		j.abort(ctx, &stage) // for certain it did not switch
	}
	return got, err
}

func (j *importJob) abort(ctx context.Context, stage *staging.Stage) {
	if err := stage.Abort(ctx); err != nil {
		j.s.log.Debug().Err(err).Str("zone", j.apex.String()).Msg("staged zone not given up")
	}
}

// stageID is random, or derived from the client's key, so that a repeated request stages the same again.
func (j *importJob) stageID() zones.ChangeID {
	if j.keep == 0 {
		return staging.NewID()
	}
	return staging.DerivedID(j.id, "stage", 0)
}

// stagePublisher publishes the parts of zones. Its errors are problems which say that nothing was changed.
type stagePublisher struct{ s *Server }

func (p stagePublisher) Publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
	position, err := p.s.publish(ctx, cs)
	var unknown *problem
	if errors.As(err, &unknown) && unknown.Status == http.StatusGatewayTimeout {
		again := newProblem(http.StatusServiceUnavailable, "log-unavailable", "nothing was changed: the log does not acknowledge the zone's parts")
		again.retryAfter, again.cause = 5, unknown.cause
		return position, again
	}
	return position, err
}

func (p stagePublisher) Applied(ctx context.Context, position store.Position) (store.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, p.s.opts.Limits.MaxWait)
	defer cancel()
	outcome, err := p.s.opts.Publisher.Wait(ctx, position, replication.ThisNode)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, replication.ErrHalted) {
		late := newProblem(http.StatusServiceUnavailable, "unavailable", "nothing was changed: this node does not apply the zone's parts: %v", err)
		late.retryAfter, late.cause = 10, err
		return outcome, late
	}
	return outcome, err
}
