package relay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// The most octets of a request's and of a reply's payload. A whole answer about DNS can be larger than a
// message; a question never is.
const (
	MaxRequest = 128 << 10
	MaxReply   = 1 << 20
)

// headerLen is the length of what precedes the payload of a frame:
//
//	0                 4    8      9   10              12
//	| payload length  | id | kind | 0 | time left, ms | payload
//
// All numbers are big-endian.
const headerLen = 12

// kind is what a frame is. These constants are part of the format.
type kind uint8

const (
	kindRequest kind = 1
	kindWelcome kind = 2 // from the server, first of all: the client is known
	kindReply   kind = 16
)

// Status is how a peer answers. Frames carry it added to kindReply, so the values are part of the format.
type Status uint8

const (
	OK         Status = iota
	Behind            // its copy is older than was asked for
	NotHere           // it does not hold what was asked about
	Failed            // it holds it, but could not tell
	Overloaded        // it has too much to do

	statuses
)

func (s Status) String() string {
	if s >= statuses {
		return "unknown"
	}
	return [...]string{"ok", "behind", "not here", "failed", "overloaded"}[s]
}

// errMalformed is wrapped with what a frame has that it must not have. The connection is of no use after it.
var errMalformed = errors.New("malformed frame")

type frame struct {
	id      uint32
	kind    kind
	left    time.Duration // until the asker gives up, in whole milliseconds; 0: it doesn't say
	payload []byte
}

func appendHeader(dst []byte, id uint32, k kind, left time.Duration, payload int) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(payload))
	dst = binary.BigEndian.AppendUint32(dst, id)
	dst = append(dst, byte(k), 0)
	return binary.BigEndian.AppendUint16(dst, uint16(min(left.Milliseconds(), 0xffff)))
}

// frameReader reads frames of one direction. It is used by one goroutine.
type frameReader struct {
	conn net.Conn
	in   *bufio.Reader
	buf  []byte
	// requests says which direction it is: requests, or a welcome and replies.
	requests bool
	// idle is how long to wait for a frame to begin; 0: for ever.
	idle time.Duration
}

const (
	readBuffer = 16 << 10
	keepBuffer = 64 << 10 // octets of a buffer that are kept for the next frame
)

var (
	frameTimeout = 5 * time.Second // for a frame to arrive that has begun
	writeTimeout = 2 * time.Second // for the peer to take what is written at once
)

func newFrameReader(conn net.Conn, requests bool, idle time.Duration) *frameReader {
	return &frameReader{conn: conn, in: bufio.NewReaderSize(conn, readBuffer), requests: requests, idle: idle}
}

// next reads a frame. Its payload is good until the next call. io.EOF means that the peer closed the
// connection between two frames.
func (r *frameReader) next() (frame, error) {
	if r.in.Buffered() == 0 && r.idle > 0 {
		if err := r.conn.SetReadDeadline(time.Now().Add(r.idle)); err != nil {
			return frame{}, err
		}
	}
	if _, err := r.in.Peek(1); err != nil {
		return frame{}, err
	}
	hurried := false
	if r.in.Buffered() < headerLen {
		hurried = true
		if err := r.conn.SetReadDeadline(time.Now().Add(frameTimeout)); err != nil {
			return frame{}, err
		}
	}
	h, err := r.in.Peek(headerLen)
	if err != nil {
		return frame{}, whole(err)
	}
	f := frame{
		id:   binary.BigEndian.Uint32(h[4:]),
		kind: kind(h[8]),
		left: time.Duration(binary.BigEndian.Uint16(h[10:])) * time.Millisecond,
	}
	size := int64(binary.BigEndian.Uint32(h))
	if err := r.check(&f, size, h[9]); err != nil {
		return frame{}, err
	}
	if _, err := r.in.Discard(headerLen); err != nil {
		return frame{}, err
	}
	if int64(r.in.Buffered()) < size && !hurried {
		hurried = true
		if err := r.conn.SetReadDeadline(time.Now().Add(frameTimeout)); err != nil {
			return frame{}, err
		}
	}
	if cap(r.buf) < int(size) || cap(r.buf) > keepBuffer {
		r.buf = make([]byte, max(int(size), 512))
	}
	f.payload = r.buf[:size]
	if _, err := io.ReadFull(r.in, f.payload); err != nil {
		return frame{}, whole(err)
	}
	if hurried && r.idle == 0 {
		return f, r.conn.SetReadDeadline(time.Time{})
	}
	return f, nil
}

// whole turns an end inside a frame into an error.
func whole(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *frameReader) check(f *frame, size int64, zero byte) error {
	most := int64(MaxReply)
	switch {
	case r.requests && f.kind == kindRequest:
		most = MaxRequest
	case !r.requests && f.kind == kindWelcome:
		most = 0
	case !r.requests && f.kind >= kindReply && f.kind < kindReply+kind(statuses):
	default:
		return fmt.Errorf("%w: kind %d", errMalformed, f.kind)
	}
	if size > most {
		return fmt.Errorf("%w: %d octets of payload, and %d is the most", errMalformed, size, most)
	}
	if zero != 0 || !r.requests && f.left != 0 {
		return fmt.Errorf("%w: an octet that must be 0 is not", errMalformed)
	}
	return nil
}

// frameWriter joins the frames that many goroutines put into few writes. Its run is the only one that writes.
type frameWriter struct {
	conn net.Conn

	mu     sync.Mutex
	ready  sync.Cond // something is to be written, or room has been made, or it is closed
	out    []byte
	closed bool
}

const maxWaiting = 1 << 20 // octets that wait to be written

func newFrameWriter(conn net.Conn) *frameWriter {
	w := &frameWriter{conn: conn}
	w.ready.L = &w.mu
	return w
}

// put queues a frame, which it copies. It waits for room when wait is set; otherwise no room is false, as is
// a closed writer.
func (w *frameWriter) put(id uint32, k kind, left time.Duration, payload []byte, wait bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed && len(w.out) > 0 && len(w.out)+headerLen+len(payload) > maxWaiting {
		if !wait {
			return false
		}
		w.ready.Wait()
	}
	if w.closed {
		return false
	}
	first := len(w.out) == 0
	w.out = appendHeader(w.out, id, k, left, len(payload))
	w.out = append(w.out, payload...)
	if first {
		w.ready.Broadcast()
	}
	return true
}

// run writes until the connection fails or close is called.
func (w *frameWriter) run() error {
	var spare []byte
	for {
		w.mu.Lock()
		for len(w.out) == 0 && !w.closed {
			w.ready.Wait()
		}
		if w.closed {
			w.mu.Unlock()
			return net.ErrClosed
		}
		out := w.out
		w.out = spare[:0]
		w.ready.Broadcast()
		w.mu.Unlock()

		if err := w.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := w.conn.Write(out); err != nil {
			return err
		}
		if spare = out; cap(spare) > keepBuffer {
			spare = nil
		}
	}
}

// close ends run, and refuses what is put from now on.
func (w *frameWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.ready.Broadcast()
	w.mu.Unlock()
}
