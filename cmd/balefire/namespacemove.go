package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"balefire/zones"
)

const (
	// moveWorkers is how many zones are copied at once: as many as a server imports.
	moveWorkers = 4
	// freezeSettle is how long a node may take to learn that its namespace is frozen. What it takes until then is seen by
	// comparing the log's end before and after a pass.
	freezeSettle = 5 * time.Second
	// restPatience is how long the old namespace may take to apply what is in its log, when nothing comes any more.
	restPatience = 5 * time.Minute
	restPoll     = 250 * time.Millisecond
	// movesTold bounds how many zones of a pass are named.
	movesTold = 20
	// moveProgress is how often a long pass says how far it is.
	moveProgress = 10 * time.Second
)

// mover copies a namespace into another, by the API of a node of each.
type mover struct {
	from, to *client
	freeze   bool
	reason   string
	force    bool
	passes   int
	out, log io.Writer

	old, new cluster
	// settle is freezeSettle, but for tests.
	settle time.Duration
}

// mark is the reason of what a move writes, by which the next one knows that nobody else has changed a zone since.
func (m *mover) mark() string { return "moved from namespace " + m.old.Namespace }

// run moves. A crash, or an interruption, anywhere leaves a new namespace that the next run goes on with.
func (m *mover) run(ctx context.Context) error {
	for _, side := range []struct {
		c    *client
		into *cluster
	}{{m.from, &m.old}, {m.to, &m.new}} {
		if err := side.c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "cluster"}}, side.into); err != nil {
			return err
		}
		if side.into.Partitions <= 0 {
			return fmt.Errorf("%s does not know its namespace yet: its log has never been reached", side.c.base)
		}
	}
	fmt.Fprintf(m.out, "from namespace %s, %d partitions, at %s\nto namespace %s, %d partitions, at %s\n",
		m.old.Namespace, m.old.Partitions, m.from.base, m.new.Namespace, m.new.Partitions, m.to.base)
	last, _, err := m.untilEqual(ctx)
	if err != nil {
		return err
	}
	if !m.freeze {
		fmt.Fprintf(m.out, "All %d zones are equal. Changes made from now on are not there: run this again, with --freeze for the last time.\n", last.zones)
		return nil
	}
	if last.zones == 0 {
		return errors.New("there is no zone to move, so nothing was frozen")
	}
	to := fmt.Sprintf("namespace %s at %s", m.new.Namespace, m.to.base)
	if err := m.from.call(ctx, request{method: http.MethodPost, path: freezePath, body: map[string]string{"to": to, "reason": m.reason}}, nil); err != nil {
		return fmt.Errorf("freeze the old namespace: %w", err)
	}
	fmt.Fprintf(m.out, "The old namespace takes no more changes.\n")
	if last, err = m.untilAtRest(ctx); err != nil {
		return fmt.Errorf("%w\nThe old namespace is frozen: run this again, or undo that with 'balefire namespace thaw --server %s'", err, m.from.base)
	}
	fmt.Fprintf(m.out, `All %d zones are equal, and the old namespace is at rest. What is next:
  1. send changes to %s, and to other nodes of the new namespace;
  2. point resolvers, secondaries, load balancers and anycast at the new nodes ('balefire node drain' takes an old one out);
  3. when no queries come to the old nodes any more, stop them, and remove their topics and backups when you trust the new ones.
Until 3, 'balefire namespace thaw --server %s' goes back; changes made in the new namespace don't.
`, last.zones, m.to.base, m.from.base)
	return nil
}

// pass is what one comparison of both namespaces came to.
type pass struct {
	zones   int // of the old namespace
	copied  int
	deleted int
	own     int // zones of the new namespace's own
	theirs  int // zones that the new namespace gets by itself, from primaries or by catalogs
	control int // TSIG keys and ACLs that were copied
	failed  int
	took    time.Duration
}

// untilEqual makes passes until one finds nothing to do. Under changes that come all the time none does: then busy says
// that the passes have become no shorter, and that all but the last changes were copied.
func (m *mover) untilEqual(ctx context.Context) (p pass, busy bool, err error) {
	before := 0
	for k := range m.passes {
		if p, err = m.pass(ctx, k+1); err != nil {
			return p, false, err
		}
		switch wrote := p.copied + p.deleted + p.control; {
		case p.failed == 0 && wrote == 0:
			return p, false, nil
		case p.failed > 0 && wrote == 0: // another pass would find the same
			return p, false, errReported
		case p.failed == 0 && k > 0 && wrote >= before:
			busy = true
			if m.freeze {
				return p, true, nil
			}
		}
		before = p.copied + p.deleted + p.control
	}
	return p, busy, fmt.Errorf("after %d passes there is still something to copy: %d in the last %s. Run this again, at a quieter time or with --freeze",
		m.passes, before, p.took.Round(time.Millisecond))
}

// untilAtRest makes passes until one finds nothing to do while the old namespace's log ends where it did before.
func (m *mover) untilAtRest(ctx context.Context) (p pass, err error) {
	if m.settle == 0 {
		m.settle = freezeSettle
	}
	select {
	case <-time.After(m.settle):
	case <-ctx.Done():
		return p, ctx.Err()
	}
	for range m.passes {
		before, err := m.rest(ctx)
		if err != nil {
			return p, err
		}
		var busy bool
		if p, busy, err = m.untilEqual(ctx); err != nil {
			return p, err
		}
		after, err := m.rest(ctx)
		if err != nil {
			return p, err
		}
		if before == after && !busy {
			return p, nil
		}
	}
	return p, errors.New("the old namespace is frozen, and its log grows all the same: does every node of it know this version of the program?")
}

// rest waits until the group of the old namespace's node has applied all that is in the log, and returns up to where.
func (m *mover) rest(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, restPatience)
	defer cancel()
	for {
		var c cluster
		if err := m.from.call(ctx, request{method: http.MethodGet, path: []string{"v1", "cluster"}}, &c); err != nil {
			return "", err
		}
		why := fmt.Sprintf("group %s/%s is not known", c.Region, c.Group)
		for _, g := range c.Groups {
			if g.Region != c.Region || g.Group != c.Group {
				continue
			}
			at, lag := "", int64(0)
			for _, p := range g.Partitions {
				at += fmt.Sprintf("%d@%d ", p.Partition, p.Applied)
				lag = max(lag, p.Lag)
			}
			if lag == 0 && len(g.Partitions) == int(c.Partitions) {
				return at, nil
			}
			why = fmt.Sprintf("of %d partitions, %d are known, and the slowest lacks %d records", c.Partitions, len(g.Partitions), lag)
		}
		select {
		case <-time.After(restPoll):
		case <-ctx.Done():
			return "", fmt.Errorf("the old namespace did not come to rest: %s: %w", why, context.Cause(ctx))
		}
	}
}

// job is one zone that differs: a side without a name has no such zone.
type job struct{ old, new zoneInfo }

// pass goes through the zones of both namespaces side by side, and copies those that differ. The error is for what
// ends the move; zones that can't be copied are said, and counted.
func (m *mover) pass(ctx context.Context, number int) (p pass, err error) {
	began := time.Now()
	c, err := m.control(ctx)
	if err != nil {
		return p, err
	}
	p.control, p.failed = c.copied, c.failed
	if number == 1 && len(c.own) > 0 {
		fmt.Fprintf(m.out, "only in the new namespace and left alone: %s\n", strings.Join(c.own, ", "))
	}
	jobs := make(chan job)
	var mu sync.Mutex // guards p.copied, p.deleted, p.failed, p.theirs, told
	told := 0         // zones that were named
	var workers sync.WaitGroup
	for range moveWorkers {
		workers.Go(func() {
			for j := range jobs {
				copied, left, err := m.do(ctx, j)
				mu.Lock()
				switch {
				case ctx.Err() != nil: // said once, at the end
				case left:
					p.theirs++
				case err != nil:
					p.failed++
					if told++; told <= movesTold {
						fmt.Fprintf(m.log, "failed: %s: %v\n", firstOf(j.old.Name, j.new.Name), err)
					}
				case copied && j.old.Name == "":
					p.deleted++
				case copied:
					p.copied++
				case j.old.Name == "":
					p.own++
				}
				mu.Unlock()
			}
		})
	}
	said := began
	for j, listErr := range sideBySide(listZones(ctx, m.from, ""), listZones(ctx, m.to, "")) {
		if err = listErr; err != nil {
			break
		}
		if j.old.Name != "" {
			p.zones++ // this goroutine's alone
		}
		if m.isSelf(j) {
			err = errors.New("both servers belong to one namespace, or to copies of one log: want a node of another as --to-server")
			break
		}
		if j.same() {
			if j.old.Digest != j.new.Digest {
				mu.Lock()
				p.theirs++
				mu.Unlock()
			}
			continue
		}
		jobs <- j
		if time.Since(said) > moveProgress {
			said = time.Now()
			mu.Lock()
			fmt.Fprintf(m.log, "pass %d: %d zones seen, %d copied, %d failed, at %s\n", number, p.zones, p.copied, p.failed, firstOf(j.old.Name, j.new.Name))
			mu.Unlock()
		}
	}
	close(jobs)
	workers.Wait()
	p.took = time.Since(began)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return p, err
	}
	line := fmt.Sprintf("pass %d: %d zones, %d copied", number, p.zones, p.copied)
	for _, more := range []struct {
		count int
		what  string
	}{{p.control, "TSIG keys and ACLs copied"}, {p.deleted, "deleted"}, {p.theirs, "left to their primaries and catalogs"}, {p.own, "only in the new namespace and left alone"}, {p.failed, "failed"}} {
		if more.count > 0 {
			line += fmt.Sprintf(", %d %s", more.count, more.what)
		}
	}
	fmt.Fprintf(m.out, "%s, in %s\n", line, p.took.Round(time.Millisecond))
	return p, nil
}

// same reports whether both sides have the zone, with the same settings, and it is the same to the last octet; or comes from its primaries on
// both.
func (j job) same() bool {
	return j.old.Name == j.new.Name && j.old.SettingsDigest == j.new.SettingsDigest &&
		(j.old.Digest == j.new.Digest || j.old.isSecondary() && j.new.isSecondary())
}

// isSelf reports whether a zone was last changed by the same record on both sides.
func (m *mover) isSelf(j job) bool {
	return m.old.Namespace == m.new.Namespace && j.old.Name == j.new.Name && j.old.Position == j.new.Position && j.old.ChangedAt.Equal(j.new.ChangedAt)
}

// do makes the new namespace have what the old one has; copied says that something was written, left that the new namespace gets the zone by itself.
func (m *mover) do(ctx context.Context, j job) (copied, left bool, err error) {
	var old zoneDetails
	if j.old.Name != "" {
		err := m.from.call(ctx, request{method: http.MethodGet, path: []string{"v1", "zones", j.old.Name}}, &old)
		if isNotFound(err) {
			return true, false, nil // deleted this very moment: the next pass sees that
		}
		if err != nil {
			return false, false, err
		}
		if old.Member != nil || old.Catalog != nil && j.new.Name != "" && j.new.SettingsDigest == old.SettingsDigest {
			return false, true, nil
		}
	}
	if j.new.Name != "" && (!m.force || j.old.Name == "") {
		moved, err := m.wasMoved(ctx, j.new)
		if err != nil {
			return false, false, err
		}
		if !moved && j.old.Name == "" {
			return false, false, nil
		}
		if !moved && !m.force {
			return false, false, fmt.Errorf("it was changed in the new namespace, at serial %d: --force overwrites that", j.new.Serial)
		}
	}
	switch {
	case j.old.Name == "":
		copied, err = true, m.deleteZone(ctx, j.new)
	case old.Catalog != nil:
		copied, err = m.copyCatalog(ctx, old, j.new)
	default:
		copied, err = m.copyZone(ctx, j, old)
	}
	return copied, false, err
}

// wasMoved reports whether a move was the last to write a zone of the new namespace, but for what comes from its primaries.
func (m *mover) wasMoved(ctx context.Context, z zoneInfo) (bool, error) {
	var page struct {
		Entries []historyEntry `json:"entries"`
	}
	err := m.to.call(ctx, request{
		method: http.MethodGet, path: []string{"v1", "zones", z.Name, "history"}, query: url.Values{"limit": {"1000"}},
	}, &page)
	if err != nil {
		return false, err
	}
	for _, e := range page.Entries {
		if e.Author != catalogAuthor && (!z.isSecondary() || !strings.HasPrefix(e.Author, secondaryAuthor)) {
			return e.Reason == m.mark(), nil
		}
	}
	return false, nil
}

const (
	// secondaryAuthor begins the author of what nodes fetch from primaries. No key and no address begins so.
	secondaryAuthor = "secondary at "
	// catalogAuthor is that of what they do for catalogs.
	catalogAuthor = "catalog"
)

// copyZone makes a zone of the new namespace what it is in the old one, settings and all. Content comes first: a zone can't be given any that is
// frozen, or comes from primaries. A secondary zone that the new namespace has already it keeps by itself.
func (m *mover) copyZone(ctx context.Context, j job, old zoneDetails) (copied bool, err error) {
	there := j.new.Name != ""
	if there && j.new.isSecondary() && !old.isSecondary() { // it has become one of our own
		if j.new.Standing == awaiting { // without content it can't
			if err := m.deleteZone(ctx, j.new); err != nil {
				return false, err
			}
			there = false
		} else if err := m.set(ctx, j.old.Name, map[string]any{"primaries": []remoteInfo{}}); err != nil {
			return false, err
		}
	}
	settings := !there && old.hasSettings() || there && old.SettingsDigest != j.new.SettingsDigest
	switch {
	case there && (j.new.Digest == old.Digest || j.new.isSecondary() && old.isSecondary()):
	case old.isSecondary() && old.Standing != served: // there is nothing to be answered from: the new one waits for the primaries, too
		if !there {
			return true, m.createZone(ctx, old)
		}
	default:
		if there && j.new.Frozen {
			settings = true
			if err := m.set(ctx, j.old.Name, map[string]any{"frozen": false}); err != nil {
				return false, err
			}
		}
		if copied, err = m.copyContent(ctx, j, there); err != nil {
			return copied, err
		}
	}
	if !settings {
		return copied, nil
	}
	return true, m.set(ctx, j.old.Name, old.settings())
}

// copyCatalog makes a catalog, whose content the new namespace makes or fetches by itself, as it does with the zones that a consumed one lists.
func (m *mover) copyCatalog(ctx context.Context, old zoneDetails, there zoneInfo) (copied bool, err error) {
	reason := url.Values{"reason": {m.mark()}}
	switch {
	case old.Catalog.Role != "produced" && old.Catalog.Role != "consumed":
		return false, errors.New("the catalog is about to be deleted")
	case there.Name == "":
		body := map[string]any{"name": old.Name, "groups": old.Catalog.Groups, "primaries": old.Primaries, "notify": old.Notify}
		if len(old.Catalog.Groups) == 0 {
			delete(body, "groups")
		}
		if _, err := m.to.change(ctx, request{method: http.MethodPost, path: []string{"v1", "catalogs"}, query: reason, body: body}); err != nil {
			return false, err
		}
	case old.Catalog.Role == "produced":
		body := map[string]any{"groups": append([]string{}, old.Catalog.Groups...)}
		if _, err := m.to.change(ctx, request{method: http.MethodPatch, path: []string{"v1", "catalogs", old.Name}, query: reason, body: body}); err != nil {
			return false, err
		}
	}
	return true, m.set(ctx, old.Name, old.settings())
}

// set changes settings of a zone of the new namespace.
func (m *mover) set(ctx context.Context, zone string, settings map[string]any) error {
	_, err := m.to.change(ctx, request{
		method: http.MethodPatch, path: []string{"v1", "zones", zone}, query: url.Values{"reason": {m.mark()}}, body: settings,
	})
	return err
}

// createZone makes a secondary zone without content.
func (m *mover) createZone(ctx context.Context, z zoneDetails) error {
	body := z.settings()
	body["name"] = z.Name
	_, err := m.to.change(ctx, request{method: http.MethodPost, path: []string{"v1", "zones"}, query: url.Values{"reason": {m.mark()}}, body: body})
	return err
}

// copyContent streams a zone from one server into the other, which compares, stages and switches it. It is not written over anything but what was
// seen.
func (m *mover) copyContent(ctx context.Context, j job, there bool) (copied bool, err error) {
	res, err := m.from.send(ctx, request{
		method: http.MethodGet, path: []string{"v1", "zones", j.old.Name, "file"}, accept: "text/dns, application/problem+json",
	})
	if isNotFound(err) {
		return true, nil // deleted this very moment: the next pass sees that
	}
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	header := http.Header{"If-None-Match": {"*"}}
	if there {
		header = http.Header{"If-Match": {strconv.Quote(strconv.FormatUint(uint64(j.new.Serial), 10))}}
	}
	var got struct {
		changed
		Result string `json:"result"`
	}
	err = m.to.call(ctx, request{
		method: http.MethodPut, path: []string{"v1", "zones", j.old.Name, "file"},
		query: url.Values{"force": {"true"}, "serial_policy": {j.old.SerialPolicy}, "reason": {m.mark()}},
		body:  io.Reader(res.Body), contentType: "text/dns", header: header,
	}, &got)
	if err != nil {
		return false, err
	}
	if _, err := m.to.settle(ctx, got.changed); err != nil {
		return false, err
	}
	// An unchanged zone has all RRsets, under a serial that is higher here. Its policy may have been set.
	return got.Result != "unchanged" || got.ID != "", nil
}

// deleteZone deletes a zone that a move brought, and that the old namespace has no more.
func (m *mover) deleteZone(ctx context.Context, z zoneInfo) error {
	if z.Frozen {
		if err := m.set(ctx, z.Name, map[string]any{"frozen": false}); err != nil {
			return err
		}
	}
	_, err := m.to.change(ctx, request{
		method: http.MethodDelete, path: []string{"v1", "zones", z.Name}, query: url.Values{"reason": {m.mark()}}, header: ifSerial(z.Serial),
	})
	return err
}

func isNotFound(err error) bool {
	var p *problem
	return errors.As(err, &p) && p.Status == http.StatusNotFound
}

// sideBySide yields each zone that either side has, once. Both must be in canonical order.
func sideBySide(old, new iter.Seq2[zoneInfo, error]) iter.Seq2[job, error] {
	return func(yield func(job, error) bool) {
		nextOld, stopOld := iter.Pull2(old)
		defer stopOld()
		nextNew, stopNew := iter.Pull2(new)
		defer stopNew()
		o, err, haveOld := nextOld()
		n, errNew, haveNew := nextNew()
		for haveOld || haveNew {
			if err = errors.Join(err, errNew); err != nil {
				yield(job{}, err)
				return
			}
			order, err2 := inCanonicalOrder(o, n, haveOld, haveNew)
			if err2 != nil {
				yield(job{}, err2)
				return
			}
			var j job
			if order <= 0 {
				j.old = o
				o, err, haveOld = nextOld()
			}
			if order >= 0 {
				j.new = n
				n, errNew, haveNew = nextNew()
			}
			if !yield(j, nil) {
				return
			}
		}
	}
}

// inCanonicalOrder says which of two zones comes first; a side that has ended comes last.
func inCanonicalOrder(o, n zoneInfo, haveOld, haveNew bool) (int, error) {
	switch {
	case !haveNew:
		return -1, nil
	case !haveOld:
		return 1, nil
	}
	a, errA := zones.ParseName(o.Name)
	b, errB := zones.ParseName(n.Name)
	return zones.Compare(a, b), errors.Join(errA, errB)
}
