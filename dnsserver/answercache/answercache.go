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
	// MaxExtra is how many octets of Extra may come with it.
	MaxExtra = 255
)

// Answer is an answer after its question. Body shares the cache's memory until something is put there, or is the caller's.
type Answer struct {
	Stamp         store.Stamp
	Counts        [3]uint16 // records in the answer, authority and additional section, without OPT
	RCode         uint8
	Authoritative bool
	ExtendedError int16 // −1 for none
	Body          []byte
	// Extra is the caller's, as Body is.
	Extra []byte
}

// Question is what an answer is found by. Family is the caller's, below 4: an answer may be one to many names, and is found by one that
// they have in common.
type Question struct {
	Name   zones.Name
	Type   zones.Type
	DNSSEC bool
	Family uint8
}

func (q *Question) flags() byte {
	flags := q.Family << familyShift
	if q.DNSSEC {
		flags |= flagDNSSEC
	}
	return flags
}

// The head of an answer in the ring. The name, the body and Extra follow.
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
	atAsked   = 47 // the flags that are the question's
	atExtra   = 48 // how many octets of Extra there are
	headLen   = 49

	flagAuthoritative = 1
	flagDNSSEC        = 2
	familyShift       = 2
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

// Hash returns what a question is found by.
func (c *Cache) Hash(q *Question) uint64 {
	h := maphash.String(c.seed, string(q.Name)) ^ uint64(q.Type)<<8 ^ uint64(q.flags())
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
func (c *Cache) Find(hash uint64, q *Question) (a Answer, ok bool) {
	for _, way := range c.line(hash) {
		if way>>placeBits != hash>>placeBits {
			continue
		}
		b := c.record(way)
		if b == nil || !is(b, hash, q) {
			continue
		}
		a.Stamp = store.StampOf([3]uint64{
			binary.NativeEndian.Uint64(b[atStamp:]), binary.NativeEndian.Uint64(b[atStamp+8:]), binary.NativeEndian.Uint64(b[atStamp+16:]),
		})
		for i := range a.Counts {
			a.Counts[i] = binary.NativeEndian.Uint16(b[atCounts+2*i:])
		}
		a.RCode, a.Authoritative = b[atRCode], b[atFlags]&flagAuthoritative != 0
		a.ExtendedError = int16(binary.NativeEndian.Uint16(b[atError:]))
		start := headLen + len(q.Name)
		end := start + int(binary.NativeEndian.Uint16(b[atBodyLen:]))
		a.Body = b[start:end:end]
		last := end + int(b[atExtra])
		a.Extra = b[end:last:last]
		return a, true
	}
	return Answer{}, false
}

func is(b []byte, hash uint64, q *Question) bool {
	return binary.NativeEndian.Uint64(b[atHash:]) == hash && zones.Type(binary.NativeEndian.Uint16(b[atType:])) == q.Type &&
		b[atAsked] == q.flags() && int(b[atNameLen]) == len(q.Name) && string(b[headLen:headLen+len(q.Name)]) == string(q.Name)
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
func (c *Cache) Put(hash uint64, q *Question, a *Answer) {
	size := (headLen + len(q.Name) + len(a.Body) + len(a.Extra) + unit - 1) / unit * unit
	if len(a.Body) > MaxBody || len(a.Extra) > MaxExtra {
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
	binary.NativeEndian.PutUint16(b[atType:], uint16(q.Type))
	b[atFlags], b[atAsked] = 0, q.flags()
	if a.Authoritative {
		b[atFlags] |= flagAuthoritative
	}
	b[atRCode] = a.RCode
	for i, n := range a.Counts {
		binary.NativeEndian.PutUint16(b[atCounts+2*i:], n)
	}
	binary.NativeEndian.PutUint16(b[atError:], uint16(a.ExtendedError))
	binary.NativeEndian.PutUint16(b[atBodyLen:], uint16(len(a.Body)))
	b[atNameLen], b[atExtra] = byte(len(q.Name)), byte(len(a.Extra))
	rest := b[headLen+copy(b[headLen:], q.Name):]
	copy(rest[copy(rest, a.Body):], a.Extra)
	*c.way(hash, q) = hash>>placeBits<<placeBits | place/unit
}

// way returns the way for an answer: that of the one before it, else one that leads nowhere, else the oldest.
func (c *Cache) way(hash uint64, q *Question) *uint64 {
	line := c.line(hash)
	oldest, at := uint64(1<<64-1), 0
	for i, w := range line {
		b := c.record(w)
		if b == nil {
			oldest, at = 0, i
			continue
		}
		if w>>placeBits == hash>>placeBits && is(b, hash, q) {
			return &line[i]
		}
		if place := w & (1<<placeBits - 1); place < oldest {
			oldest, at = place, i
		}
	}
	return &line[at]
}
