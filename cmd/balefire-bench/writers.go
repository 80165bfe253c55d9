package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/miekg/dns"
)

// writer is one client that changes zones of a server. It is used by one goroutine.
type writer interface {
	// change gives host i of a zone another address, and returns when the server says that it has.
	change(ctx context.Context, apex string, i, value int) error
	close()
}

// writable is a peer whose zones can be changed while it runs.
type writable interface {
	writer(s *server) (writer, error)
}

// writer of Balefire calls its API.
func (balefire) writer(s *server) (writer, error) {
	return apiWriter{&webConn{server: s.control.String()}}, nil
}

type apiWriter struct{ *webConn }

func (w apiWriter) change(_ context.Context, apex string, i, value int) error {
	body := fmt.Appendf(nil, `{"ttl":300,"records":["%s"]}`, changedAddress(i, value))
	return w.do("PUT", "/v1/zones/"+apex+"/rrsets/"+host(i)+"/A", "Authorization: Bearer "+token+"\r\n", body)
}

// writer of PowerDNS calls its API.
func (powerDNS) writer(s *server) (writer, error) {
	return powerDNSWriter{&webConn{server: s.control.String()}}, nil
}

type powerDNSWriter struct{ *webConn }

// change tries again when another client's change is under way: PowerDNS then answers that its database is locked.
func (w powerDNSWriter) change(ctx context.Context, apex string, i, value int) error {
	body := fmt.Appendf(nil, `{"rrsets":[{"name":"%s.%s","type":"A","ttl":300,"changetype":"REPLACE","records":[{"content":"%s","disabled":false}]}]}`,
		host(i), apex, changedAddress(i, value))
	var err error
	for range 1000 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = w.do("PATCH", "/api/v1/servers/localhost/zones/"+apex, "X-API-Key: "+token+"\r\n", body)
		var refused *statusError
		if !errors.As(err, &refused) || refused.code != http.StatusInternalServerError {
			return err
		}
		time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
	}
	return err
}

func (bind) writer(s *server) (writer, error) { return newUpdater(s) }

func (knot) writer(s *server) (writer, error) { return newUpdater(s) }

// The key for updates is for this run and this machine's loopback only.
const (
	updateKey    = "update.bench."
	updateSecret = "dXBkYXRlcy11cGRhdGVzLXVwZGF0ZXMtdXBkYXRlcw=="
)

// updater sends updates of RFC 2136 over UDP, as nsupdate does.
type updater struct {
	conn   net.Conn
	signed bool
	answer [dns.MinMsgSize]byte
}

func newUpdater(s *server) (writer, error) { return dialUpdater(s, false) }

// newSignedUpdater returns one that signs what it sends, and believes only answers that are signed.
func newSignedUpdater(s *server) (writer, error) { return dialUpdater(s, true) }

func dialUpdater(s *server, signed bool) (writer, error) {
	conn, err := net.Dial("udp4", s.addr.String())
	if err != nil {
		return nil, err
	}
	return &updater{conn: conn, signed: signed}, nil
}

// updateMessage replaces the addresses of a host.
func updateMessage(apex string, i, value int) (*dns.Msg, error) {
	rr, err := dns.NewRR(fmt.Sprintf("%s.%s 300 IN A %s", host(i), apex, changedAddress(i, value)))
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg).SetUpdate(apex)
	m.RemoveRRset([]dns.RR{rr})
	m.Insert([]dns.RR{rr})
	return m, nil
}

func (w *updater) change(ctx context.Context, apex string, i, value int) error {
	m, err := updateMessage(apex, i, value)
	if err != nil {
		return err
	}
	packet, mac, err := w.octets(m)
	if err != nil {
		return err
	}
	for range 5 { // nsupdate tries again too, with the same octets
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
		if _, err = w.conn.Write(packet); err != nil {
			return err
		}
		var n int
		for {
			n, err = w.conn.Read(w.answer[:])
			if err != nil || n >= 2 && w.answer[0] == packet[0] && w.answer[1] == packet[1] {
				break
			}
		}
		if err != nil {
			continue // nothing came in time
		}
		return w.judge(w.answer[:n], mac)
	}
	return fmt.Errorf("the update is not answered: %w", err)
}

// octets packs a message, signed where that is wanted, and returns its MAC.
func (w *updater) octets(m *dns.Msg) (packet []byte, mac string, err error) {
	if !w.signed {
		packet, err = m.Pack()
		return packet, "", err
	}
	return dns.TsigGenerate(m.SetTsig(updateKey, dns.HmacSHA256, 300, time.Now().Unix()), updateSecret, "", false)
}

// judge says what is wrong with an answer.
func (w *updater) judge(answer []byte, mac string) error {
	if rcode := int(answer[min(3, len(answer)-1)] & 15); rcode != dns.RcodeSuccess {
		return fmt.Errorf("the update is answered with %s", dns.RcodeToString[rcode])
	}
	if w.signed {
		if err := dns.TsigVerify(answer, updateSecret, mac, false); err != nil {
			return fmt.Errorf("the update's answer: %w", err)
		}
	}
	return nil
}

func (w *updater) close() { w.conn.Close() }
