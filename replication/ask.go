package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"balefire/replication/relay"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/answer"
)

// A question about a zone that is elsewhere goes to one node that holds it, and comes back as an answer, not as a message: ID,
// EDNS, cookies and size are the business of who was asked (docs/formats/question.md).
const (
	askVersion = 1
	askDNSSEC  = 1 // flag: signatures and proofs are wanted
	// askPatience is how long all attempts may take: a resolver waits a little longer before it asks another server.
	askPatience = 800 * time.Millisecond

	askHeader   = 1 + 1 + 2 + 4 + 8 // version, flags, type, partition, least offset + 1
	replyHeader = 1 + 1 + 8         // version, kind, offset + 1

	replyAnswer    = 0
	replyNotHosted = 1
	replyAwaiting  = 2
	replyExpired   = 3
)

// ErrNoHolder means that no node of the region that this one knows of holds the partition, at the position that it needs.
var ErrNoHolder = errors.New("no node of the region holds the partition")

var errAsk = errors.New("not a question as nodes ask it")

// asked is a question as it travels.
type asked struct {
	partition int32
	least     int64 // the offset that the answer must be from, or a later one; -1: any
	question  answer.Question
	client    netip.Addr
}

func (a asked) append(dst []byte) []byte {
	var flags byte
	if a.question.DNSSEC {
		flags |= askDNSSEC
	}
	dst = append(dst, askVersion, flags)
	dst = binary.BigEndian.AppendUint16(dst, uint16(a.question.Type))
	dst = binary.BigEndian.AppendUint32(dst, uint32(a.partition))
	dst = binary.BigEndian.AppendUint64(dst, uint64(a.least+1))
	client := a.client.AsSlice()
	dst = append(dst, byte(len(client)))
	dst = append(dst, client...)
	return append(dst, a.question.Name...)
}

func parseAsked(b []byte) (a asked, err error) {
	if len(b) < askHeader+1 || b[0] != askVersion || b[1]&^askDNSSEC != 0 {
		return a, errAsk
	}
	a.question.DNSSEC = b[1]&askDNSSEC != 0
	a.question.Type = zones.Type(binary.BigEndian.Uint16(b[2:]))
	a.partition = int32(binary.BigEndian.Uint32(b[4:]))
	a.least = int64(binary.BigEndian.Uint64(b[8:])) - 1
	client := int(b[askHeader])
	b = b[askHeader+1:]
	if a.partition < 0 || a.least < -1 || client > len(b) {
		return a, errAsk
	}
	if client > 0 {
		var ok bool
		if a.client, ok = netip.AddrFromSlice(b[:client]); !ok {
			return a, errAsk
		}
	}
	name, size, err := zones.NameFromWire(b[client:])
	if err != nil {
		return a, fmt.Errorf("%w: %w", errAsk, err)
	}
	if size != len(b)-client || string(name) != string(b[client:]) { // names are asked for in lower case
		return a, errAsk
	}
	a.question.Name = name
	return a, nil
}

// Ask has a node that holds the zone answer a question, and fills a with that. The zone is h's, whose Status is store.Elsewhere.
// buf is memory for a to share, and is returned, perhaps grown, to be used again when a is not needed any more. The error is
// store.ErrNoZone when the zone is hosted no longer, store.ErrAwaiting or store.ErrExpired when it is and is not answered from, else it says
// why there is no answer.
func (n *Node) Ask(h store.Holding, q answer.Question, client netip.Addr, buf []byte, a *answer.Answer) ([]byte, error) {
	least := n.leastOf(h.Partition)
	holders := n.holders(h.Partition)
	if len(holders) == 0 {
		n.metrics.asked("no-holder")
		return buf, n.unanswered(h, fmt.Errorf("partition %d: %w", h.Partition, ErrNoHolder))
	}
	ctx, cancel := context.WithTimeout(n.ctx, askPatience)
	defer cancel()
	var room [askHeader + 1 + 16 + zones.MaxNameLen]byte
	request := asked{partition: h.Partition, least: least, question: q, client: client}.append(room[:0])
	for {
		var from string
		var err error
		if buf, from, err = n.region.relay.Ask(ctx, holders, request, buf[:0]); err != nil {
			n.metrics.asked("failed")
			return buf, n.unanswered(h, fmt.Errorf("partition %d: %w", h.Partition, err))
		}
		offset, err := readReply(buf, least, a)
		if err == nil || errors.Is(err, store.ErrNoZone) || store.Withheld(err) {
			n.sawElsewhere(ctx, h.Partition, offset)
			n.metrics.asked("answered")
			return buf, err
		}
		// Another may do better. Each is asked once.
		holders = slices.DeleteFunc(slices.Clone(holders), func(p relay.Peer) bool { return p.ID == from })
		if len(holders) == 0 {
			n.metrics.asked("failed")
			return buf, n.unanswered(h, fmt.Errorf("partition %d: answer of %s: %w", h.Partition, from, err))
		}
	}
}

// unanswered says now and then why questions get no answer, and returns err.
func (n *Node) unanswered(h store.Holding, err error) error {
	n.unasked.Warn().Err(err).Stringer("zone", h.Apex).Msg("a question about a zone that is elsewhere gets no answer")
	return err
}

var errReply = errors.New("not an answer as nodes give it")

// readReply fills a with a peer's answer, which must not be from before the least offset, and returns where it is from. The error
// is store.ErrNoZone when the zone is hosted no longer, and store.ErrAwaiting or store.ErrExpired when it is not answered from.
func readReply(reply []byte, least int64, a *answer.Answer) (offset int64, err error) {
	if len(reply) < replyHeader || reply[0] != askVersion {
		return 0, errReply
	}
	if offset = int64(binary.BigEndian.Uint64(reply[2:])) - 1; offset < least {
		return 0, fmt.Errorf("%w: from offset %d, before %d", errReply, offset, least)
	}
	switch reply[1] {
	case replyNotHosted:
		return offset, store.ErrNoZone
	case replyAwaiting:
		return offset, store.ErrAwaiting
	case replyExpired:
		return offset, store.ErrExpired
	case replyAnswer:
		return offset, answer.Decode(reply[replyHeader:], a)
	default:
		return 0, errReply
	}
}

// answerAsked is the other side of Ask: it answers for another node, from this node's own copies alone.
func (n *Node) answerAsked(ctx context.Context, request, reply []byte) ([]byte, relay.Status) {
	q, err := parseAsked(request)
	if err != nil {
		return reply, relay.Failed
	}
	if !n.Holds(q.partition) {
		return reply, relay.NotHere
	}
	p := n.store.Partition(q.partition)
	if p == nil {
		return reply, relay.NotHere
	}
	// What every Find sees from now on.
	offset := p.Settled()
	if offset < q.least {
		if offset = n.catchUp(ctx, p, q.least); offset < q.least {
			return reply, relay.Behind
		}
	}
	h := n.Find(q.question.Name, q.question.Type)
	defer h.Release()
	begun := reply
	reply = append(reply, askVersion, replyAnswer)
	reply = binary.BigEndian.AppendUint64(reply, uint64(offset+1))
	switch h.Status {
	case store.Here:
		if h.Partition != q.partition { // the other node's index is behind: it does not know which offset it must not go below
			return begun, relay.NotHere
		}
	case store.NotHosted:
		reply[len(begun)+1] = replyNotHosted
		return reply, relay.OK
	case store.Unavailable:
		switch {
		case h.Partition != q.partition:
			return begun, relay.NotHere
		case errors.Is(h.Err, store.ErrAwaiting):
			reply[len(begun)+1] = replyAwaiting
			return reply, relay.OK
		case errors.Is(h.Err, store.ErrExpired):
			reply[len(begun)+1] = replyExpired
			return reply, relay.OK
		}
		return begun, relay.NotHere
	default:
		return begun, relay.NotHere
	}
	a := n.answers.Get().(*answer.Answer)
	defer func() {
		a.Reset()
		n.answers.Put(a)
	}()
	if err := answer.Resolve(h.View, q.question, a); err != nil {
		return begun, relay.Failed
	}
	return answer.Encode(reply, a), relay.OK
}

// catchUpPatience is how long a question waits for a copy that is behind: after a hand-over it mostly is by milliseconds.
const catchUpPatience = 150 * time.Millisecond

// catchUp waits for a partition to come to an offset, for a moment, and returns where it is.
func (n *Node) catchUp(ctx context.Context, p *store.Partition, offset int64) int64 {
	r := n.replica(p.Number())
	if r == nil {
		return p.Settled()
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpPatience)
	defer cancel()
	arrived, leave, err := r.waiters.join(offset)
	if err != nil {
		return p.Settled()
	}
	defer leave()
	if at := p.Settled(); at >= offset {
		return at
	}
	select {
	case <-arrived:
	case <-ctx.Done():
	}
	return p.Settled()
}

// leastOf is the offset that an answer about a partition must be from, or a later one: none that this node has answered from or
// acknowledged before.
func (n *Node) leastOf(partition int32) int64 {
	return n.copies.Load().seen[partition].Load() - 1
}

// Seen is the offset of a partition that this node has answered from, or acknowledged: none of its answers may be from before that. −1 for
// none.
func (n *Node) Seen(partition int32) int64 { return n.leastOf(partition) }

// sawElsewhere is saw of an answer that another node gives. If this node's own copy has become one that is answered from while that
// was on its way, it waits for the copy to come as far.
func (n *Node) sawElsewhere(ctx context.Context, partition int32, offset int64) {
	n.saw(partition, offset)
	r := n.replica(partition)
	if r == nil {
		return
	}
	// Under the lock: it was held before the copy was found to be as far as all answers, and the offset counted; or the copy is held.
	r.mu.Lock()
	p, holding := r.partition, r.caughtUp
	r.mu.Unlock()
	if p != nil && holding && p.Settled() < offset {
		n.catchUp(ctx, p, offset)
	}
}

// saw notes that this node has answered from an offset, or acknowledged it.
func (n *Node) saw(partition int32, offset int64) {
	if partition < 0 || partition >= n.count() {
		return
	}
	seen := &n.copies.Load().seen[partition]
	for {
		was := seen.Load()
		if was >= offset+1 || seen.CompareAndSwap(was, offset+1) {
			return
		}
	}
}
