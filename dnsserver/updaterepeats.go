package dnsserver

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"balefire/dnsserver/wire"
)

const (
	// repeatMemory is for how long an UPDATE over UDP is known that comes again.
	repeatMemory = 30 * time.Second
	// maxRepeats is how many are; the oldest are forgotten first.
	maxRepeats = 8192
)

// repeats remembers the UPDATEs that came over UDP of late, and what they were answered with. It may be used by many goroutines at once.
type repeats struct {
	mu    sync.Mutex
	known map[repeatKey]*repeat
	ring  [maxRepeats]*repeat // those that were answered, in that order, around next
	next  int
}

// repeatKey tells messages apart: an ID alone is reused at once by clients that take ports from the system.
type repeatKey struct {
	from   netip.AddrPort
	octets [sha256.Size]byte
}

type repeat struct {
	key    repeatKey
	came   int64 // Unix nanoseconds
	ended  bool
	result Result // once ended; the mutex guards it
}

type repeatState uint8

const (
	repeatNew repeatState = iota
	repeatUnderWay
	repeatAnswered
)

// begin looks whether a message came before. When it is new, end must be called with what is returned.
func (r *repeats) begin(from netip.AddrPort, packet []byte, nanos int64) (*repeat, repeatState) {
	key := repeatKey{from, sha256.Sum256(packet)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if was := r.known[key]; was != nil && nanos-was.came < int64(repeatMemory) {
		if was.ended {
			return &repeat{result: was.result}, repeatAnswered
		}
		return nil, repeatUnderWay
	}
	if r.known == nil {
		r.known = make(map[repeatKey]*repeat)
	}
	now := &repeat{key: key, came: nanos}
	r.known[key] = now
	return now, repeatNew
}

// end notes what a message was answered with. One that nothing came of is forgotten: it can be made again, and anybody may send as many as he likes, which must
// not put out of mind those that were made.
func (r *repeats) end(this *repeat, result Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	this.ended, this.result = true, result
	switch result.RCode {
	case wire.FormErr, wire.NotAuth, wire.Refused:
		if r.known[this.key] == this {
			delete(r.known, this.key)
		}
		return
	}
	if oldest := r.ring[r.next]; oldest != nil && r.known[oldest.key] == oldest {
		delete(r.known, oldest.key)
	}
	r.ring[r.next] = this
	r.next = (r.next + 1) % maxRepeats
}
