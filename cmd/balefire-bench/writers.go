package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// updater sends updates of RFC 2136 over UDP, as nsupdate does.
type updater struct{ conn *dns.Conn }

func newUpdater(s *server) (writer, error) {
	conn, err := dns.DialTimeout("udp4", s.addr.String(), time.Second)
	if err != nil {
		return nil, err
	}
	return &updater{conn}, nil
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
	for range 5 { // nsupdate tries again too
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := w.conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
			return err
		}
		if err = w.conn.WriteMsg(m); err != nil {
			return err
		}
		var answer *dns.Msg
		for {
			answer, err = w.conn.ReadMsg()
			if err != nil || answer.Id == m.Id {
				break
			}
		}
		if err != nil {
			continue // nothing came in time
		}
		if answer.Rcode != dns.RcodeSuccess {
			return fmt.Errorf("the update is answered with %s", dns.RcodeToString[answer.Rcode])
		}
		return nil
	}
	return fmt.Errorf("the update is not answered: %w", err)
}

func (w *updater) close() { w.conn.Close() }
