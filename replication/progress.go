package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"balefire/replication/assignment"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
)

// How far a replica group is, its nodes commit to the log, for everyone to read: each the partitions that it has been given,
// the offset that it reads next, and when. Nothing is ever read from there to go on with: a copy's offset is in the copy.

const (
	// commitPause is how long commits are apart while records keep coming; the first after a pause goes at once.
	commitPause = 200 * time.Millisecond
	// commitDaily is how often everything is committed again: brokers forget after seven days.
	commitDaily = 12 * time.Hour
	// commitTick is how often it is looked whether something was not committed.
	commitTick = time.Second
	commitWait = 5 * time.Second
	// Groups that are waited for are asked again after firstPoll, then ever more rarely, up to lastPoll.
	firstPoll = 10 * time.Millisecond
	lastPoll  = 250 * time.Millisecond
)

// commit tells the log how far this node is, for as long as it runs.
func (n *Node) commit() {
	committed := make(map[int32]int64)
	var catalog int64
	var all time.Time // when everything was committed last
	failing := false
	tick := time.NewTicker(commitTick)
	defer tick.Stop()
	for {
		select {
		case <-n.cameFurther:
		case <-tick.C: // what could not be committed before, as the group was being put together
		case <-n.ctx.Done():
			return
		}
		if time.Since(all) > commitDaily {
			all = time.Now()
			clear(committed)
		}
		due, read := n.due(committed, catalog)
		if len(due) == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(n.ctx, commitWait)
		err := n.group.Load().Commit(ctx, due)
		cancel()
		if err != nil {
			if !failing && n.ctx.Err() == nil {
				n.logger.Warn().Err(err).Msg("how far this node is can't be committed")
			}
			failing = true
			continue
		}
		failing = false
		for _, c := range due {
			committed[c.Partition] = c.Next
		}
		catalog = read
		if !n.sleep(n.ctx, commitPause) {
			return
		}
	}
}

// due is what is to be committed: partitions that have come further, and one of them when the catalog has. read is how far
// the catalog was read then.
func (n *Node) due(committed map[int32]int64, catalog int64) (due []assignment.Committed, read int64) {
	given, fresh := n.group.Load().Current()
	if !fresh {
		return nil, catalog // not a member just now
	}
	for partition := range committed {
		if !slices.Contains(given, partition) {
			delete(committed, partition) // when it comes back, it is said again whose it is
		}
	}
	now := time.Now()
	read = n.catalogPosition()
	for r := range n.replicas() {
		if !slices.Contains(given, r.number) || !n.Holds(r.number) {
			continue
		}
		open := r.opened()
		if open == nil {
			continue
		}
		// Settled, not applied: whoever waits for the group may ask DNS at once.
		next := open.Settled() + 1
		last := read != catalog && len(due) == 0 // says how far the catalog was read
		if before, ok := committed[r.number]; ok && before >= next && !last {
			continue
		}
		p := mutationlog.Progress{
			Partition: r.number, Next: next, Epoch: open.Applied().LeaderEpoch,
			Time: now, Node: n.opts.NodeID, Caught: r.lastCaughtUp(now), Catalog: read,
		}
		due = append(due, assignment.Committed{Partition: p.Partition, Next: p.Next, LeaderEpoch: p.Epoch, Metadata: p.Metadata()})
	}
	return due, read
}

// lastCaughtUp is when the replica was last known to have all of the log.
func (r *replica) lastCaughtUp(now time.Time) time.Time {
	applied := r.applied().Offset
	r.mu.Lock()
	defer r.mu.Unlock()
	if applied+1 >= r.end {
		r.caughtAt = now
	}
	return r.caughtAt
}

// progressed says that something is to be committed.
func (n *Node) progressed() {
	select {
	case n.cameFurther <- struct{}{}:
	default: // it will be
	}
}

// succeededByLog is succeeded for nodes that know nothing of each other but through the log.
func (n *Node) succeededByLog(partition int32, offset int64) bool {
	ctx, cancel := context.WithTimeout(n.ctx, commitWait)
	defer cancel()
	own := mutationlog.Group{Region: n.opts.Region, Group: n.opts.Group}
	all, err := n.log.FetchProgress(ctx, []mutationlog.Group{own})
	if err != nil {
		return false
	}
	for _, p := range all[own] {
		if p.Partition == partition {
			return p.Node != "" && p.Node != n.opts.NodeID && p.Next > offset
		}
	}
	return false
}

// Reached says of each registered replica group whether it has the record at a position.
func (n *Node) Reached(ctx context.Context, at store.Position) ([]Reach, error) {
	if n.group.Load() == nil {
		return []Reach{n.reachedHere(at)}, nil
	}
	groups := n.log.Groups()
	all, err := n.fetchProgress(ctx, groups)
	if err != nil {
		return nil, err
	}
	reached := make([]Reach, len(groups))
	for i, g := range groups {
		reached[i] = all.reach(g, at)
	}
	return reached, nil
}

// progressOf is what groups have committed, or why that isn't known.
type progressOf struct {
	groups map[mutationlog.Group][]mutationlog.Progress
	failed map[mutationlog.Group]error
}

// fetchProgress asks what groups have committed. That it isn't known of some is no error.
func (n *Node) fetchProgress(ctx context.Context, groups []mutationlog.Group) (progressOf, error) {
	all, err := n.log.FetchProgress(ctx, groups)
	var some *mutationlog.ProgressError
	if errors.As(err, &some) {
		return progressOf{all, some.Groups}, nil
	}
	return progressOf{groups: all}, err
}

// reachedHere is Reached of a node that is a namespace by itself.
func (n *Node) reachedHere(at store.Position) Reach {
	r := Reach{Region: n.opts.Region, Group: n.opts.Group}
	p := n.store.Partition(at.Partition)
	if p == nil {
		r.Err = "the partition is not open"
		return r
	}
	if applied := p.Applied().Offset; applied < at.Offset {
		r.Lag = at.Offset - applied
		return r
	}
	r.Applied = true
	if outcome, err := p.Outcome(at.Offset); err == nil {
		r.Since = outcome.Time
	}
	return r
}

// reach says whether a group has the record at a position.
func (all progressOf) reach(g mutationlog.Group, at store.Position) Reach {
	r := Reach{Region: g.Region, Group: g.Group}
	if err := all.failed[g]; err != nil {
		r.Err = err.Error()
		return r
	}
	for _, p := range all.groups[g] {
		if p.Partition != at.Partition {
			continue
		}
		if p.Next > at.Offset {
			r.Applied, r.Since = true, p.Time
			return r
		}
		r.Lag = at.Offset + 1 - p.Next
		if !p.Caught.IsZero() {
			r.Behind = time.Since(p.Caught)
		}
		return r
	}
	r.Err = "it has not said how far it is with this partition"
	return r
}

// waitForGroups waits until all groups of a scope have the record at a position, and, when it made or deleted a zone, know
// of that. The error is a *MissingError when ctx ends before.
func (n *Node) waitForGroups(ctx context.Context, at store.Position, scope Scope, apex zones.Name) error {
	catalog := int64(-1) // where the catalog says so, not known yet
	for wait := firstPoll; ; wait = min(2*wait, lastPoll) {
		if apex != "" && catalog < 0 {
			catalog = n.catalogSays(apex, at)
		}
		missing, err := n.missing(ctx, at, scope, apex != "", catalog)
		if err == nil && len(missing) == 0 {
			return nil
		}
		if !n.sleep(ctx, wait) {
			if n.ctx.Err() != nil {
				return ErrClosed
			}
			if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				for _, g := range n.log.Groups() {
					missing = append(missing, Reach{Region: g.Region, Group: g.Group, Err: err.Error()})
				}
			}
			return &MissingError{Position: at, Missing: missing}
		}
	}
}

// missing are the groups of a scope that lack a position, or have nodes that have not read the catalog so far.
func (n *Node) missing(ctx context.Context, at store.Position, scope Scope, cataloged bool, catalog int64) (missing []Reach, err error) {
	var groups []mutationlog.Group
	for _, g := range n.log.Groups() {
		if scope == Everywhere || g.Region == n.opts.Region {
			groups = append(groups, g)
		}
	}
	all, err := n.fetchProgress(ctx, groups)
	if err != nil {
		return nil, fmt.Errorf("how far the groups are: %w", err)
	}
	for _, g := range groups {
		r := all.reach(g, at)
		if r.Applied && cataloged && (catalog < 0 || leastCatalog(all.groups[g]) < catalog) {
			r.Applied, r.Err = false, "not all of its nodes have read in the catalog that the zone is there, or gone"
		}
		if !r.Applied {
			missing = append(missing, r)
		}
	}
	return missing, nil
}

// leastCatalog is how far those nodes of a group that have said so have read the catalog, all of them.
func leastCatalog(all []mutationlog.Progress) int64 {
	newest := make(map[string]int64)
	for _, p := range all {
		newest[p.Node] = max(newest[p.Node], p.Catalog)
	}
	least := int64(-1)
	for _, at := range newest {
		if least < 0 || at < least {
			least = at
		}
	}
	return least
}

// Groups lists the registered replica groups.
func (n *Node) Groups(ctx context.Context) ([]GroupInfo, error) {
	if n.group.Load() == nil {
		return []GroupInfo{{Region: n.opts.Region, Group: n.opts.Group, Members: 1}}, nil
	}
	var list []GroupInfo
	for _, g := range n.log.Groups() {
		info := GroupInfo{Region: g.Region, Group: g.Group, Registered: g.Registered, Members: -1}
		if members, err := n.log.Members(ctx, g.Region, g.Group); err == nil {
			info.Members = len(members)
		}
		list = append(list, info)
	}
	return list, nil
}

// ErrGroupInUse is RetireGroup's error for a group that still has nodes.
var ErrGroupInUse = errors.New("the group still has nodes")

// RetireGroup forgets a group whose nodes are gone for good: nothing waits for it any more.
func (n *Node) RetireGroup(ctx context.Context, region, group string) error {
	if n.group.Load() == nil {
		return fmt.Errorf("the log is embedded in this node: its group is the only one: %w", ErrGroupInUse)
	}
	err := n.log.RetireGroup(ctx, region, group)
	if errors.Is(err, mutationlog.ErrGroupInUse) {
		return fmt.Errorf("%w: %w", ErrGroupInUse, err)
	}
	return err
}

// registerGroup makes this node's group one that is waited for, as soon as the log can be told.
func (n *Node) registerGroup() {
	select {
	case <-n.log.Established():
	case <-n.ctx.Done():
		return
	}
	for wait := firstRetry; ; wait = min(2*wait, backupRetry) {
		err := n.log.RegisterGroup(n.ctx, n.opts.Region, n.opts.Group)
		if err == nil || n.ctx.Err() != nil {
			return
		}
		n.logger.Warn().Err(err).Msg("this node's replica group can't be registered yet")
		if !n.sleep(n.ctx, wait) {
			return
		}
	}
}
