package transfer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"balefire/zones"
)

// Sizes, in octets.
const (
	// MessageSize is what messages of many records are filled to, what is left free included: compression can't reach beyond, and
	// with its frame it is one record of TLS.
	MessageSize = 16<<10 - frameLen
	// maxMessage is the longest message (RFC 1035 §4.2.2).
	maxMessage = 1<<16 - 1
	// frameLen is the length that precedes a message over TCP.
	frameLen  = 2
	headerLen = 12
)

// The header's flags, in its third octet.
const (
	flagQR = 0x80
	flagAA = 0x04
	flagRD = 0x01
)

// ErrTooLarge means that what is to be sent does not fit the message, or messages, that it may take.
var ErrTooLarge = errors.New("too large for a message")

// Query is the query that is answered, and how.
type Query struct {
	ID       uint16
	RD       bool
	Question []byte     // as it came: the first message repeats it
	Name     zones.Name // of the question
	// Room is left free at the end of each message.
	Room int
	// Only, if it is not 0, is the greatest length of the one message that the answer must fit, Room included.
	Only int
	// Send is given one message after another, each with its length before it, in two octets. It may use what is free behind it, and must
	// have done with it when it returns. After an error nothing more is sent, but by Abort.
	Send func(framed []byte) error
}

// Writer makes the messages of a transfer. It is for one goroutine, and can be used for one transfer after another.
type Writer struct {
	q     Query
	buf   []byte // the message, behind its frame
	count int    // records in it
	soft  int    // length of buf that is not gone beyond, but by a record that is longer by itself
	hard  int
	err   error // after which nothing is sent
	names names

	owner   zones.Name // of the record before; "" when there is none in this message
	ownerAt int        // where it is in the message

	messages int // sent
	records  int
}

// Begin begins the answer to a query.
func (w *Writer) Begin(q Query) {
	if w.buf == nil {
		w.buf = make([]byte, 0, frameLen+maxMessage)
	}
	w.q, w.err, w.messages, w.records = q, nil, 0, 0
	w.hard = frameLen + maxMessage - q.Room
	w.soft = frameLen + MessageSize - q.Room
	if q.Only > 0 {
		w.hard = frameLen + min(q.Only, maxMessage) - q.Room
		w.soft = w.hard
	}
	w.begin()
}

// begin begins a message.
func (w *Writer) begin() {
	w.buf = append(w.buf[:0], make([]byte, frameLen+headerLen)...)
	w.count, w.owner = 0, ""
	w.names.forget()
	if w.messages > 0 {
		return
	}
	question := w.q.Question
	// Owners would take over the letters' case of the question, which somebody may show, or keep.
	if n := w.q.Name; len(n) > 1 && len(question) >= len(n) && string(question[:len(n)]) == string(n) {
		w.owner, w.ownerAt = n, headerLen
		w.buf = w.names.appendName(w.buf, frameLen, n)
		question = question[len(n):]
	}
	w.buf = append(w.buf, question...)
}

// Sent returns how many messages were sent, and records in them.
func (w *Writer) Sent() (messages, records int) { return w.messages, w.records }

// Add adds the records of an RRset.
func (w *Writer) Add(s zones.RRset) error {
	for rdata := range s.RDatas() {
		if err := w.add(s.Owner, s.Type, s.TTL, rdata); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) add(owner zones.Name, t zones.Type, ttl uint32, rdata []byte) error {
	if w.err != nil {
		return w.err
	}
	start := len(w.buf)
	w.append(owner, t, ttl, rdata)
	if len(w.buf) > w.soft && w.count > 0 {
		if w.q.Only > 0 {
			return w.fail(ErrTooLarge)
		}
		w.buf = w.buf[:start]
		if err := w.flush(0); err != nil {
			return err
		}
		w.append(owner, t, ttl, rdata)
	}
	if len(w.buf) > w.hard {
		return w.fail(fmt.Errorf("%s %s: %w", owner, t, ErrTooLarge))
	}
	w.count++
	return nil
}

func (w *Writer) fail(err error) error {
	w.err = err
	return err
}

// append appends a record. RDATA that would go beyond a message is left out: then the message is too long all the same.
func (w *Writer) append(owner zones.Name, t zones.Type, ttl uint32, rdata []byte) {
	if owner == w.owner && len(owner) > 1 && w.ownerAt < maxPointer {
		w.buf = binary.BigEndian.AppendUint16(w.buf, 0xc000|uint16(w.ownerAt))
	} else {
		w.owner, w.ownerAt = owner, len(w.buf)-frameLen
		w.buf = w.names.appendName(w.buf, frameLen, owner)
	}
	w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(t))
	w.buf = binary.BigEndian.AppendUint16(w.buf, 1) // IN
	w.buf = binary.BigEndian.AppendUint32(w.buf, ttl)
	w.buf = append(w.buf, 0, 0)
	start, at := len(w.buf), 0
	if zones.MayCompress(t) {
		spans, n, err := zones.EmbeddedNames(t, rdata)
		if err != nil {
			n = 0 // what is stored was checked: this is not reached, and does no harm
		}
		for _, s := range spans[:n] {
			w.buf = append(w.buf, rdata[at:s.Start]...)
			w.buf = w.names.appendName(w.buf, frameLen, zones.NameView(rdata[s.Start:s.End]))
			at = s.End
		}
	}
	w.buf = append(w.buf, rdata[at:]...)
	binary.BigEndian.PutUint16(w.buf[start-2:], uint16(len(w.buf)-start))
}

// flush sends the message, and begins the next.
func (w *Writer) flush(rcode uint8) error {
	message := w.buf[frameLen:]
	binary.BigEndian.PutUint16(w.buf, uint16(len(message)))
	binary.BigEndian.PutUint16(message, w.q.ID)
	message[2] = flagQR // the opcode is 0
	if rcode == 0 {
		message[2] |= flagAA // RFC 5936 §2.2.1
	}
	if w.q.RD {
		message[2] |= flagRD
	}
	message[3] = rcode
	if w.messages == 0 && len(w.q.Question) > 0 {
		message[5] = 1
	}
	binary.BigEndian.PutUint16(message[6:], uint16(w.count))
	if err := w.q.Send(w.buf); err != nil {
		return w.fail(err)
	}
	w.messages++
	w.records += w.count
	w.begin()
	return nil
}

// Close sends what has not been sent. It ends the answer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if w.count == 0 && w.messages > 0 {
		return nil
	}
	return w.flush(0)
}

// Abort ends the answer by a message that says that it failed, in place of what has not been sent (RFC 5936 §2.2). It is for after any error,
// one of Send included, whose message then counts as not sent.
func (w *Writer) Abort(rcode uint8) error {
	w.err = nil
	w.begin()
	return w.flush(rcode)
}

// Zone answers with a whole zone (RFC 5936 §2.2): its SOA, all else, and its SOA again. all has the SOA, too, somewhere.
func (w *Writer) Zone(soa zones.RRset, all iter.Seq2[zones.RRset, error]) error {
	if err := w.Add(soa); err != nil {
		return err
	}
	for s, err := range all {
		if err != nil {
			return err
		}
		if s.Type == zones.TypeSOA && s.Owner == soa.Owner {
			continue
		}
		if err := w.Add(s); err != nil {
			return err
		}
	}
	if err := w.Add(soa); err != nil {
		return err
	}
	return w.Close()
}

// Current answers with the zone's SOA alone: nothing has changed, or what has does not fit (RFC 1995 §2).
func (w *Writer) Current(soa zones.RRset) error {
	if err := w.Add(soa); err != nil {
		return err
	}
	return w.Close()
}

// Difference answers with what has changed (RFC 1995 §4): the SOA, what was removed behind the SOA of then, what was added behind that
// of now, and this again.
func (w *Writer) Difference(soa zones.RRset, d *Difference) error {
	was, changes, ok := d.from(soa)
	if !ok {
		return w.fail(errors.New("a difference that is not one of this zone"))
	}
	for _, s := range []zones.RRset{soa, was} {
		if err := w.Add(s); err != nil {
			return err
		}
	}
	for _, c := range changes {
		if err := w.addOnly(c.Before, c.After); err != nil {
			return err
		}
	}
	if err := w.Add(soa); err != nil {
		return err
	}
	for _, c := range changes {
		if err := w.addOnly(c.After, c.Before); err != nil {
			return err
		}
	}
	if err := w.Add(soa); err != nil {
		return err
	}
	return w.Close()
}

// addOnly adds the records of s that other does not have.
func (w *Writer) addOnly(s, other zones.RRset) error {
	for rdata := range only(s, other) {
		if err := w.add(s.Owner, s.Type, s.TTL, rdata); err != nil {
			return err
		}
	}
	return nil
}
