package store

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"balefire/store/hotzone"
	"balefire/zones"
)

// loader brings zones into memory in the background, each once at a time. The queries that ask meanwhile are
// answered from Badger.
type loader struct {
	store *Store
	queue chan loadRequest
	stop  chan struct{}
	wait  sync.WaitGroup

	mu      sync.Mutex
	running map[zones.Name]bool
}

type loadRequest struct {
	p    *Partition
	apex zones.Name
}

const (
	loadWorkers = 2
	loadQueue   = 256
)

func newLoader(s *Store) *loader {
	l := &loader{store: s, queue: make(chan loadRequest, loadQueue), stop: make(chan struct{}), running: make(map[zones.Name]bool)}
	l.wait.Add(loadWorkers)
	for range loadWorkers {
		go l.work()
	}
	return l
}

// ask asks for a zone; when the queue is full, a later query will.
func (l *loader) ask(p *Partition, apex zones.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[apex] {
		return
	}
	apex = zones.Name([]byte(apex)) // the caller's may be a part of a packet
	select {
	case l.queue <- loadRequest{p, apex}:
		l.running[apex] = true
	default:
	}
}

// muchGarbage is from how many octets on what the reading of a zone leaves behind, as much as the zone again, is taken away at once:
// the runtime would hold it until as much again has been allocated, and by itself a server that answers allocates nothing.
const muchGarbage = 32 << 20

func (l *loader) work() {
	defer l.wait.Done()
	for {
		select {
		case <-l.stop:
			return
		case r := <-l.queue:
			if err := r.p.load(r.apex); err != nil && !errors.Is(err, ErrClosed) {
				r.p.log.Warn().Err(err).Str("zone", r.apex.String()).Msg("bringing a zone into memory")
			}
			l.mu.Lock()
			delete(l.running, r.apex)
			l.mu.Unlock()
			if r.p.store.hot.sizeOf(r.apex) >= muchGarbage {
				debug.FreeOSMemory()
			}
		}
	}
}

func (l *loader) close() {
	close(l.stop)
	l.wait.Wait()
}

// memoryOf guesses what a zone takes in memory, from the octets of its RRsets.
func memoryOf(z zoneState) int64 { return int64(z.Octets) + 32*int64(z.RRsets) }

// fitsMemory reports whether a zone is small enough for memory.
func (s *Store) fitsMemory(z zoneState) bool { return memoryOf(z) <= largest(s.opts.HotBytes) }

// load reads a zone whole, checks its digest, brings it forward by what changed meanwhile, and installs it, unless it was
// replaced, or is too large.
func (p *Partition) load(apex zones.Name) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = p.suspect(apex, fmt.Errorf("reading panicked: %v: %w", r, ErrCorrupt))
		}
	}()
	v, ok := p.store.hot.index.Get(apex)
	if !ok {
		return nil // gone
	}
	if there, _ := p.store.hot.get(apex, v.Slot); there != nil {
		return nil
	}
	missed := p.store.hot.expect(apex)
	defer p.store.hot.expected(apex)
	zone, state, err := p.readWhole(apex, v.Slot)
	if err != nil || zone == nil {
		return p.suspect(apex, err)
	}
	// Under viewMu nothing is published: what is still the same now is what apply will patch.
	p.viewMu.Lock()
	defer p.viewMu.Unlock()
	r, err := p.begin()
	if err != nil {
		return err
	}
	defer r.end()
	now, ok, err := readZone(r.reader, apex)
	if err != nil {
		return p.suspect(apex, err)
	}
	if !ok || now.generation != state.generation || !now.Standing.Served() {
		return nil // another zone by now, or none to answer from
	}
	zone, changed, err := missed.catchUp(zone, state.changed)
	if err != nil {
		return err
	}
	if now.changed == changed {
		p.store.hot.install(newHotEntry(zone, p, changed))
	}
	return nil
}

// keepWhole puts a zone that was read whole for a question into memory, and reports whether it has: not when anything was published
// since, or is just being. It does not wait.
func (p *Partition) keepWhole(v *coldView) bool {
	if v.whole == nil || !p.viewMu.TryLock() {
		return false
	}
	defer p.viewMu.Unlock()
	p.readMu.Lock()
	closed := p.closed
	p.readMu.Unlock()
	if closed || p.published.Load() != v.at { // under viewMu nothing is published
		return false
	}
	p.store.hot.install(newHotEntry(v.whole, p, v.z.changed))
	return true
}

// readWhole reads a zone into memory; nil when it is not there, or too large.
func (p *Partition) readWhole(apex zones.Name, slot uint32) (*hotzone.Zone, zoneState, error) {
	r, err := p.begin()
	if err != nil {
		return nil, zoneState{}, err
	}
	defer r.end()
	z, ok, err := readZone(r.reader, apex)
	if err != nil || !ok || !z.Standing.Served() || !p.store.fitsMemory(z) || !p.store.hot.worthReading(slot, memoryOf(z)) {
		return nil, z, err
	}
	zone, err := readAll(r.reader, apex, z)
	return zone, z, err
}

// readAll reads a zone into memory, and compares it with its number of RRsets and its digest.
func readAll(r *reader, apex zones.Name, z zoneState) (*hotzone.Zone, error) {
	b := hotzone.NewBuilder(apex)
	var sum zones.Digest
	var count uint64
	for _, space := range []byte{spaceNames, spaceHashed} {
		add := b.Add
		if space == spaceHashed {
			add = b.AddHashed
		}
		err := scanNodes(r, z.generation, space, func(owner, packed []byte) error {
			name, err := zones.NameFromKey(owner, apex)
			if err != nil {
				return fmt.Errorf("owner %x: %w: %w", owner, err, ErrCorrupt)
			}
			node := zones.NodeView(name, packed)
			for s := range node.RRsets() {
				sum.Add(zones.EntryOf(s, apex))
				count++
			}
			return add(node)
		})
		if err != nil {
			return nil, err
		}
	}
	if sum != z.Digest || count != z.RRsets {
		return nil, fmt.Errorf("zone %s at %d: content with %d RRsets has digest %s, not %d and %s: %w",
			apex, z.changed, count, sum, z.RRsets, z.Digest, ErrCorrupt)
	}
	return b.Build()
}
