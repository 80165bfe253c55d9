package secondary

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// Signer signs one request, and verifies what answers it (RFC 8945). It is for one goroutine.
type Signer interface {
	// SignRequest appends a TSIG to a whole request.
	SignRequest(msg []byte, now time.Time) []byte
	// VerifyAnswer verifies an answer, or the next message of a stream of them, and returns it without its TSIG. After an error about the
	// first message, another one may be tried.
	VerifyAnswer(msg []byte, now time.Time) (stripped []byte, err error)
	// Complete says what is missing when the message that was verified last was the last of all.
	Complete() error
}

// ErrNoKey says that a primary is to be asked with a key that is not there.
var ErrNoKey = errors.New("there is no such TSIG key, or it can't be opened")

// Client asks primaries. It may be used by many goroutines at once; its fields are not changed meanwhile. The zero value works.
type Client struct {
	// Sign makes the Signer of one request with a key; ErrNoKey when there is none. Nil: no key is known.
	Sign func(key zones.Name) (Signer, error)
	// Roots are the certificate authorities for primaries whose name is checked; nil: those of the system.
	Roots *x509.CertPool
	// Dial connects; nil: a net.Dialer.
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	Limits Limits
}

// Limits bound what a primary can make us wait for, and send. Zero fields have defaults.
type Limits struct {
	UDP      time.Duration // for an answer over UDP, at first; then twice that. Default 2 s
	Tries    int           // packets that ask for a serial; default 3
	Connect  time.Duration // for a connection, TLS included; default 5 s
	Idle     time.Duration // for the next message; default 30 s
	Transfer time.Duration // for a whole transfer; default 2 hours
	Records  int64         // of a transfer; default 100 million
	Octets   int64         // of its messages; default 64 GiB. As much may be on the disk until it was found good
	// Differences are the octets of differences that are kept at once; default 16 MiB. More are fetched as a whole zone.
	Differences int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{{&l.UDP, 2 * time.Second}, {&l.Connect, 5 * time.Second}, {&l.Idle, 30 * time.Second}, {&l.Transfer, 2 * time.Hour}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if l.Tries == 0 {
		l.Tries = 3
	}
	if l.Records == 0 {
		l.Records = 100_000_000
	}
	if l.Octets == 0 {
		l.Octets = 64 << 30
	}
	if l.Differences == 0 {
		l.Differences = 16 << 20
	}
	return l
}

func (c *Client) dial(ctx context.Context, network string, p zones.Remote) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial(ctx, network, p.Addr.String())
	}
	var d net.Dialer
	return d.DialContext(ctx, network, p.Addr.String())
}

// sign signs a request; signer is nil for a primary that is asked without a key.
func (c *Client) sign(p zones.Remote, query []byte) (signed []byte, signer Signer, err error) {
	if p.Key == "" {
		return query, nil, nil
	}
	if c.Sign == nil {
		return nil, nil, fmt.Errorf("key %s: %w", p.Key, ErrNoKey)
	}
	if signer, err = c.Sign(p.Key); err != nil {
		return nil, nil, fmt.Errorf("key %s: %w", p.Key, err)
	}
	return signer.SignRequest(query, time.Now()), signer, nil
}

// verify returns the message without what signs it.
func verify(signer Signer, msg []byte) ([]byte, error) {
	if signer == nil {
		return msg, nil
	}
	return signer.VerifyAnswer(msg, time.Now())
}

func newID() uint16 {
	var b [2]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}

// refused is the RCODE of somebody who does not want to answer (RFC 1035 §4.1.1).
const refused RcodeError = 5

// SOA asks a primary for the SOA of a zone: over UDP, and over TCP when the answer does not fit, or is REFUSED: Knot answers for its catalog
// zones over TCP alone. Over TLS when that is how the primary is asked.
func (c *Client) SOA(ctx context.Context, p zones.Remote, apex zones.Name) (zones.RRset, error) {
	if !p.TLS {
		soa, truncated, err := c.soaOverUDP(ctx, p, apex)
		if rcode := RcodeError(0); !truncated && !(errors.As(err, &rcode) && rcode == refused) {
			return soa, err
		}
	}
	conn, err := c.connect(ctx, p)
	if err != nil {
		return zones.RRset{}, err
	}
	defer conn.close()
	return conn.soa(apex)
}

// soaOverUDP asks a few times. A packet that is not the primary's answer is passed over: whoever sends it, the answer may come after it.
func (c *Client) soaOverUDP(ctx context.Context, p zones.Remote, apex zones.Name) (soa zones.RRset, truncated bool, err error) {
	l := c.Limits.withDefaults()
	conn, err := c.dial(ctx, "udp", p)
	if err != nil {
		return soa, false, err
	}
	defer func() { _ = conn.Close() }() // nothing is under way
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, maxMessage)
	var odd error     // what was wrong with the packets that came
	answered := false // one of them has the ID of the question: it is most likely the primary's, and repeating the question changes nothing
	for try := 0; try < l.Tries && !answered; try++ {
		id := newID()
		query, signer, err := c.sign(p, appendQuery(nil, id, apex, zones.TypeSOA, zones.RRset{}))
		if err != nil {
			return soa, false, err
		}
		if err := conn.SetDeadline(time.Now().Add(l.UDP << min(try, 2))); err != nil {
			return soa, false, err
		}
		if err := ctx.Err(); err != nil { // after the deadline was set, so that it is not put off when ctx ends meanwhile
			return soa, false, err
		}
		if _, err := conn.Write(query); err != nil {
			return soa, false, err
		}
		for {
			n, err := conn.Read(buf)
			if isTimeout(err) && ctx.Err() == nil {
				break
			}
			if err != nil {
				return soa, false, errors.Join(ctx.Err(), err)
			}
			var a answer
			msg, err := verify(signer, buf[:n])
			is := err == nil
			if is {
				a, err = parseAnswer(msg, id, apex, zones.TypeSOA, true)
				is = !errors.Is(err, ErrMalformed)
			}
			switch {
			case !is:
				odd = err
				if n > 3 && buf[3]&15 != 0 {
					odd = fmt.Errorf("%w: %w", RcodeError(buf[3]&15), err)
				}
				if !answered && n > 2 && binary.BigEndian.Uint16(buf) == id {
					answered = true
					if err := conn.SetDeadline(time.Now().Add(min(l.UDP, afterOdd))); err != nil {
						return soa, false, err
					}
				}
				if err := ctx.Err(); err != nil {
					return soa, false, err
				}
				continue
			case err != nil:
				return soa, false, err
			case a.flags&flagTC != 0:
				return soa, true, nil
			}
			soa, err := readSOA(a, apex)
			return soa, false, err
		}
	}
	if odd != nil {
		return soa, false, odd
	}
	return soa, false, errSilent
}

// afterOdd is how long the answer is waited for after one that can't be it, but seems to be the primary's.
const afterOdd = 500 * time.Millisecond

// errSilent says that a primary does not answer at all.
var errSilent = errors.New("no answer")

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// readSOA takes the SOA out of an answer, which must be an authoritative one.
func readSOA(a answer, apex zones.Name) (soa zones.RRset, err error) {
	if a.flags&flagAA == 0 {
		return soa, errors.New("the primary is not authoritative for the zone")
	}
	var rec zonefile.Record
	for {
		more, err := a.next(&rec)
		if err != nil {
			return soa, err
		}
		if !more {
			break
		}
		if rec.Type != zones.TypeSOA || rec.Owner != apex {
			continue
		}
		if !soa.IsZero() {
			return soa, malformed("two SOAs")
		}
		if soa, err = zones.NewRRset(apex, zones.TypeSOA, rec.TTL, rec.RData); err != nil {
			return soa, malformed("%v", err)
		}
	}
	if soa.IsZero() {
		return soa, malformed("there is no SOA in it")
	}
	return soa, a.finish()
}

// connection is a stream of messages to and from a primary. It is for one goroutine.
type connection struct {
	client *Client
	limits Limits
	p      zones.Remote
	net.Conn
	ctx   context.Context
	until func() bool
	buf   []byte
}

// connect connects over TCP, or TLS (RFC 9103 §7: at least 1.3, with the protocol dot; who does not know protocols may leave it out).
func (c *Client) connect(ctx context.Context, p zones.Remote) (*connection, error) {
	l := c.Limits.withDefaults()
	dialing, cancel := context.WithTimeout(ctx, l.Connect)
	defer cancel()
	plain, err := c.dial(dialing, "tcp", p)
	if err != nil {
		return nil, err
	}
	conn := plain
	if p.TLS {
		config := &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{"dot"}, RootCAs: c.Roots, ServerName: p.TLSName,
			// Without a name there is nothing that a certificate could be for: then TLS hides the zone from those who only listen, and a key
			// is what proves who it came from (RFC 9103 §9).
			InsecureSkipVerify: p.TLSName == "",
		}
		secured := tls.Client(plain, config)
		if err := secured.HandshakeContext(dialing); err != nil {
			_ = plain.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = secured
	}
	// When ctx ends, what waits for the primary ends, too.
	until := context.AfterFunc(ctx, func() { _ = plain.SetDeadline(time.Unix(1, 0)) })
	return &connection{client: c, limits: l, p: p, Conn: conn, ctx: ctx, until: until}, nil
}

func (c *connection) close() {
	c.until()
	_ = c.Conn.Close() // what was to be read was read
}

// ask sends a query.
func (c *connection) ask(id uint16, apex zones.Name, t zones.Type, soa zones.RRset) (Signer, error) {
	query, signer, err := c.client.sign(c.p, appendQuery(make([]byte, 0, 512), id, apex, t, soa))
	if err != nil {
		return nil, err
	}
	if err := c.patience(); err != nil {
		return nil, err
	}
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(query)), uint16(len(query)))
	_, err = c.Write(append(framed, query...))
	return signer, c.failure(err)
}

// patience gives the primary time for what it does next.
func (c *connection) patience() error {
	if err := c.SetDeadline(time.Now().Add(c.limits.Idle)); err != nil {
		return err
	}
	return c.ctx.Err() // after the deadline was set, so that it is not put off when ctx ends meanwhile
}

// failure says what ended a read or a write.
func (c *connection) failure(err error) error {
	switch {
	case err == nil:
		return nil
	case c.ctx.Err() != nil:
		return c.ctx.Err()
	case isTimeout(err):
		return fmt.Errorf("%w for %s", errSilent, c.limits.Idle)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the primary closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// receive reads the next message, which is valid until the one after.
func (c *connection) receive() ([]byte, error) {
	if err := c.patience(); err != nil {
		return nil, err
	}
	if c.buf == nil {
		c.buf = make([]byte, 2+maxMessage)
	}
	if _, err := io.ReadFull(c, c.buf[:2]); err != nil {
		return nil, c.failure(err)
	}
	msg := c.buf[2 : 2+int(binary.BigEndian.Uint16(c.buf))]
	if _, err := io.ReadFull(c, msg); err != nil {
		return nil, c.failure(err)
	}
	return msg, nil
}

// soa asks for the SOA.
func (c *connection) soa(apex zones.Name) (zones.RRset, error) {
	id := newID()
	signer, err := c.ask(id, apex, zones.TypeSOA, zones.RRset{})
	if err != nil {
		return zones.RRset{}, err
	}
	msg, err := c.receive()
	if err != nil {
		return zones.RRset{}, err
	}
	if msg, err = verify(signer, msg); err != nil {
		return zones.RRset{}, err
	}
	a, err := parseAnswer(msg, id, apex, zones.TypeSOA, true)
	if err != nil {
		return zones.RRset{}, err
	}
	if a.flags&flagTC != 0 {
		return zones.RRset{}, malformed("it is truncated, over TCP")
	}
	return readSOA(a, apex)
}

// transferred is what an answer to AXFR or IXFR was, when all of it was read and was as it must be.
type transferred struct {
	form     Form
	soa      zonefile.Record
	steps    []step
	records  int64
	messages int
	octets   int64
}

// transfer asks for the zone (AXFR), or for what changed since soa (IXFR). Records of a zone that comes whole are given to whole as they
// come: they are nothing before transfer returns without an error.
func (c *connection) transfer(apex zones.Name, soa zones.RRset, whole func(zonefile.Record) error) (got transferred, err error) {
	s := stream{apex: apex, whole: whole, maxRecords: c.limits.Records, maxDifferences: c.limits.Differences}
	t := zones.TypeAXFR
	if !soa.IsZero() {
		t = zones.TypeIXFR
		s.ixfr, s.have = true, soa.SOASerial()
	}
	id := newID()
	signer, err := c.ask(id, apex, t, soa)
	if err != nil {
		return got, err
	}
	for !s.ended() {
		msg, err := c.receive()
		if err != nil {
			return got, err
		}
		got.octets += int64(2 + len(msg))
		got.messages++
		if got.octets > c.limits.Octets {
			return got, ErrManyOctets
		}
		if msg, err = verify(signer, msg); err != nil {
			return got, err
		}
		if err := s.message(msg, id, t, got.messages == 1); err != nil {
			return got, err
		}
	}
	if signer != nil {
		if err := signer.Complete(); err != nil {
			return got, err
		}
	}
	got.form, got.soa, got.steps, got.records = s.form, s.soa, s.steps, s.records
	return got, nil
}

// message takes the next message of a stream.
func (s *stream) message(msg []byte, id uint16, t zones.Type, first bool) error {
	a, err := parseAnswer(msg, id, s.apex, t, first)
	if err != nil {
		return err
	}
	if a.flags&flagTC != 0 {
		return malformed("it is truncated, over TCP")
	}
	if a.left[0] == 0 {
		return malformed("a message of a transfer without a record")
	}
	var rec zonefile.Record
	for {
		more, err := a.next(&rec)
		if err != nil {
			return err
		}
		if !more {
			return a.finish()
		}
		if err := s.add(rec); err != nil {
			return err
		}
	}
}
