package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"balefire/dnsserver/transfer"
	"balefire/dnsserver/wire"
	"balefire/store"
	"balefire/zones"
)

const (
	// streamPatience is how many times longer than for an answer a client may take for something of a transfer: the kernel says late that
	// there is room again, when it has much to send.
	streamPatience = 6
	// maxDifference bounds what is gathered to answer an IXFR, in octets. More is a whole zone.
	maxDifference = 8 << 20
	// maxDifferenceUDP and maxChangesUDP bound that for who asks over UDP, where what comes of more does not fit, and the address may be
	// another's.
	maxDifferenceUDP = 256 << 10
	maxChangesUDP    = 64
	// transferTime is how long a transfer may take. What was deleted or replaced in its partition meanwhile stays on the disk.
	transferTime = time.Hour
)

// stream is a connection that takes the messages of a transfer, each with its length before it. It does not keep their memory.
type stream interface {
	// wait waits while the client has much to take. It fails when the connection is gone, or ctx ends.
	wait(ctx context.Context) error
	// write writes a message, behind what the client has to take. It fails when the connection is gone.
	write(framed []byte) error
}

var (
	errClientGone   = errors.New("the client is gone, or does not take what it asked for")
	errNoLonger     = errors.New("the client may no longer have the zone")
	errNoSOA        = errors.New("the zone has no content yet")
	errTransferTime = fmt.Errorf("a transfer may take %s", transferTime)
)

// transferWriters are those that nobody uses: each has a message's memory.
var transferWriters = sync.Pool{New: func() any { return new(transfer.Writer) }}

// transferForm is what a client got.
type transferForm uint8

const (
	formNone       transferForm = iota // an error, before it began
	formZone                           // the whole zone
	formDifference                     // what has changed
	formCurrent                        // the SOA alone
	formUnknown                        // what another node made
	transferForms
)

var transferFormNames = [transferForms]string{"none", "zone", "difference", "soa", "relayed"}

// transferJob is a transfer that was granted, and has to be made.
type transferJob struct {
	server *Server
	query  transferQuery
	opt    []byte // of each message
	padded bool   // each is, as the query was
	sign   signer // nil: not signed
	via    transport

	// Of a zone that another node has.
	distant    *DistantTransfer
	distantCtx context.Context
	distantEnd func()
}

// run makes the transfer, and writes it.
func (j *transferJob) run(to stream) {
	s := j.server
	began := s.opts.Now()
	ctx, cancel := context.WithTimeoutCause(s.out.ctx, transferTime, errTransferTime)
	defer cancel()
	out := &transferOut{to: to, ctx: ctx, opt: j.opt, padded: j.padded, sign: j.sign, now: s.opts.Now}
	w := transferWriters.Get().(*transfer.Writer)
	defer transferWriters.Put(w)
	var form transferForm
	var serial zones.Serial
	var err error
	if j.distant != nil {
		form = formUnknown
		err = j.pass(w, out)
	} else {
		form, serial, err = j.make(ctx, w, out)
	}
	messages, records := w.Sent()
	s.transferred(&j.query, j.via, form, serial, max(messages, out.messages), records, out.octets, began, err)
}

// make makes the transfer of a zone that is here.
func (j *transferJob) make(ctx context.Context, w *transfer.Writer, out *transferOut) (form transferForm, serial zones.Serial, err error) {
	s := j.server
	q := j.query.writerQuery(out.room(), out.send)
	w.Begin(q)
	rcode := wire.ServFail
	defer func() {
		if v := recover(); v != nil {
			s.logPanic(v)
			err = fmt.Errorf("making it panicked: %v", v)
		}
		if err != nil && !errors.Is(err, errClientGone) {
			out.last = true
			_ = w.Abort(uint8(rcode)) // the client is gone, or told
		}
	}()
	if err := s.out.enter(ctx); err != nil {
		return formNone, 0, err
	}
	defer s.out.leave()
	reading, refused := s.readFor(&j.query) // it was asked for when the transfer was granted, and that may be a while ago
	if refused != nil {
		rcode = refused.rcode
		return formNone, 0, errNoLonger
	}
	defer reading.Close()
	serial = reading.Info.Serial
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out.ctx = ctx
	s.conns.Go(func() {
		select {
		case <-reading.Closing():
			cancel(store.ErrClosed)
		case <-ctx.Done():
		}
	})
	form, err = j.query.write(ctx, reading, w, q)
	return form, serial, err
}

func (t *transferQuery) writerQuery(room int, send func(framed []byte) error) transfer.Query {
	return transfer.Query{ID: t.id, RD: t.rd, Question: t.question, Name: t.apex, Room: room, Send: send}
}

// write answers a query from a reading: with the whole zone, what has changed, or the SOA alone. With q.Only it is never the whole zone.
func (t *transferQuery) write(ctx context.Context, r *store.Reading, w *transfer.Writer, q transfer.Query) (transferForm, error) {
	w.Begin(q)
	soa, ok, err := r.RRset(t.apex, zones.Key{Type: zones.TypeSOA})
	switch {
	case err != nil:
		return formNone, err
	case !ok:
		return formNone, errNoSOA
	}
	if t.kind == zones.TypeIXFR {
		if now := soa.SOASerial(); t.since == now || t.since.IsAfter(now) {
			return formCurrent, w.Current(soa)
		}
		most := maxDifference
		changes := math.MaxInt
		if q.Only > 0 {
			most, changes = maxDifferenceUDP, maxChangesUDP
		}
		d, err := t.difference(r, soa, most, changes)
		if err != nil {
			return formNone, err
		}
		if d != nil {
			if err = w.Difference(soa, d); q.Only == 0 || !errors.Is(err, transfer.ErrTooLarge) {
				return formDifference, err
			}
			w.Begin(q)
		}
		if q.Only > 0 {
			return formCurrent, w.Current(soa)
		}
	}
	return formZone, w.Zone(soa, r.All(ctx))
}

// difference returns what has changed since the client's serial; nil when that isn't known, more than the zone, more octets than are to be gathered,
// or by more change sets than are to be read.
func (t *transferQuery) difference(r *store.Reading, soa zones.RRset, octets, sets int) (*transfer.Difference, error) {
	d := new(transfer.Difference)
	whole, err := r.Since(t.since, func(changes []zones.RRsetChange) bool {
		sets--
		d.Precede(changes)
		return sets >= 0 && d.Octets() <= octets
	})
	if err != nil || !whole {
		return nil, err
	}
	if octets, ok := d.Sent(soa, t.since); !ok || uint64(octets) > r.Info.Octets {
		return nil, nil
	}
	return d, nil
}

// transferOut is the way of a transfer's messages: each gets the OPT record, and is signed.
type transferOut struct {
	to     stream
	ctx    context.Context // of who makes them
	opt    []byte
	padded bool
	sign   signer
	now    func() time.Time
	last   bool // what comes is the last message, in place of the rest, and does not wait

	messages, octets int
}

// room returns what send needs at the end of each message.
func (o *transferOut) room() int { return transferRoom(o.opt, o.padded, o.sign) }

func transferRoom(opt []byte, padded bool, sign signer) int {
	n := len(opt)
	if padded {
		n += wire.PaddingLen + paddedRoom
	}
	if sign != nil {
		n += sign.Len()
	}
	return n
}

// paddedRoom is left free in a message that is padded, besides, so that the blocks that a full one has are not more than fit into a record of TLS.
const paddedRoom = transfer.MessageSize % wire.PaddingBlock

// send writes a message, which has its length before it, and room behind it.
func (o *transferOut) send(framed []byte) error {
	const frame = 2
	if !o.last {
		if err := o.to.wait(o.ctx); err != nil {
			return err
		}
	}
	framed = appendCounted(framed, frame, o.opt) // clients that have sent one look for it in each (RFC 5936 §2.2.5 lets them)
	if o.padded {
		behind := 0
		if o.sign != nil {
			behind = o.sign.Len()
		}
		framed = wire.PadOPT(framed, frame, len(o.opt), behind, wire.MaxSize)
	}
	if o.sign != nil {
		framed = o.sign.SignAt(framed, frame, o.now())
	}
	size := len(framed) - frame
	framed[0], framed[1] = byte(size>>8), byte(size)
	o.messages++
	o.octets += size
	return o.to.write(framed)
}

// transferred counts and logs a transfer.
func (s *Server) transferred(t *transferQuery, via transport, form transferForm, serial zones.Serial, messages, records, octets int, began time.Time, err error) {
	took := s.opts.Now().Sub(began)
	c := &s.out.counters
	if err != nil {
		c.failed.Add(1)
	} else {
		c.done[form].Add(1)
	}
	c.messages.Add(uint64(messages))
	c.octets.Add(uint64(octets))
	e := s.opts.Logger.Info()
	if err != nil {
		e = s.opts.Logger.Warn().Err(err)
	}
	e = e.Stringer("zone", t.apex).Stringer("client", t.from).Stringer("asked", t.kind).Str("sent", transferFormNames[form]).Str("transport", transportNames[via])
	if t.key != "" {
		e = e.Stringer("key", t.key)
	}
	if t.kind == zones.TypeIXFR {
		e = e.Uint32("since", uint32(t.since))
	}
	if form != formUnknown && form != formNone {
		e = e.Uint32("serial", uint32(serial)).Int("records", records)
	}
	e = e.Int("messages", messages).Int("octets", octets).Dur("took", took)
	if err != nil {
		e.Msg("a zone transfer failed")
		return
	}
	e.Msg("zone transferred")
}

var transportNames = [transports]string{"udp", "tcp", "tls"}
