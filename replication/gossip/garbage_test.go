package gossip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// TestGarbage sends packets and streams of chance, and pieces of real ones, to a node without a key, which is the one that reads them.
func TestGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seed = 20260101
		rnd := rand.New(rand.NewPCG(seed, seed))
		r := newRegion(t)
		var lines bytes.Buffer
		open := func(o *Options) { o.Key = nil }
		n1 := r.start("node1", func(o *Options) { o.Key = nil; o.Logger = zerolog.New(&lines) })
		n2 := r.start("node2", open)
		n2.Claim(ready(1, 2))
		await(t, n1, "node2's claims", holders(2, "node2"))
		evil := &endpoint{r: r, address: netip.MustParseAddrPort("10.0.0.66:7946")}
		label, err := memberlist.AddLabelHeaderToPacket([]byte{8}, n1.options.label())
		if err != nil {
			t.Fatal(err)
		}
		message := func() []byte {
			b := goldenExchange()[3:]
			if rnd.IntN(2) == 0 {
				b = b[:rnd.IntN(len(b))]
			}
			b = bytes.Clone(b)
			for range rnd.IntN(4) {
				if len(b) > 0 {
					b[rnd.IntN(len(b))] = byte(rnd.Uint32())
				}
			}
			if rnd.IntN(4) == 0 {
				return append([]byte{byte(rnd.IntN(16))}, b...) // of another type of memberlist's
			}
			return append(bytes.Clone(label), b...)
		}
		for range 5000 {
			if _, err := evil.WriteTo(message(), "10.0.0.1:7946"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range 200 {
			c, err := at{r, "10.0.0.66:7946"}.dial(t.Context(), "10.0.0.1:7946")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = c.Write(message()) }()
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		await(t, n1, "node2's claims still", holders(2, "node2"))
		awaitTrouble(t, n1, "could not be read")
		if n := len(n1.Map().Peers()); n > MaxMembers {
			t.Errorf("%d peers", n)
		}
		if n := strings.Count(lines.String(), "\n"); n > 2000 {
			t.Errorf("%d lines of log", n)
		}
	})
}

// TestNewerProgram: what a later version sends is left out, and said so.
func TestNewerProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1 := r.start("node1", nil)
		delegate{n1}.NotifyMsg([]byte{version + 1, 1, 2, 3})
		delegate{n1}.MergeRemoteState([]byte{version + 1, 1, 2, 3}, false)
		if !hasTrouble(n1, "2 messages of a newer program") {
			t.Errorf("troubles %q", n1.Troubles())
		}
		pass(n1.timings.Trouble)
		if list := n1.Troubles(); len(list) > 0 {
			t.Errorf("much later: %q", list)
		}
	})
}

func TestTroublesAreBounded(t *testing.T) {
	tr := newTroubles(time.Minute)
	l := newLogs(zerolog.Nop(), tr, func() time.Time { return start })
	for i := range 10000 {
		ip := net.IPv4(10, 0, byte(i>>8), byte(i)).String()
		for _, text := range []string{
			"[ERR] memberlist: Decrypt packet failed: no installed keys could decrypt the message from=" + ip + ":7946\n",
			"[ERR] memberlist: discarding packet with unacceptable label \"x\": from=" + ip + ":7946\n",
		} {
			if _, err := l.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		tr.conflict(ip, "a", "b", start)
	}
	if n := len(tr.list("self", start)); n > 2*maxIncidents+2 {
		t.Errorf("%d troubles", n)
	}
}

func TestLogLevels(t *testing.T) {
	for line, want := range map[string]string{
		"[DEBUG] memberlist: Stream connection from=10.0.0.1:1\n": `{"level":"debug","detail":"Stream connection from=10.0.0.1:1","message":"gossip"}`,
		"[INFO] memberlist: Suspect node2 has failed\n":           `{"level":"info","detail":"Suspect node2 has failed","message":"gossip"}`,
		"[WARN] memberlist: Refuting a suspect message\n":         `{"level":"warn","detail":"Refuting a suspect message","message":"gossip"}`,
		"[ERR] memberlist: Failed to send\n":                      `{"level":"warn","detail":"Failed to send","message":"gossip"}`,
		"[ERROR] memberlist: Failed to compress\n":                `{"level":"warn","detail":"Failed to compress","message":"gossip"}`,
		"Err: Could not set the deadline\n":                       `{"level":"info","detail":"Err: Could not set the deadline","message":"gossip"}`,
		"[ERR] memberlist: " + hex.EncodeToString([]byte{0}) + "": `{"level":"warn","detail":"00","message":"gossip"}`,
	} {
		var b strings.Builder
		l := newLogs(zerolog.New(&b), newTroubles(time.Minute), func() time.Time { return start })
		for range 100 {
			if _, err := l.Write([]byte(line)); err != nil {
				t.Fatal(err)
			}
		}
		first, rest, _ := strings.Cut(b.String(), "\n")
		if first != want {
			t.Errorf("%q became %s, want %s", line, first, want)
		}
		if n := strings.Count(rest, "\n"); !strings.Contains(want, "debug") && n > 20 {
			t.Errorf("%q was let through %d times", line, n)
		}
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1, n2 := r.start("node1", nil), r.start("node2", nil)
		await(t, n1, "node2", living("node1", "node2"))
		crash(t, n2)
		await(t, n1, "the crash", living("node1"))
		registry := prometheus.NewPedanticRegistry()
		if err := registry.Register(n1.Collector()); err != nil {
			t.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += "/" + l.GetValue()
				}
				values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
		if len(values) != 11 || values["balefire_gossip_nodes/alive"] != 1 || values["balefire_gossip_nodes/gone"] != 1 || values["balefire_gossip_sent_bytes_total"] == 0 {
			t.Errorf("metrics %v", values)
		}
	})
}

// What several seeds say, in any order, is one line, and the same one.
func TestJoinFailuresAreOneLine(t *testing.T) {
	a, b := errors.New("1 error occurred:\n\t* failed to join a: refused\n\n"), errors.New("2 errors occurred:\n\t* failed to join b: gone\n\t* failed to join a: refused\n\n")
	for _, failures := range []error{errors.Join(a, b), errors.Join(b, a)} {
		tr := newTroubles(time.Minute)
		tr.joined(failures, time.Unix(0, 0))
		want := "no node of gossip.join could be reached since 1970-01-01T00:00:00Z: are they up, are their addresses right, is gossip.key the same? failed to join a: refused; failed to join b: gone"
		if list := tr.list("n1", time.Unix(1, 0)); !slices.Equal(list, []string{want}) {
			t.Errorf("%q", list)
		}
	}
}
