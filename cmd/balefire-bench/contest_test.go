package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// lame is a peer that can't be started.
type lame struct{}

func (lame) about() (string, []string)                    { return "Lame", nil }
func (lame) start(context.Context, *server, site) error   { return errors.New("no legs") }
func (lame) addZone(context.Context, *server, zone) error { return nil }

func TestAPeerThatDoesNotStartIsLeftOut(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	c, err := b.contend(t.Context(), site{cpu: -1}, []peer{lame{}})
	defer c.stop()
	if err != nil || len(c.servers) != 0 || len(c.notes) != 1 || !strings.Contains(c.notes[0], "Lame is left out: start Lame: no legs") {
		t.Errorf("servers %v, notes %q, %v", c.servers, c.notes, err)
	}
	b.settings.servers = "nsd|knot"
	c, err = b.contend(t.Context(), site{cpu: -1}, []peer{lame{}})
	defer c.stop()
	if err != nil || len(c.notes) != 0 {
		t.Errorf("one that was not asked for: notes %q, %v", c.notes, err)
	}
}

// TestOrderChanges: over as many rounds as there are servers, each is visited first once.
func TestOrderChanges(t *testing.T) {
	c := &contest{bench: &bench{settings: settings{rounds: 3}}, servers: []*server{{name: "a"}, {name: "b"}, {name: "c"}}}
	var visits []string
	all, err := c.measure(t.Context(), &table{}, []bool{true, false, true}, func(r *result, _, _ int) error {
		visits = append(visits, r.server.name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(visits, ""); got != "cacaac" {
		t.Errorf("visits %s", got)
	}
	if all[0] == nil || all[1] != nil || all[2] == nil {
		t.Errorf("results %v", all)
	}
}

// TestAServerThatFails is left out from then on, but without Balefire there is no comparison.
func TestAServerThatFails(t *testing.T) {
	for name, tt := range map[string]struct {
		peer  peer
		fatal bool
	}{"a peer": {lame{}, false}, "Balefire": {balefire{}, true}, "the floor": {echoes{}, true}} {
		c := &contest{bench: &bench{settings: settings{rounds: 3}}, servers: []*server{{name: "a", peer: lame{}}, {name: "b", peer: tt.peer}}}
		var tab table
		visits := map[string]int{}
		all, err := c.measure(t.Context(), &tab, []bool{true, true}, func(r *result, _, round int) error {
			visits[r.server.name]++
			if r.server.name == "b" && round == 1 {
				return errors.New("no answers")
			}
			return nil
		})
		if (err != nil) != tt.fatal {
			t.Errorf("%s: %v", name, err)
		}
		if !tt.fatal && (visits["a"] != 3 || visits["b"] != 2 || all[0] == nil || all[1] != nil || len(tab.notes) != 1) {
			t.Errorf("%s: visits %v, results %v, notes %q", name, visits, all, tab.notes)
		}
	}
}

// TestAwait has a server that refuses at first, then answers without records, and learns one name after the other.
func TestAwait(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	defer done.Wait()
	defer conn.Close()
	asked := map[string]int{}
	done.Go(func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var q dns.Msg
			if q.Unpack(buf[:n]) != nil {
				return
			}
			r := new(dns.Msg).SetReply(&q)
			name := q.Question[0].Name
			asked[name]++
			switch {
			case asked[name] == 1:
				r.Rcode = dns.RcodeServerFailure
			case asked[name] == 2:
			case name == "b.test." && asked[name] < 6:
			default:
				r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(1, 2, 3, 4)}}
			}
			out, err := r.Pack()
			if err != nil {
				return
			}
			if _, err := conn.WriteToUDPAddrPort(out, from); err != nil {
				return
			}
		}
	})
	s := &server{peer: lame{}, addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), started: time.Now(), dir: t.TempDir()}
	if err := s.await(t.Context(), [][]byte{question("a.test."), question("b.test.")}); err != nil {
		t.Fatal(err)
	}
	if s.first <= 0 || s.all <= s.first {
		t.Errorf("first after %s, all after %s", s.first, s.all)
	}
	conn.Close()
	done.Wait()
	if asked["a.test."] < 3 || asked["b.test."] < 6 { // more when an answer is slow
		t.Errorf("asked %v, want each until it is answered", asked)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.await(ctx, [][]byte{question("a.test.")}); err == nil {
		t.Error("nobody listens, and that is an answer")
	}
}
