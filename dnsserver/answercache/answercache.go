// Package answercache keeps whole answers, as they are on the wire after the question, for one worker that gives them again and again. It
// knows nothing of zones: whether an answer is still right is for the caller to say, by the stamp that it keeps with it.
//
// It is one ring of octets, written from end to end and over again, and a table that leads into it; neither has a pointer, so that a
// large cache costs the garbage collector nothing. A look-up touches one line of the table and the answer's own octets, and a worker
// that has many of them to do has the lines fetched before it needs them.
package answercache

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"

	"balefire/store"
	"balefire/zones"
)

// Cache is for one goroutine.
type Cache struct {
	seed  maphash.Seed // nobody outside can choose names that fall on each other
	ways  []uint64     // lines of lineWays; see way
	mask  uint64       // of a line's number
	ring  []byte
	end   uint64 // how many octets were ever written, in the ring's laps
	asked []uint32
}

// A way is 0 when empty, else tag << 48 | place: sixteen bits of the hash, and the octets ever written before the answer, in eights. An answer is
// there until the ring has come around to it.
const (
	lineWays  = 8 // of a cache line
	placeBits = 48
	unit      = 8

	// MinSize is the least that a cache can be, in octets.
	MinSize = 1 << 18
	// octetsPerWay is the ring's part for each way of the table.
	octetsPerWay = 128
	// askedEntries is how many questions are remembered that had no answer here.
	askedEntries = 1 << 15
	// MaxBody is the longest answer that is kept.
	MaxBody = 1500
)

// Answer is an answer after its question. Body shares the cache's memory until something is put there, or is the caller's.
type Answer struct {
	Stamp         store.Stamp
	Counts        [3]uint16 // records in the answer, authority and additional section, without OPT
	RCode         uint8
	Authoritative bool
	ExtendedError int16 // −1 for none
	Body          []byte
}

// The head of an answer in the ring. The name and the body follow.
const (
	atHash    = 0
	atStamp   = 8
	atType    = 32
	atFlags   = 34
	atRCode   = 35
	atCounts  = 36
	atError   = 42
	atBodyLen = 44
	atNameLen = 46
	headLen   = 47

	flagAuthoritative = 1
	flagDNSSEC        = 2
)

// New makes a cache that grows to about size octets, and to MinSize at least.
func New(size int) *Cache {
	size = max(size, MinSize)
	ways := uint64(lineWays)
	for ways*2*octetsPerWay <= uint64(size) {
		ways *= 2
	}
	return &Cache{
		seed: maphash.MakeSeed(), ways: aligned(ways), mask: ways/lineWays - 1,
		ring: make([]byte, size/unit*unit), asked: make([]uint32, askedEntries),
		end: unit, // no answer is at place 0
	}
}

// aligned makes n words whose first begins a cache line.
func aligned(n uint64) []uint64 {
	words := make([]uint64, n+lineWays)
	skip := uint64(0)
	for uintptr(unsafe.Pointer(&words[skip]))%(lineWays*8) != 0 {
		skip++
	}
	return words[skip : skip+n : skip+n]
}

// Hash returns what a question is found by. dnssec is part of the question.
func (c *Cache) Hash(name zones.Name, t zones.Type, dnssec bool) uint64 {
	h := maphash.String(c.seed, string(name)) ^ uint64(t)<<1
	if dnssec {
		h ^= 1
	}
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>32
}

// Expect has the table's line for a hash fetched into the processor's cache.
func (c *Cache) Expect(hash uint64) { prefetch(unsafe.Pointer(&c.ways[hash&c.mask*lineWays])) }

// ExpectAnswer does the same for the answer; it is best called some time after Expect.
func (c *Cache) ExpectAnswer(hash uint64) {
	line := c.line(hash)
	for _, w := range line {
		if w != 0 && w>>placeBits == hash>>placeBits {
			at := uintptr(w & (1<<placeBits - 1) * unit % uint64(len(c.ring)))
			start := unsafe.Pointer(unsafe.SliceData(c.ring))
			prefetch(unsafe.Add(start, at))
			prefetch(unsafe.Add(start, min(at+64, uintptr(len(c.ring)-1))))
			return
		}
	}
}

func (c *Cache) line(hash uint64) *[lineWays]uint64 {
	return (*[lineWays]uint64)(c.ways[hash&c.mask*lineWays:])
}

// record returns the octets at a way's place; nil when the ring has written over them.
func (c *Cache) record(way uint64) []byte {
	place := way & (1<<placeBits - 1) * unit
	if way == 0 || c.end-place > uint64(len(c.ring)) {
		return nil
	}
	return c.ring[place%uint64(len(c.ring)):]
}

// Find returns the answer to a question, of which hash is the Hash.
func (c *Cache) Find(hash uint64, name zones.Name, t zones.Type, dnssec bool) (a Answer, ok bool) {
	for _, way := range c.line(hash) {
		if way>>placeBits != hash>>placeBits {
			continue
		}
		b := c.record(way)
		if b == nil || !is(b, hash, name, t, dnssec) {
			continue
		}
		flags := b[atFlags]
		a.Stamp = store.StampOf([3]uint64{
			binary.NativeEndian.Uint64(b[atStamp:]), binary.NativeEndian.Uint64(b[atStamp+8:]), binary.NativeEndian.Uint64(b[atStamp+16:]),
		})
		for i := range a.Counts {
			a.Counts[i] = binary.NativeEndian.Uint16(b[atCounts+2*i:])
		}
		a.RCode, a.Authoritative = b[atRCode], flags&flagAuthoritative != 0
		a.ExtendedError = int16(binary.NativeEndian.Uint16(b[atError:]))
		start := headLen + len(name)
		end := start + int(binary.NativeEndian.Uint16(b[atBodyLen:]))
		a.Body = b[start:end:end]
		return a, true
	}
	return Answer{}, false
}

func is(b []byte, hash uint64, name zones.Name, t zones.Type, dnssec bool) bool {
	return binary.NativeEndian.Uint64(b[atHash:]) == hash && zones.Type(binary.NativeEndian.Uint16(b[atType:])) == t &&
		b[atFlags]&flagDNSSEC != 0 == dnssec && int(b[atNameLen]) == len(name) && string(b[headLen:headLen+len(name)]) == string(name)
}

// Room reports whether an answer takes the place of no other yet.
func (c *Cache) Room() bool { return c.end < uint64(len(c.ring)) }

// Again reports whether the question was asked not long ago, without an answer here. What is asked once only is not worth keeping.
func (c *Cache) Again(hash uint64) bool {
	at := &c.asked[hash>>16%askedEntries]
	was := *at
	*at = uint32(hash)
	return was == uint32(hash)
}

// Put keeps an answer instead of what there is for the question. It copies everything. Answers that are too long are not kept.
func (c *Cache) Put(hash uint64, name zones.Name, t zones.Type, dnssec bool, a *Answer) {
	size := (headLen + len(name) + len(a.Body) + unit - 1) / unit * unit
	if len(a.Body) > MaxBody {
		return
	}
	at := c.end % uint64(len(c.ring))
	if rest := uint64(len(c.ring)) - at; rest < uint64(size) { // no answer goes over the end
		c.end += rest
		at = 0
	}
	place := c.end
	c.end += uint64(size)

	b := c.ring[at : at+uint64(size)]
	binary.NativeEndian.PutUint64(b[atHash:], hash)
	for i, w := range a.Stamp.Words() {
		binary.NativeEndian.PutUint64(b[atStamp+8*i:], w)
	}
	binary.NativeEndian.PutUint16(b[atType:], uint16(t))
	b[atFlags] = 0
	if a.Authoritative {
		b[atFlags] |= flagAuthoritative
	}
	if dnssec {
		b[atFlags] |= flagDNSSEC
	}
	b[atRCode] = a.RCode
	for i, n := range a.Counts {
		binary.NativeEndian.PutUint16(b[atCounts+2*i:], n)
	}
	binary.NativeEndian.PutUint16(b[atError:], uint16(a.ExtendedError))
	binary.NativeEndian.PutUint16(b[atBodyLen:], uint16(len(a.Body)))
	b[atNameLen] = byte(len(name))
	copy(b[headLen:], name)
	copy(b[headLen+len(name):], a.Body)
	*c.way(hash, name, t, dnssec) = hash>>placeBits<<placeBits | place/unit
}

// way returns the way for an answer: that of the one before it, else one that leads nowhere, else the oldest.
func (c *Cache) way(hash uint64, name zones.Name, t zones.Type, dnssec bool) *uint64 {
	line := c.line(hash)
	oldest, at := uint64(1<<64-1), 0
	for i, w := range line {
		b := c.record(w)
		if b == nil {
			oldest, at = 0, i
			continue
		}
		if w>>placeBits == hash>>placeBits && is(b, hash, name, t, dnssec) {
			return &line[i]
		}
		if place := w & (1<<placeBits - 1); place < oldest {
			oldest, at = place, i
		}
	}
	return &line[at]
}
