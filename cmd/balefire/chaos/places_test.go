package chaos

import (
	"math/rand/v2"
	"slices"
	"sync"
)

// place is what clients know of a node, over the life of all its processes. It is safe for concurrent use.
type place struct {
	id, region, group string
	dns               string // HOST:PORT

	mu     sync.Mutex
	admin  string         // HOST:PORT of HTTP
	down   bool           // killed, stopped or paused: no client writes through it
	life   int            // counts up when what it knew is gone
	floors map[*key]int64 // by key, the highest number that it has answered or acknowledged
}

func newPlace(id, region, group, dns string) *place {
	return &place{id: id, region: region, group: group, dns: dns, floors: make(map[*key]int64)}
}

func (p *place) setAdmin(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.admin = address
}

func (p *place) adminAddress() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.admin
}

func (p *place) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *place) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// forget says that what the node had is gone: what it has answered before is another node's past.
func (p *place) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life++
	p.floors = make(map[*key]int64)
}

// floor is what the node must not answer less than, in which of its lives.
func (p *place) floor(k *key) (number int64, life int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.floors[k], p.life
}

// alive reports whether the node still knows what it knew in that life.
func (p *place) alive(life int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.life == life
}

// saw notes that the node has answered or acknowledged a number, asked in that life.
func (p *place) saw(k *key, life int, number int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == life {
		p.floors[k] = max(p.floors[k], number)
	}
}

// places are the nodes that clients know. They come and go.
type places struct {
	mu  sync.Mutex
	all []*place
}

func (ps *places) add(p *place) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.all = append(ps.all, p)
}

func (ps *places) remove(p *place) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.all = slices.DeleteFunc(ps.all, func(q *place) bool { return q == p })
}

func (ps *places) list() []*place {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.Clone(ps.all)
}

// pick chooses one of those that fit, or returns nil.
func (ps *places) pick(rng *rand.Rand, fits func(*place) bool) *place {
	fitting := slices.DeleteFunc(ps.list(), func(p *place) bool { return !fits(p) })
	if len(fitting) == 0 {
		return nil
	}
	return fitting[rng.IntN(len(fitting))]
}

func anyPlace(*place) bool { return true }

func upPlace(p *place) bool { return !p.isDown() }
