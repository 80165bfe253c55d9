package dnsserver

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/miekg/dns"

	"balefire/store/storetest"
	"balefire/zones"
)

// TestUnreadableIsNotAbsent: what can't be read on the disk is SERVFAIL with an extended error, all the way from the
// database to the client: never NXDOMAIN, NODATA, a referral, or an answer that lacks something. What can be read is answered.
func TestUnreadableIsNotAbsent(t *testing.T) {
	ask := func(name string, qtype uint16) asked { return asked{name, qtype} }
	tests := []struct {
		name    string
		kind    byte // of the keys that are damaged, as store/keys.go has them
		holding string
		others  int // RRsets that the zone has besides: a small one is read whole
		unknown []asked
		known   map[asked]int // and their RCODE
	}{
		{
			"an RRset", 'd', "www", 50,
			[]asked{ask("www.example.", dns.TypeA), ask("www.example.", dns.TypeAAAA), ask("x.www.example.", dns.TypeA), ask("alias.example.", dns.TypeA)},
			map[asked]int{ask("example.", dns.TypeNS): dns.RcodeSuccess, ask("no.example.", dns.TypeA): dns.RcodeNameError},
		},
		{
			"an RRset of a small zone", 'd', "www", 0,
			[]asked{ask("www.example.", dns.TypeA), ask("example.", dns.TypeNS), ask("no.example.", dns.TypeA)},
			map[asked]int{ask("other.", dns.TypeSOA): dns.RcodeSuccess, ask("elsewhere.", dns.TypeA): dns.RcodeRefused},
		},
		{
			"a delegation", 'd', "child", 50,
			[]asked{ask("child.example.", dns.TypeA), ask("a.child.example.", dns.TypeA), ask("child.example.", dns.TypeDS)},
			map[asked]int{ask("www.example.", dns.TypeA): dns.RcodeSuccess},
		},
		{
			"a wildcard", 'd', "*\x00", 50,
			[]asked{ask("any.wild.example.", dns.TypeTXT), ask("any.wild.example.", dns.TypeA)},
			map[asked]int{ask("www.example.", dns.TypeA): dns.RcodeSuccess, ask("wild.example.", dns.TypeA): dns.RcodeSuccess},
		},
		{
			"the state of the zone", 'z', "example", 50,
			[]asked{ask("example.", dns.TypeSOA), ask("www.example.", dns.TypeA), ask("no.example.", dns.TypeA)},
			map[asked]int{ask("other.", dns.TypeSOA): dns.RcodeSuccess, ask("elsewhere.", dns.TypeA): dns.RcodeRefused},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			opts := storetest.Options(t, t.TempDir())
			s, p := storetest.Open(t, opts)
			var l storetest.Log
			l.Add(t, storetest.Create("other."))
			content := []zones.RRset{
				storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1"), storetest.Set("alias.example.", 60, zones.TypeCNAME, "www.example."),
				storetest.Set("child.example.", 60, zones.TypeNS, "ns.elsewhere."), storetest.Set("*.wild.example.", 60, zones.TypeTXT, `"w"`),
			}
			for i := range tt.others {
				content = append(content, storetest.Set(fmt.Sprintf("host%d.example.", i), 60, zones.TypeA, "192.0.2.2"))
			}
			l.Add(t, storetest.Create("example.", content...))
			if _, err := p.Apply(l.Records); err != nil {
				t.Fatal(err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			rot(t, filepath.Join(opts.Dir, "partitions", "000", "badger"), tt.kind, tt.holding)
			if _, err := s.Open(0, storetest.TopicID); err != nil {
				t.Fatal(err)
			}
			server := start(t, Options{Zones: s})
			for _, network := range []string{"udp", "tcp"} {
				for range 2 { // before and after it was tried to bring the zone into memory
					for _, q := range tt.unknown {
						m := dial(t, network, server.testAddr()).ask(withEDNS(question(q.name, q.qtype), 1232, false))
						if m.Rcode != dns.RcodeServerFailure || ede(m) < 0 || len(m.Answer)+len(m.Ns) > 0 {
							t.Errorf("%s %s: %v", network, q.name, m)
						}
					}
					for q, want := range tt.known {
						if m := dial(t, network, server.testAddr()).ask(question(q.name, q.qtype)); m.Rcode != want {
							t.Errorf("%s %s: want %s:\n%v", network, q.name, dns.RcodeToString[want], m)
						}
					}
				}
			}
		})
	}
}

type asked struct {
	name  string
	qtype uint16
}

// rot damages the values of the keys of a kind that hold a text.
func rot(t *testing.T, dir string, kind byte, holding string) {
	t.Helper()
	db, err := badger.OpenManaged(badger.DefaultOptions(dir).WithLogger(nil).WithDetectConflicts(false))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	txn := db.NewTransactionAt(1<<40, true)
	it := txn.NewIterator(badger.IteratorOptions{})
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().KeyCopy(nil)
		if key[0] != kind || !bytes.Contains(key, []byte(holding)) {
			continue
		}
		value, err := it.Item().ValueCopy(nil)
		if err != nil {
			t.Fatal(err)
		}
		value[len(value)/2] ^= 1
		if err := txn.Set(key, value); err != nil {
			t.Fatal(err)
		}
		found++
	}
	it.Close()
	if found == 0 {
		t.Fatalf("no key %c… holds %q", kind, holding)
	}
	// At the timestamp that is read: of the record at offset 1.
	if err := txn.CommitAt(2, nil); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
