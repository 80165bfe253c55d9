package dnsserver

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
)

// rateLimiter is a token bucket for each client network, in a table of fixed size that all workers share
// without locks.
//
// A bucket is one word: 16 bits of the network's hash, and 48 bits of the time, in ticks of 100 ns, at which the
// bucket would be full again if nothing more came (the "theoretical arrival time" of ITU-T I.371). Answering one
// query moves that time by one interval; it may be ahead of now by the burst at most. Time is taken modulo 2⁴⁸ ticks (326 days); one
// that is further ahead than any bucket can be is a leftover of another age, and counts as the past.
//
// Networks that share hash bits share a bucket; when a set is full, its fullest (longest idle) bucket is given
// away, and with it, under attack by more networks than the table has room for, some strictness.
type rateLimiter struct {
	seed    uint64
	buckets []atomic.Uint64 // sets of setSize
}

const (
	rateSets = 1 << 14
	setSize  = 4
	tickNano = 100
	timeBits = 48
	timeMask = 1<<timeBits - 1
)

// The networks that a limit is for, in bits of prefix: what one client can be assumed to have, or to forge.
const (
	networkBits4 = 24
	networkBits6 = 56
)

// rate is a RateLimit in ticks.
type rate struct {
	interval uint64 // between two answers; 0: no limit
	burst    uint64 // how far ahead of now a bucket may be
	slip     int
	exempt   []netip.Prefix
}

func newRate(l RateLimit) (r rate) {
	r.slip, r.exempt = l.Slip, l.Exempt
	if l.PerSecond > 0 {
		r.interval = 1e9 / tickNano / uint64(l.PerSecond)
		r.burst = r.interval * uint64(max(l.Burst, 1))
	}
	return r
}

func (r *rate) exempts(from netip.Addr) bool {
	for _, p := range r.exempt {
		if p.Contains(from) {
			return true
		}
	}
	return false
}

func newRateLimiter() *rateLimiter {
	return &rateLimiter{seed: rand.Uint64(), buckets: make([]atomic.Uint64, rateSets*setSize)}
}

// allow takes a token of the client's network at the time given, and reports whether there was one.
func (l *rateLimiter) allow(r *rate, from netip.Addr, nanos int64) bool {
	return l.allowWord(r, l.hash(network(from)), nanos)
}

// allowWord is allow for whoever has a hash.
func (l *rateLimiter) allowWord(r *rate, h uint64, nanos int64) bool {
	tag := h >> timeBits << timeBits
	if tag == 0 {
		tag = 1 << timeBits // a word of 0 is an unused bucket
	}
	set := l.buckets[h%rateSets*setSize:][:setSize]
	now := uint64(nanos/tickNano) & timeMask
	for {
		b, old, ahead := pick(set, tag, now, r.burst)
		if ahead+r.interval > r.burst {
			return false
		}
		if b.CompareAndSwap(old, tag|(now+ahead+r.interval)&timeMask) {
			return true
		}
		// Another worker was faster; that can't go on for ever, as each success of another uses up a token.
	}
}

// pick returns the bucket of the tag, or the fullest of the set, what it held, and how far it is ahead of now.
func pick(set []atomic.Uint64, tag, now, burst uint64) (b *atomic.Uint64, old, ahead uint64) {
	least := uint64(timeMask)
	for i := range set {
		word := set[i].Load()
		a := uint64(0)
		if word != 0 {
			if a = (word - now) & timeMask; a > burst {
				a = 0
			}
		}
		if word&^timeMask == tag {
			return &set[i], word, a
		}
		if a < least {
			b, old, least = &set[i], word, a
		}
	}
	return b, old, 0
}

// network returns the client's network as a number.
func network(from netip.Addr) uint64 {
	if from.Is4() {
		a := from.As4()
		return uint64(binary.BigEndian.Uint32(a[:])>>(32-networkBits4)) | 1<<63
	}
	a := from.As16()
	return binary.BigEndian.Uint64(a[:]) >> (64 - networkBits6)
}

// hash mixes a network with the seed, so that nobody outside knows which ones collide.
func (l *rateLimiter) hash(n uint64) uint64 {
	h := n ^ l.seed
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}
