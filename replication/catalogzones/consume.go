package catalogzones

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/catalog"
)

// maxMembers bounds the zones that a catalog may have hosted here: whoever writes it decides what is on our disks.
const maxMembers = 1_000_000

// atOnce is how many zones are created, deleted and so on at the same time.
const atOnce = 64

// hosted are the zones that a catalog is held against.
type hosted map[zones.Name]zones.ZoneSettings

func (h hosted) Settings(zone zones.Name) (zones.ZoneSettings, bool) {
	s, ok := h[zone]
	return s, ok
}

func (h hosted) Members(catalog zones.Name) (all []zones.Name) {
	for zone, s := range h {
		if s.Member.Catalog == catalog {
			all = append(all, zone)
		}
	}
	return all
}

// hosted lists those zones that say that they are of a catalog, and those that this lists; c may be nil.
func (k *Keeper) hosted(ctx context.Context, apex zones.Name, c *catalog.Catalog, fresh bool) (hosted, error) {
	have := make(hosted)
	for partition := range k.opts.Source.Partitions() {
		err := k.opts.Source.EachZone(ctx, partition, fresh, func(z Zone) {
			listed := false
			if c != nil {
				_, listed = c.Member(z.Apex)
			}
			if listed || z.Settings.Member.Catalog == apex {
				have[z.Apex] = z.Settings
			}
		})
		if err != nil {
			return nil, fmt.Errorf("zones of partition %d can't be listed: %w", partition, err)
		}
	}
	return have, nil
}

// Reasons for which a catalog is not acted upon, beside *catalog.Broken.
var (
	errAwaiting = errors.New("nothing has come from its primaries yet")
	errExpired  = errors.New("its primaries have been silent for too long: its members stay as they are")
	errMembers  = fmt.Errorf("it has more than %d members", maxMembers)
)

// read reads a consumed catalog's zone.
func read(content Content) (*catalog.Catalog, error) {
	switch {
	case content.Info.Standing.Awaiting:
		return nil, errAwaiting
	case content.Info.Standing.Expired:
		return nil, errExpired
	}
	c, err := catalog.Parse(content.Info.Apex, slices.Values(content.RRsets))
	if err == nil && c.Len() > maxMembers {
		err = errMembers
	}
	return c, err
}

// consume makes what is hosted what a catalog says. What takes something away is decided by the newest there is of the catalog, since what is hosted may be
// of a later one than this node has: it is read after what is hosted was listed, so that it is not older than that.
func (k *Keeper) consume(ctx context.Context, content Content) (did work, err error) {
	c, err := read(content)
	if err != nil {
		did.found = unusable(err)
		return did, nil
	}
	have, err := k.hosted(ctx, content.Info.Apex, c, false)
	if err != nil {
		return did, err
	}
	steps := catalog.Decide(c, content.Info.Settings.Primaries, have)
	if slices.ContainsFunc(steps, func(s catalog.Step) bool { return s.Action != catalog.Create && s.Action != catalog.Clash }) {
		if err := k.opts.Source.CatchUp(ctx, content.Info.Changed.Partition); err != nil {
			return did, fmt.Errorf("whether the catalog is still so is not known: %w", err)
		}
		if content, err = k.opts.Source.Content(ctx, content.Info.Apex); err != nil {
			return did, err
		}
		if content.Info.Settings.Catalog.Role != zones.CatalogConsumed {
			did.soon = true
			return did, nil
		}
		if c, err = read(content); err != nil {
			did.found = unusable(err)
			return did, nil
		}
		// What the newer one lists besides looks as if it were not hosted; if it is, it is not created again, and decided anew.
		steps = catalog.Decide(c, content.Info.Settings.Primaries, have)
	}
	var todo []catalog.Step
	var clash catalog.Step
	for _, s := range steps {
		if s.Action == catalog.Clash {
			if did.found.clashes++; did.found.clashes == 1 {
				clash = s
			}
			continue
		}
		todo = append(todo, s)
	}
	if n := did.found.clashes; n > 0 {
		did.found.problem = fmt.Sprintf("%d zones that it lists are not its own, among them %s, which %s", n, clash.Zone, owner(clash.Before))
	}
	did.decided = time.Now()
	err = k.perform(ctx, content.Info, todo, &did)
	return did, err
}

// unusable is what is found of a catalog that can't be acted upon.
func unusable(err error) finding {
	f := finding{problem: err.Error(), broken: !errors.Is(err, errAwaiting) && !errors.Is(err, errExpired)}
	if errors.Is(err, errAwaiting) {
		f.problem = "" // as it is to be, in the beginning
	}
	return f
}

// owner says, for people, whose a zone is.
func owner(m zones.Membership) string {
	if m.Catalog == "" {
		return "was made otherwise"
	}
	return "is of catalog " + m.Catalog.String()
}

// end deletes the members of a catalog, or lets them go, and then the catalog.
func (k *Keeper) end(ctx context.Context, content Content) (did work, err error) {
	role := content.Info.Settings.Catalog.Role
	have, err := k.hosted(ctx, content.Info.Apex, nil, true)
	if err != nil {
		return did, err
	}
	var todo []catalog.Step
	for zone, s := range have {
		step := catalog.Step{Action: catalog.Delete, Zone: zone, Before: s.Member}
		if role == zones.CatalogReleased {
			step.Action, step.Want = catalog.Update, s
			step.Want.Member, step.Want.NewOwner = zones.Membership{}, ""
		}
		todo = append(todo, step)
	}
	did.decided = time.Now()
	if len(todo) > 0 {
		did.soon = true // and then it is seen whether all are gone
		err = k.perform(ctx, content.Info, todo, &did)
		return did, err
	}
	cs := &zones.ChangeSet{
		ID: newID(), Zone: content.Info.Apex, Author: author, Reason: "nothing is left of the catalog",
		Preconditions: []zones.Precondition{zones.IfSerial{Serial: content.Info.Serial}}, Ops: []zones.Op{zones.OpDeleteZone{}},
	}
	err = k.publish(ctx, cs, &did)
	return did, err
}

// perform does what was decided. The error is the first, after all was tried.
func (k *Keeper) perform(ctx context.Context, c store.ZoneInfo, steps []catalog.Step, did *work) error {
	var mu sync.Mutex
	var failed error
	var workers sync.WaitGroup
	todo := make(chan catalog.Step)
	for range min(atOnce, len(steps)) {
		workers.Go(func() {
			for s := range todo {
				var one work
				err := k.step(ctx, c.Apex, s, &one)
				mu.Lock()
				did.done += one.done
				did.soon = did.soon || one.soon
				if err != nil && failed == nil {
					failed = fmt.Errorf("%s %s: %w", s.Action, s.Zone, err)
				}
				mu.Unlock()
			}
		})
	}
	for _, s := range steps {
		if ctx.Err() != nil || !k.opts.Source.OnDuty(c.Changed.Partition) {
			break
		}
		todo <- s
	}
	close(todo)
	workers.Wait()
	return failed
}

// step does one thing that was decided.
func (k *Keeper) step(ctx context.Context, apex zones.Name, s catalog.Step, did *work) error {
	begin := func(reason string, op zones.Op, conditions ...zones.Precondition) *zones.ChangeSet {
		return &zones.ChangeSet{
			ID: newID(), Zone: s.Zone, Author: author, Reason: reason + " catalog " + apex.String(), Preconditions: conditions, Ops: []zones.Op{op},
		}
	}
	still := zones.IfMember{Member: s.Before}
	remove := begin("no longer as it was in", zones.OpDeleteZone{}, still)
	create := begin("listed in", zones.OpCreateZone{Settings: s.Want}, zones.IfZoneAbsent{})
	var all []*zones.ChangeSet
	switch {
	case s.Action == catalog.Create:
		all = append(all, create)
	case s.Action == catalog.Delete:
		all = append(all, remove)
	case s.Action == catalog.Recreate, s.Action == catalog.TakeOver && s.Reset:
		all = append(all, remove, create)
	default:
		want := zones.ZoneSettings{}.With(catalog.MemberParts, s.Want)
		all = append(all, begin("as it is in", zones.OpSetSettings{Parts: catalog.MemberParts, Settings: want}, still))
	}
	for _, cs := range all {
		before := did.done
		if err := k.publish(ctx, cs, did); err != nil {
			return err
		}
		if did.done == before {
			return nil // it was not as it seemed: the rest is decided anew
		}
	}
	k.metrics.did(s.Action.String(), 1)
	return nil
}

// publish publishes a change set, and says what came of it.
func (k *Keeper) publish(ctx context.Context, cs *zones.ChangeSet, did *work) error {
	at, err := k.opts.Source.Publish(ctx, cs)
	if err != nil {
		return err
	}
	outcome, err := k.opts.Source.Applied(ctx, at)
	switch {
	case errors.Is(err, ErrElsewhere):
		did.done++
		did.soon = true // and then it is seen what came of it
		return nil
	case err != nil:
		return err
	case outcome.Rejection == nil:
		did.done++
		return nil
	}
	switch outcome.Rejection.Rule {
	case zones.RulePrecondition, zones.RuleNoZone, zones.RuleZoneExists: // it has changed meanwhile
		did.soon = true
		return nil
	}
	return fmt.Errorf("rejected: %w", outcome.Rejection)
}
