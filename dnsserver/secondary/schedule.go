package secondary

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/staging"
	"balefire/store"
	"balefire/zones"
)

// Duty says which part of the work is this node's.
type Duty interface {
	// OnDuty reports whether this node keeps the secondary zones of a partition for its region.
	OnDuty(partition int32) bool
	// Rank is the place of its region in the order in which the regions transfer a zone; 0 is the first.
	Rank(apex zones.Name) int
}

// Options of a Secondary. Zones and Publisher are needed.
type Options struct {
	Zones     Zones
	Publisher staging.Publisher
	// Duty: nil means that all is this node's.
	Duty   Duty
	Client Client
	// Check says why a primary must not be asked; nil: all may be.
	Check  func(zones.Remote) error
	Timing Timing
	// Node is this node's name, for history.
	Node string
	// TempDir is where large zones are sorted, Memory how many octets of one are sorted in memory; default 4 MiB.
	TempDir string
	Memory  int
	// Checks is how many zones are worked on at once; default 128. PerPrimary is how many of one primary; default 8. Transfers is how many
	// are fetched at once; default 16.
	Checks, PerPrimary, Transfers int
	Logger                        zerolog.Logger
}

// Secondary keeps secondary zones. Its methods may be used by many goroutines at once; none waits for a primary but Run.
type Secondary struct {
	opts      Options
	timing    Timing
	client    *Client
	logger    zerolog.Logger
	transfers chan struct{} // a place for each transfer under way
	wake      chan struct{} // capacity 1: what is next has changed
	work      sync.WaitGroup
	counts    counts

	mu        sync.Mutex // guards what follows, and what entries and primaries are
	zones     map[zones.Name]*entry
	due       dueHeap
	primaries map[netip.AddrPort]*primary
	running   int
	puts      int // how often it was told of zones
}

// entry is a secondary zone. It is in the heap, waits for its primary, or is worked on.
type entry struct {
	apex      zones.Name
	partition int32
	first     netip.AddrPort // its first primary, in whose turn it is
	due       time.Time
	at        int  // in the heap; −1 when it is not there
	urgent    bool // before all that is not
	waiting   bool // in its primary's turn
	running   bool
	again     bool // it became due while it was worked on
	gone      bool
	anew      bool       // fetch it whole, whatever its serial
	told      netip.Addr // the primary that told of a change; zero otherwise
	puts      int        // when it was last told of, as a number that only goes up
	failures  int
	status    Status
}

// dutyLook is how often it is looked whether a zone has become this node's to keep.
const dutyLook = time.Minute

// New makes a Secondary, which does nothing before Run.
func New(opts Options) (*Secondary, error) {
	if opts.Zones == nil || opts.Publisher == nil {
		return nil, errors.New("secondary: Zones and Publisher are needed")
	}
	for _, f := range []struct {
		field *int
		value int
	}{{&opts.Memory, 4 << 20}, {&opts.Checks, 128}, {&opts.PerPrimary, 8}, {&opts.Transfers, 16}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if opts.Duty == nil {
		opts.Duty = alone{}
	}
	if opts.Check == nil {
		opts.Check = func(zones.Remote) error { return nil }
	}
	s := &Secondary{
		opts: opts, timing: opts.Timing.withDefaults(), client: &opts.Client, logger: opts.Logger,
		transfers: make(chan struct{}, opts.Transfers), wake: make(chan struct{}, 1),
		zones: map[zones.Name]*entry{}, primaries: map[netip.AddrPort]*primary{},
	}
	return s, nil
}

// alone is the Duty of a node by itself.
type alone struct{}

func (alone) OnDuty(int32) bool   { return true }
func (alone) Rank(zones.Name) int { return 0 }

// Put tells of a zone as it is hosted: that it is there, or that its settings, content or standing have changed. A zone without primaries is
// forgotten. A zone that is new is looked at when its SOA says so, as far as that is known, and soon otherwise.
func (s *Secondary) Put(info store.ZoneInfo) {
	if !info.Settings.IsSecondary() {
		s.Remove(info.Apex)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.zones[info.Apex]
	first := info.Settings.Primaries[0].Addr
	if e == nil {
		e = &entry{apex: info.Apex, partition: info.Changed.Partition, at: -1, due: time.Now()}
		s.zones[info.Apex] = e
		if !info.Standing.Awaiting {
			// Its timers are in its SOA, which is read when it is its turn: until then, all that a start finds would be due at once.
			e.due = e.due.Add(rand.N(max(startSpread, time.Duration(len(s.zones))*startEach)))
		}
		s.queue(e)
	} else if e.first != first || e.status.Frozen && !info.Settings.Frozen {
		s.hasten(e)
	}
	e.first = first
	s.puts++
	e.puts = s.puts
	e.partition = info.Changed.Partition
	e.status.Serial, e.status.Standing, e.status.Frozen = info.Serial, info.Standing, info.Settings.Frozen
}

// startSpread is the time over which zones are looked at that were there when the node began, and startEach what each of many adds to it.
const (
	startSpread = 2 * time.Minute
	startEach   = 10 * time.Millisecond
)

// Remove forgets a zone that is not hosted here any more.
func (s *Secondary) Remove(apex zones.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.zones[apex]; e != nil {
		s.drop(e)
	}
}

func (s *Secondary) drop(e *entry) {
	e.gone = true
	if e.at >= 0 {
		heap.Remove(&s.due, e.at)
	}
	delete(s.zones, e.apex)
}

// In returns the zones of a partition that are known, each with a number that is another one when it is told of again, for Forget.
func (s *Secondary) In(partition int32) map[zones.Name]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := map[zones.Name]int{}
	for apex, e := range s.zones {
		if e.partition == partition {
			told[apex] = e.puts
		}
	}
	return told
}

// Forget is Remove for a zone that was not told of since In: it did not go by any change that was told of.
func (s *Secondary) Forget(apex zones.Name, told int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.zones[apex]; e != nil && e.puts == told {
		s.drop(e)
	}
}

// Notified says that a server has told of a change of a zone, to a serial (RFC 1996), or to one that it did not say: 0. Whether it may is not asked here.
// A serial that is not after the zone's changes nothing.
func (s *Secondary) Notified(apex zones.Name, from netip.Addr, serial zones.Serial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.zones[apex]
	if e == nil || serial != 0 && e.status.Standing.Served() && !serial.IsAfter(e.status.Serial) {
		return
	}
	e.told = from.Unmap()
	if p := s.primaries[e.first]; p != nil && e.first.Addr().Unmap() == e.told {
		p.silent = 0 // it is there
	}
	s.hasten(e)
}

// Retransfer has a zone fetched whole, whatever serial its primary has; false when it is no secondary zone of this node.
func (s *Secondary) Retransfer(apex zones.Name) bool { return s.now(apex, true) }

// Refresh has a zone's primaries asked now; false when it is no secondary zone of this node.
func (s *Secondary) Refresh(apex zones.Name) bool { return s.now(apex, false) }

func (s *Secondary) now(apex zones.Name, anew bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.zones[apex]
	if e == nil {
		return false
	}
	e.anew = e.anew || anew
	if p := s.primaries[e.first]; p != nil { // somebody who asks knows better whether it is away
		p.silent = 0
	}
	s.hasten(e)
	return true
}

// hasten makes a zone the next.
func (s *Secondary) hasten(e *entry) {
	if e.running {
		e.again = true
		return
	}
	was := e.urgent
	e.urgent, e.due = true, time.Now()
	switch {
	case !e.waiting:
		s.queue(e)
	case !was:
		p := s.primaryAt(e.first)
		p.urgent = append(p.urgent, e) // it is in the other line, too, where it is passed over then
	}
}

// queue puts a zone into the heap, or where it belongs there now.
func (s *Secondary) queue(e *entry) {
	if e.at >= 0 {
		heap.Fix(&s.due, e.at)
	} else {
		heap.Push(&s.due, e)
	}
	if e.at == 0 {
		s.awake()
	}
}

func (s *Secondary) awake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Secondary) onDuty(partition int32) bool { return s.opts.Duty.OnDuty(partition) }

// Run keeps the zones until ctx ends, and waits for what is under way then.
func (s *Secondary) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer s.work.Wait()
	for {
		if wait := s.start(ctx); wait >= 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
	}
}

// start begins with what is due, and returns for how long there is nothing to begin; −1 while nothing is known that will be due.
func (s *Secondary) start(ctx context.Context) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	duties := map[int32]bool{} // for now
	for len(s.due) > 0 && s.running < s.opts.Checks {
		e := s.due[0]
		if !e.urgent && e.due.After(now) {
			return e.due.Sub(now)
		}
		heap.Pop(&s.due)
		onDuty, known := duties[e.partition]
		if !known {
			onDuty = s.onDuty(e.partition)
			duties[e.partition] = onDuty
		}
		if !onDuty {
			// Another node of the region keeps it, until this one does.
			e.urgent, e.due = false, now.Add(jitter(dutyLook))
			s.queue(e)
			continue
		}
		p := s.primaryAt(e.first)
		if p.running >= s.opts.PerPrimary {
			e.waiting = true
			if e.urgent {
				p.urgent = append(p.urgent, e)
			} else {
				p.waiting = append(p.waiting, e)
			}
			continue
		}
		s.begin(ctx, e, p)
	}
	return -1
}

// begin works on a zone.
func (s *Secondary) begin(ctx context.Context, e *entry, p *primary) {
	e.running, e.waiting, e.urgent, e.again = true, false, false, false
	p.running++
	s.running++
	addr, task, puts := e.first, task{apex: e.apex, anew: e.anew, told: e.told}, e.puts
	e.anew, e.told = false, netip.Addr{}
	s.work.Go(func() {
		result := s.refresh(ctx, task)
		s.counts.note(result)
		s.finish(ctx, e, addr, task, result, puts)
	})
}

// finish notes what came of a zone, and begins with the next of its primary.
func (s *Secondary) finish(ctx context.Context, e *entry, addr netip.AddrPort, done task, r result, puts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	p := s.primaries[addr]
	p.running--
	e.running = false
	if errors.Is(r.err, store.ErrNoZone) && e.puts == puts && !e.gone {
		s.drop(e) // who told of it had read of it a while ago
	}
	if !e.gone && ctx.Err() == nil {
		s.note(e, done, r)
		s.queue(e)
	}
	for p.running < s.opts.PerPrimary && s.running < s.opts.Checks && ctx.Err() == nil {
		next := p.next()
		if next == nil {
			break
		}
		if next.first != addr { // its primary is another one by now
			next.waiting = false
			s.queue(next)
			continue
		}
		s.begin(ctx, next, p)
	}
	s.forget(addr)
	s.awake()
}

// note takes what came of a zone into its status, and says when it is its turn again.
func (s *Secondary) note(e *entry, done task, r result) {
	now := time.Now()
	st := &e.status
	if r.info.Apex != "" {
		st.Serial, st.Standing, st.Frozen = r.info.Serial, r.info.Standing, r.info.Settings.Frozen
		st.Expires = r.expires
	}
	if r.primary != 0 {
		st.Primary = r.primary
	}
	if r.answered {
		st.Checked = now
	}
	if r.transfer != nil {
		st.Last = *r.transfer
	}
	if r.err == nil {
		if e.failures > 0 {
			s.logger.Info().Str("zone", e.apex.String()).Msg("secondary zone is refreshed again")
		}
		e.failures, st.Failures, st.Error, st.FailedAt = 0, 0, "", time.Time{}
		e.due = now.Add(jitter(r.timers.refresh))
	} else {
		e.failures++
		level := zerolog.DebugLevel
		if e.failures == 1 { // once: there may be many zones, and each is tried again and again
			level = zerolog.WarnLevel
		}
		s.logger.WithLevel(level).Err(r.err).Str("zone", e.apex.String()).Msg("secondary zone not refreshed")
		st.Failures, st.Error, st.FailedAt = e.failures, r.err.Error(), now
		wait := r.timers.retry
		if r.timers.expire == 0 { // there is nothing yet
			wait = min(s.timing.First<<min(e.failures-1, 16), s.timing.MaxFirst)
		}
		e.due = now.Add(jitter(wait))
	}
	// It expires when it does, not when it is next tried.
	if !r.expires.IsZero() && r.expires.After(now) && r.expires.Before(e.due) {
		e.due = r.expires
	}
	switch {
	case e.again:
		e.again, e.urgent, e.due = false, true, now
	case r.soon:
		e.anew = e.anew || done.anew
		e.urgent, e.due = false, now.Add(time.Second)
	}
}

// dueHeap has what is next first.
type dueHeap []*entry

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if h[i].urgent != h[j].urgent {
		return h[i].urgent
	}
	return h[i].due.Before(h[j].due)
}

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	e.at = len(*h)
	*h = append(*h, e)
}

func (h *dueHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.at = -1
	return e
}
