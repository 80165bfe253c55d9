package dnsserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"balefire/dnsserver/transfer"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones"
)

// A zone that another node has is transferred by that node: it decides whether the client may have it, and makes the messages. This
// node gives them what is its own, the OPT record and the signature, and writes them to the client as fast as that takes them.

// DistantTransfers has zones transferred that other nodes have.
type DistantTransfers interface {
	// Transfer passes a query on to a node that has the zone of h, and returns what that has decided. It may wait for that, but not for long;
	// the messages are on their way until ctx ends. store.ErrNoZone says that the zone is not hosted any more; any other error, that
	// there is no answer.
	Transfer(ctx context.Context, h store.Holding, q TransferQuery) (*DistantTransfer, error)
}

// TransferQuery is a query for a transfer as a node passes it on to another, which believes what it says of the client.
type TransferQuery struct {
	Packet []byte     // the query, without TSIG
	Key    zones.Name // that it was signed with; "" for none
	From   netip.Addr
	Room   int // what to leave free at the end of each message, octets
	Only   int // the greatest length of the only message, Room included; 0: as many as it takes
}

// TransferVerdict is what a node has decided: the transfer begins if RCode is 0; else ExtendedError, if not negative, says why.
type TransferVerdict struct {
	RCode         uint16
	ExtendedError int32
	At            store.Position // of the zone that the transfer is of; when RCode is 0
}

// DistantTransfer is a verdict, and the messages, each with its length before it, in two octets. Reading them ends in io.EOF only when they are
// all there were. There is none to be read, but something to be closed, when RCode is not 0.
type DistantTransfer struct {
	TransferVerdict
	Messages io.ReadCloser
}

// maxRoom bounds TransferQuery.Room.
const maxRoom = 1024

// ErrNotHere means that a query was passed on to a node that does not hold the zone.
var ErrNotHere = errors.New("the zone is not held by this node")

// AnswerTransfer answers a query that another node passes on, from what this node holds. It calls begin once with what was decided, then,
// if that is no refusal, send with one message after another: framed as those of DistantTransfer, in memory that send has done with when it returns. After
// an error not all was sent.
func (s *Server) AnswerTransfer(ctx context.Context, tq TransferQuery, begin func(TransferVerdict) error, send func(framed []byte) error) error {
	var q wire.Query
	wire.Parse(tq.Packet, &q)
	if q.Verdict != wire.Slow || q.TSIG != 0 || q.Opcode != wire.OpQuery || tq.Room < 0 || tq.Room > maxRoom || tq.Only < 0 {
		return errors.New("not a query for a transfer as nodes pass it on")
	}
	t, ok := newTransferQuery(&q, tq.Packet, tq.Key, tq.From)
	if !ok {
		return errors.New("an IXFR without a SOA is passed on")
	}
	if s.opts.Contents == nil {
		return ErrNotHere
	}
	h := s.opts.Zones.Find(t.apex, zones.TypeSOA)
	here := h.Status == store.Here && h.Apex == t.apex
	h.Release()
	if !here {
		return ErrNotHere
	}
	reading, refused := s.readFor(&t)
	if refused != nil {
		return begin(TransferVerdict{RCode: uint16(refused.rcode), ExtendedError: int32(refused.why)})
	}
	defer reading.Close()
	if err := begin(TransferVerdict{ExtendedError: int32(wire.NoExtendedError), At: reading.Position()}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, transferTime, errTransferTime)
	defer cancel()
	if err := s.out.enter(ctx); err != nil {
		return err
	}
	defer s.out.leave()
	w := transferWriters.Get().(*transfer.Writer)
	defer transferWriters.Put(w)
	octets := 0
	wq := t.writerQuery(tq.Room, func(framed []byte) error {
		select {
		case <-reading.Closing():
			return store.ErrClosed
		case <-s.out.ctx.Done():
			return errServerEnds
		default:
			octets += len(framed) - 2
			return send(framed)
		}
	})
	wq.Only = tq.Only
	began := s.opts.Now()
	form, err := t.write(ctx, reading, w, wq)
	messages, records := w.Sent()
	s.transferred(&t, overTCP, form, reading.Info.Serial, messages, records, octets, began, err)
	return err
}

// transferElsewhere passes a query on.
func (x *exchange) transferElsewhere(h store.Holding, packet []byte, t transferQuery, sign signer, dst []byte) []byte {
	s := x.server
	if s.opts.DistantTransfers == nil {
		return x.refuse(dst, wire.ServFail, wire.EDENotReady)
	}
	if !x.mayAsk {
		x.distant = true // for the lane that may
		return nil
	}
	release, ok := s.out.relay()
	if !ok {
		x.count.unasked++
		return x.refuse(dst, wire.ServFail, wire.EDENotReady)
	}
	ctx, cancel := context.WithTimeoutCause(s.out.ctx, transferTime, errTransferTime)
	opt := wire.AppendOPT(nil, x.query, &x.reply)
	tq := TransferQuery{Packet: withoutTSIG(packet, x.query.TSIG), Key: t.key, From: t.from, Room: len(opt)}
	if x.via == overUDP {
		tq.Only = x.reply.Limit
	} else {
		tq.Room = transferRoom(opt, x.pads(opt), sign)
	}
	got, err := s.opts.DistantTransfers.Transfer(ctx, h, tq)
	keep := false
	defer func() {
		if !keep {
			if got != nil {
				got.Messages.Close()
			}
			cancel()
			release()
		}
	}()
	switch {
	case errors.Is(err, store.ErrNoZone):
		return x.refuse(dst, wire.NotAuth, wire.EDENotAuthoritative)
	case err != nil:
		x.count.unasked++
		return x.refuse(dst, wire.ServFail, wire.EDENotReady)
	}
	x.count.asked++
	if got.RCode != 0 {
		return x.refuse(dst, wire.RCode(got.RCode), wire.ExtendedError(got.ExtendedError))
	}
	if x.via == overUDP {
		return x.passUDP(got, opt, dst)
	}
	keep = true
	end := func() { got.Messages.Close(); cancel(); release() }
	x.transfer = &transferJob{server: s, query: t, opt: opt, padded: x.pads(opt), sign: sign, via: x.via, distant: got, distantCtx: ctx, distantEnd: end}
	x.count.reply(wire.NoError, false)
	return nil
}

// withoutTSIG returns a packet without its TSIG record, which begins at an offset; with an offset of 0, the packet.
func withoutTSIG(packet []byte, at int) []byte {
	if at == 0 {
		return bytes.Clone(packet)
	}
	packet = bytes.Clone(packet[:at])
	binary.BigEndian.PutUint16(packet[10:], binary.BigEndian.Uint16(packet[10:])-1)
	return packet
}

// passUDP answers with the one message that another node has made.
func (x *exchange) passUDP(got *DistantTransfer, opt, dst []byte) []byte {
	start := len(dst)
	framed, err := readFramed(got.Messages, make([]byte, 2+x.reply.Limit), len(opt))
	if err != nil {
		return x.refuse(dst, wire.ServFail, wire.EDENotReady)
	}
	x.count.reply(wire.NoError, false)
	return appendCounted(append(dst, framed[2:]...), start, opt)
}

// readFramed reads a message and the length before it into buf, where room has to be left. io.EOF says that there is none.
func readFramed(in io.Reader, buf []byte, room int) ([]byte, error) {
	if _, err := io.ReadFull(in, buf[:2]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(buf))
	if size < wire.HeaderLen || 2+size+room > len(buf) {
		return nil, fmt.Errorf("a message of %d octets", size)
	}
	if _, err := io.ReadFull(in, buf[2:2+size]); err != nil {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return buf[:2+size], nil
}

// pass writes what another node makes.
func (j *transferJob) pass(w *transfer.Writer, out *transferOut) (err error) {
	defer j.distantEnd()
	stop := context.AfterFunc(j.distantCtx, func() { j.distant.Messages.Close() })
	defer stop()
	out.ctx = j.distantCtx
	w.Begin(j.query.writerQuery(out.room(), out.send)) // for an error
	defer func() {
		if err != nil && !errors.Is(err, errClientGone) {
			out.last = true
			_ = w.Abort(uint8(wire.ServFail)) // the client is gone, or told
		}
	}()
	in := bufio.NewReaderSize(j.distant.Messages, transfer.MessageSize)
	buf := make([]byte, 2+wire.MaxSize)
	for {
		framed, err := readFramed(in, buf, out.room())
		if err == io.EOF && out.messages > 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the node that has the zone: %w", err)
		}
		if err := out.send(framed); err != nil {
			return err
		}
	}
}
