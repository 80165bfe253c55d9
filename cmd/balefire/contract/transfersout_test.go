package contract

import (
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// metric reads one of a node's metrics, named with its labels; 0 when it isn't there.
func (n node) metric(name string) (value float64) {
	n.t.Helper()
	res, err := n.HTTP().Get("http://" + n.Admin + "/metrics")
	if err != nil {
		n.t.Fatalf("%v\n%s", err, n.Log())
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			if value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64); err != nil {
				n.t.Fatal(err)
			}
		}
	}
	return value
}

// patience ends a test that waits for what never comes.
const patience = 2 * time.Minute

// until waits until something holds that nothing tells of.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(late) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-tick.C
	}
}

// listener is a server that answers NOTIFYs, and remembers them.
type listener struct {
	addr string

	mu  sync.Mutex
	got map[uint32]map[uint16]bool // by serial, the IDs: who asks again because the answer was slow keeps its own
}

func listen(t *testing.T) *listener {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{addr: pc.LocalAddr().String(), got: map[uint32]map[uint16]bool{}}
	up := make(chan struct{})
	s := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		if len(q.Answer) == 1 {
			l.note(q.Answer[0].(*dns.SOA).Serial, q.Id)
		}
		_ = w.WriteMsg(new(dns.Msg).SetReply(q))
	})}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { _ = s.Shutdown(); <-done })
	return l
}

func (l *listener) note(serial uint32, id uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.got[serial] == nil {
		l.got[serial] = map[uint16]bool{}
	}
	l.got[serial][id] = true
}

// times is how often it was told of a serial.
func (l *listener) times(serial uint32) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.got[serial])
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, serial := range slices.Sorted(maps.Keys(l.got)) {
		all = append(all, fmt.Sprintf("%d: %d times", serial, len(l.got[serial])))
	}
	return strings.Join(all, ", ")
}

var xfrSize = regexp.MustCompile(`;; XFR size: \d+ records \(messages (\d+),`)

// axfr is a zone as dig gets it, with a key: sorted, the SOA once. Unless all of it is signed, the test fails.
func (n node) axfr(zone string, key tsigKey) string {
	n.t.Helper()
	out := n.dig("-y", key.Algorithm+":"+key.Name+":"+key.Secret, "+onesoa", zone, "AXFR")
	var records []string
	signatures := 0
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(line, ";"):
		case len(fields) > 3 && fields[3] == "TSIG":
			signatures++
		default:
			records = append(records, strings.Join(fields, " ")+"\n")
		}
	}
	size := xfrSize.FindStringSubmatch(out)
	if size == nil || size[1] != strconv.Itoa(signatures) || strings.Contains(out, "WARNING") || strings.Contains(out, "Couldn't verify") {
		n.t.Errorf("%s from %s: %q, %d signatures\n%.300s\n…%s", zone, n.DNS, size, signatures, out, out[max(0, len(out)-1000):])
	}
	return strings.Join(slices.Sorted(slices.Values(records)), "")
}

// TestTransfersInRegion: two nodes of one region, that share the partitions, or have a copy of all each. Either gives a zone whole and signed, wherever it is;
// of its changes the one on duty tells others, once, and when that is lost, the other one does.
func TestTransfersInRegion(t *testing.T) {
	t.Parallel()
	for what, other := range map[string]string{"shared": "a", "copies": "b"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			// Of these two, when both have all partitions, each is on duty for some.
			nodes := startRegion(t, []member{{"a", "a"}, {"b", other}}, "--dns-allow-peers", "127.0.0.0/8")
			key := jsonOf[tsigKey](nodes[0], "tsig", "create", "transfer.example.")
			knowKey(t, nodes, key.Name)
			told := listen(t)
			sent := func(i int) float64 { return nodes[i].metric(`balefire_notify_messages_total{result="answered"}`) }
			onDuty := [2]string{} // of each node, a zone that it is on duty for
			for i := 0; onDuty[0] == "" || onDuty[1] == ""; i++ {
				if i == 32 {
					t.Fatalf("one node is on duty for all zones: %q", onDuty)
				}
				zone, serial := fmt.Sprintf("z%d.test.", i), 1000*(i+1) // serials tell zones apart
				text := plain(serial, 1)
				for i := range 3000 { // some messages
					text += fmt.Sprintf("host%d A 192.0.2.1\n", i)
				}
				at := nodes[i%2]
				at.cli("zone", "import", "--origin", zone, write(t, t.TempDir(), "zone", text), "--wait", "region")
				before := [2]float64{sent(0), sent(1)}
				at.cli("zone", "set", zone, "--allow-transfer", "key:"+key.Name, "--notify", told.addr, "--wait", "region")
				who := -1
				until(t, zone+" is told of", func() bool {
					for j := range nodes {
						if sent(j) > before[j] {
							who = j
						}
					}
					return who >= 0
				})
				onDuty[who] = zone
			}
			for i, zone := range onDuty {
				var all [2]string
				for j, n := range nodes {
					all[j] = n.axfr(zone, key)
				}
				if strings.Count(all[0], "\n") != 3003 || all[0] != all[1] {
					t.Errorf("%s: %d records here, %d there: %s", zone, strings.Count(all[0], "\n"), strings.Count(all[1], "\n"), difference(all[0], all[1]))
				}
				// Each change is told of once, or nearly: on a machine that is very busy two may be on duty for a moment.
				const tries = 10
				at := nodes[(i+1)%2] // the one that is not on duty
				last, once := uint32(0), false
				for try := 0; !once; try++ {
					if try == tries {
						t.Fatalf("%s: no change is told of once: %s", zone, told)
					}
					serial := jsonOf[changed](at, "record", "set", zone, "www", "A", "60", fmt.Sprintf("192.0.2.%d", 50+try)).Serial
					until(t, zone+" is told of", func() bool { return told.times(serial) > 0 })
					once = told.times(last) == 1 // whoever else tells of it has, by now
					last = serial
				}
			}
			if relayed := nodes[0].metric(`balefire_dns_transfers_total{sent="relayed"}`); (relayed > 0) != (what == "shared") {
				t.Errorf("%v transfers are of zones elsewhere", relayed)
			}

			if what == "shared" {
				return // the brokers would give the partitions of a node that is lost to the other after half a minute
			}
			nodes[0].Kill()
			lost, left := onDuty[0], nodes[1]
			serial := jsonOf[changed](left, "record", "set", lost, "www", "A", "60", "192.0.2.70").Serial
			until(t, lost+" is told of by the other", func() bool { return told.times(serial) > 0 })
			if got := left.axfr(lost, key); !strings.Contains(got, "www."+lost+" 60 IN A 192.0.2.70\n") {
				t.Errorf("%s after the loss: %.300s", lost, got)
			}
		})
	}
}
