package secondary

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"balefire/replication/staging"
	"balefire/store"
	"balefire/zones"
)

// task is what is to be done for a zone.
type task struct {
	apex zones.Name
	anew bool       // fetch it whole, whatever its serial
	told netip.Addr // who told of a change, to be asked first
}

// result is what came of it.
type result struct {
	info     store.ZoneInfo // as it was last read; zero when it could not be
	timers   timers
	expires  time.Time
	answered bool         // a primary said what serial it has
	primary  zones.Serial // that serial
	transfer *Transfer    // what was published; nil for nothing
	soon     bool         // what was to be done was overtaken: look again
	err      error        // why it did not work
}

// look is a zone as it is hosted.
type look struct {
	info   store.ZoneInfo
	soa    zones.RRset // zero while it awaits its content
	timers timers
}

func (s *Secondary) look(apex zones.Name) (l look, err error) {
	z, err := s.opts.Zones.Open(apex)
	if err != nil {
		return l, err
	}
	defer z.Close()
	l.info = z.Info()
	if !l.info.Standing.Awaiting {
		if l.soa, _, err = z.RRset(apex, zones.Key{Type: zones.TypeSOA}); err != nil {
			return l, err
		}
	}
	l.timers = s.timing.of(l.soa)
	return l, nil
}

// expires is when the zone expires unless a primary answers; zero when it does not.
func (l look) expires() time.Time {
	if l.info.Standing.Confirmed.IsZero() || !l.info.Standing.Served() {
		return time.Time{}
	}
	return l.info.Standing.Confirmed.Add(l.timers.expire)
}

// refresh asks a zone's primaries, one after the other until one knows, and brings the zone to where that one is.
func (s *Secondary) refresh(ctx context.Context, t task) (r result) {
	l, err := s.look(t.apex)
	if err != nil {
		return result{timers: s.timing.of(zones.RRset{}), err: fmt.Errorf("read the zone: %w", err)}
	}
	var failed []error
	for _, p := range order(l.info.Settings.Primaries, t.told) {
		answer, err := s.askOne(ctx, t, l, p)
		r.answered = r.answered || answer.answered
		if answer.primary != 0 && (r.primary == 0 || answer.primary.IsAfter(r.primary)) {
			r.primary = answer.primary
		}
		if err == nil {
			r.transfer, r.soon = answer.transfer, answer.soon
			failed = nil
			break
		}
		failed = append(failed, fmt.Errorf("%s: %w", p.Addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	if r.err = inOneLine(failed); r.err != nil && ctx.Err() == nil {
		s.expire(ctx, l)
	}
	if r.err == nil && len(l.info.Settings.Primaries) == 0 {
		r.err = store.ErrNoZone // it became another kind of zone meanwhile
	}
	// As it is now, whoever changed it.
	if now, err := s.look(t.apex); err == nil {
		l = now
	}
	r.info, r.timers, r.expires = l.info, l.timers, l.expires()
	return r
}

// inOneLine joins errors; nil when there are none.
func inOneLine(all []error) (err error) {
	for _, next := range all {
		if err == nil {
			err = next
		} else {
			err = fmt.Errorf("%w; %w", err, next)
		}
	}
	return err
}

// order returns primaries in the order in which they are asked: the one that told of a change first (RFC 1996 §3.11).
func order(all []zones.Remote, told netip.Addr) []zones.Remote {
	if !told.IsValid() {
		return all
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b zones.Remote) int {
		first := func(p zones.Remote) int {
			if p.Addr.Addr().Unmap() == told {
				return 0
			}
			return 1
		}
		return first(a) - first(b)
	})
	return sorted
}

// Errors of primaries.
var (
	errAway   = errors.New("the primary did not answer a moment ago")
	errBehind = errors.New("the primary's serial is behind ours")
)

// asked is what one primary did for a zone.
type asked struct {
	answered bool
	primary  zones.Serial
	transfer *Transfer
	soon     bool
}

// askOne asks one primary for its serial, and fetches the zone from it when that is newer.
func (s *Secondary) askOne(ctx context.Context, t task, l look, p zones.Remote) (a asked, err error) {
	if err := s.opts.Check(p); err != nil {
		return a, err
	}
	s.mu.Lock()
	away := s.isAway(p.Addr, time.Now())
	s.mu.Unlock()
	if away {
		return a, errAway
	}
	soa, err := s.client.SOA(ctx, p, t.apex)
	if ctx.Err() != nil {
		return a, ctx.Err()
	}
	s.mu.Lock()
	s.heard(p.Addr, !isAbsence(err), time.Now())
	s.mu.Unlock()
	if err != nil {
		return a, err
	}
	serial := soa.SOASerial()
	a.answered, a.primary = true, serial
	newer := t.anew || !l.info.Standing.Served() && serial != l.info.Serial || l.info.Standing.Awaiting || serial.IsAfter(l.info.Serial)
	switch {
	case !newer && serial != l.info.Serial:
		return a, fmt.Errorf("%w: %d, and ours is %d", errBehind, serial, l.info.Serial)
	case !newer:
		return a, s.confirm(ctx, l)
	case l.info.Settings.Frozen:
		if err := s.confirm(ctx, l); err != nil {
			return a, err
		}
		return a, fmt.Errorf("the zone is frozen: serial %d waits until it is thawed", serial)
	}
	moved, err := s.yield(ctx, l, serial)
	if err != nil || moved {
		a.soon = moved && t.anew
		return a, err
	}
	select {
	case s.transfers <- struct{}{}:
		defer func() { <-s.transfers }()
	case <-ctx.Done():
		return a, ctx.Err()
	}
	a.transfer, a.soon, err = s.fetch(ctx, t, l, p)
	return a, err
}

// isAbsence reports whether an error means that nobody is there.
func isAbsence(err error) bool {
	var op *net.OpError
	return errors.Is(err, errSilent) || errors.As(err, &op) || isTimeout(err)
}

// What regions wait for each other, for each that goes before: the time in which a change set, or a staged zone, comes to the others.
const (
	yieldOnce   = 300 * time.Millisecond
	yieldStaged = 5 * time.Second
)

// yield lets the regions transfer that go before this one, and reports whether one has.
func (s *Secondary) yield(ctx context.Context, l look, serial zones.Serial) (moved bool, err error) {
	rank := s.opts.Duty.Rank(l.info.Apex)
	if rank == 0 {
		return false, nil
	}
	wait := time.Duration(rank) * yieldOnce
	if l.info.Standing.Awaiting || l.info.Octets > staging.InlineMax {
		wait = time.Duration(rank) * yieldStaged
	}
	if err := sleep(ctx, wait); err != nil {
		return false, err
	}
	now, err := s.look(l.info.Apex)
	if err != nil {
		return false, err
	}
	return now.info.Changed != l.info.Changed && (now.info.Serial == serial || now.info.Serial.IsAfter(serial)), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// confirm says in the log that the zone is as its primary has it, when it is time to. Regions that don't go first leave that to others for longer.
func (s *Secondary) confirm(ctx context.Context, l look) error {
	st := l.info.Standing
	if st.Awaiting {
		return nil
	}
	each := l.timers.confirmEach()
	each += each / 2 * time.Duration(min(s.opts.Duty.Rank(l.info.Apex), 2))
	if !st.Expired && time.Since(st.Confirmed) < each {
		return nil
	}
	return s.setStanding(ctx, l, false)
}

// expire says in the log that the zone has expired, when its time has come. When another region has confirmed it meanwhile, it has not.
func (s *Secondary) expire(ctx context.Context, l look) {
	at := l.expires()
	if at.IsZero() || time.Now().Before(at) {
		return
	}
	if err := s.setStanding(ctx, l, true); err != nil {
		s.logger.Warn().Err(err).Str("zone", l.info.Apex.String()).Msg("expired zone not marked as such")
		return
	}
	s.logger.Warn().Str("zone", l.info.Apex.String()).Time("confirmed", l.info.Standing.Confirmed).Msg("secondary zone has expired")
}

func (s *Secondary) setStanding(ctx context.Context, l look, expired bool) error {
	cs := s.changeSet(l.info.Apex, zones.SourcePrimary, "as its primary has it")
	if expired {
		cs.Reason = "its primaries have been silent for too long"
	}
	cs.ID = staging.NewID()
	cs.Ops = []zones.Op{zones.OpSetStanding{Expired: expired, Since: l.info.Standing.Confirmed}}
	_, err := s.publish(ctx, cs)
	var rej *zones.Rejection
	if errors.As(err, &rej) && rej.Rule == zones.RulePrecondition {
		return nil // somebody else did
	}
	return err
}
