package secondary

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"balefire/replication/staging"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

// maxRecordsOfRRset is how many records an RRset can have that fits a message.
const maxRecordsOfRRset = change.MaxRRsetInReply / 12

// outcomePatience is how long a published change set may take to be applied here.
const outcomePatience = 30 * time.Second

// fetch transfers the zone from a primary and publishes it: what has changed, when that is of use, and else all of it. soon says that somebody
// else changed the zone meanwhile, so that nothing was published.
func (s *Secondary) fetch(ctx context.Context, t task, l look, p zones.Remote) (done *Transfer, soon bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.client.Limits.withDefaults().Transfer)
	defer cancel()
	began := time.Now()
	got := &Transfer{From: p, Before: l.info.Serial}
	f := fetching{s: s, t: t, l: l, p: p, got: got}
	differences := !t.anew && l.info.Standing.Served() && !l.soa.IsZero()
	err = f.run(ctx, differences)
	if differences && err != nil && ctx.Err() == nil && !isAbsence(err) && !overtaken(err) {
		// Whatever was wrong with the differences, the whole zone may be right.
		s.logger.Info().Err(err).Str("zone", t.apex.String()).Str("primary", p.Addr.String()).Msg("no differences: the zone is fetched whole")
		if again := f.run(ctx, false); again != nil {
			err = inOneLine([]error{again, err})
		} else {
			err = nil
		}
	}
	switch {
	case overtaken(err):
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case !f.published:
		return nil, false, nil
	}
	got.At, got.Duration = time.Now(), time.Since(began)
	s.logger.Info().Str("zone", t.apex.String()).Str("primary", p.Addr.String()).Stringer("form", got.Form).
		Uint32("from", uint32(got.Before)).Uint32("serial", uint32(got.Serial)).Int64("records", got.Records).Int64("octets", got.Octets).
		Dur("took", got.Duration).Msg("zone transferred")
	return got, false, nil
}

// overtaken reports whether a change set was rejected because the zone had changed.
func overtaken(err error) bool {
	var rej *zones.Rejection
	return errors.As(err, &rej) && (rej.Rule == zones.RulePrecondition || rej.Rule == zones.RuleStage)
}

// fetching is one zone on its way from one primary into the log.
type fetching struct {
	s         *Secondary
	t         task
	l         look
	p         zones.Remote
	got       *Transfer
	published bool
}

func (f *fetching) run(ctx context.Context, differences bool) error {
	conn, err := f.s.client.connect(ctx, f.p)
	if err != nil {
		return err
	}
	defer conn.close()
	have := zones.RRset{}
	if differences {
		have = f.l.soa
	}
	sorter := staging.NewSorter(f.t.apex, f.s.opts.TempDir, f.s.opts.Memory)
	defer sorter.Close()
	answer, err := conn.transfer(f.t.apex, have, func(r zonefile.Record) error { return sorter.Add(r) })
	if err != nil {
		return err
	}
	conn.close() // what comes next is none of its business
	f.got.Form, f.got.Records, f.got.Octets, f.got.Messages = answer.form, answer.records, answer.octets, answer.messages
	switch answer.form {
	case Differences:
		return f.differences(ctx, answer)
	case Whole:
		return f.whole(ctx, sorter)
	}
	if serial := serialOf(answer.soa); serial != f.l.info.Serial {
		return fmt.Errorf("%w: %d, and ours is %d", errBehind, serial, f.l.info.Serial)
	}
	return nil
}

// changeSet begins a change set that says where it comes from. Its ID is set by who publishes it.
func (s *Secondary) changeSet(apex zones.Name, source zones.Source, reason string) *zones.ChangeSet {
	return &zones.ChangeSet{Zone: apex, Source: source, Author: "secondary at " + s.opts.Node, Reason: reason}
}

// begin begins a change set of what was fetched.
func (f *fetching) begin() *zones.ChangeSet {
	source := zones.SourcePrimary
	if f.t.anew {
		source = zones.SourceRetransfer
	}
	cs := f.s.changeSet(f.t.apex, source, fmt.Sprintf("%s from %s", f.got.Form, f.p.Addr))
	cs.Preconditions = []zones.Precondition{zones.IfSerial{Serial: f.l.info.Serial}}
	return cs
}

// whole publishes a zone that came whole.
func (f *fetching) whole(ctx context.Context, sorter *staging.Sorter) error {
	sets := sorter.Sets(maxRecordsOfRRset)
	return f.zone(ctx, sets, func(zonemd, soa zones.RRset) error {
		return checkZONEMD(f.t.apex, zonemd, soa, staging.RRsets(sets), staging.RRsets(sets))
	})
}

// zone publishes a whole zone. check is asked about its digest, if it has one; nil when that was done.
func (f *fetching) zone(ctx context.Context, sets iter.Seq2[staging.Set, error], check func(zonemd, soa zones.RRset) error) error {
	cs := f.begin()
	var zonemd zones.RRset
	content, err := staging.Validate(ctx, change.NewSequenceFrom(f.t.apex, cs.Source), sets, func(set staging.Set) error {
		if set.Type == zones.TypeZONEMD && set.Owner == f.t.apex {
			zonemd = set.RRset
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !zonemd.IsZero() && check != nil {
		if err := check(zonemd, content.SOA); err != nil {
			return err
		}
	}
	serial := content.Zone.Serial
	if f.l.info.Standing.Served() && !f.t.anew && !serial.IsAfter(f.l.info.Serial) {
		return fmt.Errorf("%w: %d, and ours is %d", errBehind, serial, f.l.info.Serial)
	}
	stage := staging.Stage{ID: staging.NewID(), Publisher: f.s.opts.Publisher, New: f.begin}
	f.got.Staged = !content.Fits()
	op, err := stage.Op(ctx, content, staging.RRsets(sets), zones.ZoneSettings{}, false)
	if err == nil {
		cs.ID, cs.Ops = staging.NewID(), []zones.Op{op}
		_, err = f.s.publish(ctx, cs)
	}
	var rej *zones.Rejection
	if err != nil && (errors.As(err, &rej) || f.got.Staged) {
		f.s.abort(ctx, &stage, f.t.apex)
	}
	if err != nil {
		return err
	}
	f.published, f.got.Serial = true, serial
	return nil
}

func (s *Secondary) abort(ctx context.Context, stage *staging.Stage, apex zones.Name) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomePatience)
	defer cancel()
	if err := stage.Abort(ctx); err != nil {
		s.logger.Debug().Err(err).Str("zone", apex.String()).Msg("staged zone not given up")
	}
}

// differences publishes what has changed: as one change set, or when that is more than one takes, as the whole zone that it makes.
func (f *fetching) differences(ctx context.Context, answer transferred) error {
	zone, err := f.s.opts.Zones.Open(f.t.apex)
	if err != nil {
		return err
	}
	defer zone.Close()
	if info := zone.Info(); info.Serial != f.l.info.Serial || info.Generation != f.l.info.Generation {
		return &zones.Rejection{Rule: zones.RulePrecondition, Owner: f.t.apex, Op: -1, Detail: "the zone has changed meanwhile"}
	}
	p, err := newPatch(zone, f.l.soa, answer.steps, answer.soa)
	if err != nil {
		return err
	}
	changes := p.changes()
	zonemd, err := p.at(place{f.t.apex, zones.Key{Type: zones.TypeZONEMD}})
	if err != nil {
		return err
	}
	if !zonemd.after.IsZero() {
		if err := f.checkPatched(ctx, zone, zonemd.after, changes); err != nil {
			return err
		}
	}
	if ops, fits := operations(changes); fits {
		cs := f.begin()
		cs.ID, cs.Ops = staging.NewID(), ops
		_, err := f.s.publish(ctx, cs)
		var rej *zones.Rejection
		if !errors.As(err, &rej) || rej.Rule != zones.RuleTooLarge {
			if err == nil {
				f.published, f.got.Serial = true, serialOf(answer.soa)
			}
			return err
		}
	}
	return f.zone(ctx, placeless(merged(zone.All(ctx), changes)), nil)
}

// placeless yields RRsets as those of which nobody asks where they were.
func placeless(all sequence) iter.Seq2[staging.Set, error] {
	return func(yield func(staging.Set, error) bool) {
		for set, err := range all {
			if !yield(staging.Set{RRset: set}, err) {
				return
			}
		}
	}
}

// checkPatched compares the zone as it will be with its digest.
func (f *fetching) checkPatched(ctx context.Context, zone Zone, zonemd zones.RRset, changes []passage) error {
	again, err := f.s.opts.Zones.Open(f.t.apex) // to be gone through beside the other
	if err != nil {
		return err
	}
	defer again.Close()
	if again.Info().Changed != zone.Info().Changed {
		return &zones.Rejection{Rule: zones.RulePrecondition, Owner: f.t.apex, Op: -1, Detail: "the zone has changed meanwhile"}
	}
	soa := zones.RRset{}
	for _, c := range changes {
		if c.after.Type == zones.TypeSOA {
			soa = c.after
		}
	}
	return checkZONEMD(f.t.apex, zonemd, soa, merged(zone.All(ctx), changes), merged(again.All(ctx), changes))
}

// publish publishes a change set and waits for what becomes of it. A rejection is an error.
func (s *Secondary) publish(ctx context.Context, cs *zones.ChangeSet) (store.Outcome, error) {
	if rej := change.Check(cs); rej != nil {
		return store.Outcome{}, rej
	}
	ctx, cancel := context.WithTimeout(ctx, outcomePatience)
	defer cancel()
	position, err := s.opts.Publisher.Publish(ctx, cs)
	if err != nil {
		return store.Outcome{}, fmt.Errorf("publish: %w", err)
	}
	outcome, err := s.opts.Publisher.Applied(ctx, position)
	switch {
	case err != nil:
		return outcome, fmt.Errorf("wait for the outcome: %w", err)
	case outcome.Rejection != nil:
		return outcome, outcome.Rejection
	}
	return outcome, nil
}
