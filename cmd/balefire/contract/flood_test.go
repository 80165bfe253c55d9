package contract

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/dnsserver/tsig"
	"balefire/zones"
)

// TestFloods: floods of NOTIFYs and of messages with bad signatures, from many addresses, take no memory to speak of, are counted, say little in the log,
// and keep nobody else out: questions are answered meanwhile, updates made, and NOTIFYs of other zones heeded.
func TestFloods(t *testing.T) {
	t.Parallel()
	n := start(t, "--partitions", "1", "--dns-allow-peers", "127.0.0.0/8")
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	n.cli("record", "set", "example.com.", "www", "A", "60", "192.0.2.1")
	n.cli("zone", "create", "second.example.", "--secondary-of", "127.0.0.9:9") // nobody is there
	n.cli("zone", "create", "other.example.", "--secondary-of", "127.0.0.8:9")
	key := jsonOf[tsigKey](n, "tsig", "create", "update.example.")
	n.cli("zone", "set", "example.com.", "--allow-update", "key:update.example.")
	const from, quiet = "127.0.0.9", "127.0.0.8" // the primaries

	signed := func(name, secret string, m *dns.Msg) []byte {
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if name == "" {
			return packet
		}
		k := zones.TSIGKey{Name: zones.MustParseName(name), Algorithm: zones.HMACSHA256, Secret: []byte(secret)}
		return tsig.NewClient(k).SignRequest(packet, time.Now())
	}
	question := func(name string, t uint16) *dns.Msg { return new(dns.Msg).SetQuestion(name, t) }
	update := new(dns.Msg).SetUpdate("example.com.")
	update.Insert([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "x.example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 66)}})
	bad := [][]byte{
		signed("update.example.", "not what it is", question("www.example.com.", dns.TypeA)),
		signed("update.example.", "not what it is", update),
		signed("unknown.example.", "of no use", question("example.com.", dns.TypeAXFR)),
		signed("unknown.example.", "of no use", new(dns.Msg).SetNotify("second.example.")),
	}
	notices := [][]byte{
		signed("", "", new(dns.Msg).SetNotify("second.example.")), signed("", "", new(dns.Msg).SetNotify("example.com.")),
		signed("", "", new(dns.Msg).SetNotify("nowhere.example.")),
	}

	memory := func() (kib int) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status)
		kib, _ = strconv.Atoi(string(m[1]))
		return kib
	}
	counter := func(metric string) (sum float64) {
		t.Helper()
		found := false
		for line := range strings.Lines(n.call("GET", "/metrics", "").body) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), metric+" "); ok {
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					t.Fatal(err)
				}
				sum, found = sum+v, true
			}
		}
		if !found {
			t.Errorf("there is no metric %s", metric)
		}
		return sum
	}

	// Of the primary's address, and of others that nothing is known of.
	const senders, packets = 4, 20_000
	before, began, logged := memory(), time.Now(), len(n.Log())
	var taken atomic.Int64 // of the primary's NOTIFYs
	var flood, reading sync.WaitGroup
	over := make(chan struct{})
	for s := range senders {
		flood.Go(func() {
			for i := 0; i < packets; {
				addr := netip.AddrFrom4([4]byte{127, byte(10 + s), byte(i >> 8), byte(i)}).String()
				if i%2000 == 0 {
					addr = from
				}
				conn, err := dialFrom(addr, n.DNS)
				if err != nil {
					t.Error(err)
					return
				}
				if addr == from {
					reading.Go(func() {
						buf := make([]byte, 512)
						for {
							size, err := conn.Read(buf)
							if err != nil {
								conn.Close()
								return
							}
							if size > 3 && buf[3]&0xf == 0 {
								taken.Add(1)
							}
						}
					})
				}
				for range 500 {
					p := notices[i%len(notices)]
					if s%2 == 1 {
						p = bad[i%len(bad)]
					}
					_, _ = conn.Write(p) // the kernel may have no room
					i++
				}
				if addr != from {
					conn.Close()
					continue
				}
				go func() { <-over; _ = conn.SetReadDeadline(time.Now().Add(time.Second)) }()
			}
		})
	}
	go func() { flood.Wait(); close(over) }()

	most, asked := before, 0
	for flooding := true; flooding || asked < 20; asked++ {
		select {
		case <-over:
			flooding = false
		default:
		}
		client := &dns.Client{Net: "tcp", Timeout: time.Minute}
		a, _, err := client.Exchange(question("www.example.com.", dns.TypeA), n.DNS)
		if err != nil || len(a.Answer) != 1 {
			t.Fatalf("question %d: %v, %v", asked, a, err)
		}
		if asked == 3 { // right in the middle
			m := new(dns.Msg).SetUpdate("example.com.")
			m.Insert([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "y.example.com.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 7)}})
			if _, answer, _ := (path{"tcp", n.DNS}).update(t, key.signs(), m); answer[3]&15 != dns.RcodeSuccess {
				t.Errorf("an update: %s", dns.RcodeToString[int(answer[3]&15)])
			}
		}
		most = max(most, memory())
	}
	// Over UDP, too: what the kernel dropped is asked again.
	answered := false
	for range 100 {
		client := &dns.Client{Timeout: time.Second}
		if a, _, err := client.Exchange(question("y.example.com.", dns.TypeA), n.DNS); err == nil && len(a.Answer) == 1 {
			answered = true
			break
		}
	}
	if !answered {
		t.Error("no answer over UDP")
	}
	conn, err := dialFrom(quiet, n.DNS)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	heeded := false
	for range 100 {
		buf := make([]byte, 512)
		_, _ = conn.Write(signed("", "", new(dns.Msg).SetNotify("other.example.")))
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		if size, err := conn.Read(buf); err == nil && size > 3 && buf[3]&0xf == 0 {
			heeded = true
			break
		}
	}
	if !heeded {
		t.Error("a NOTIFY of another zone is not heeded")
	}
	reading.Wait()
	t.Logf("%d messages in %s; %d KiB, at most %d; %d questions; %d NOTIFYs of the primary taken", senders*packets, time.Since(began).Round(time.Millisecond), before, most, asked, taken.Load())

	if grown := most - before; grown > 128<<10 {
		t.Errorf("it grew by %d KiB", grown)
	}
	if most := int64(5 + time.Since(began)/time.Second + 1); taken.Load() > most {
		t.Errorf("%d NOTIFYs of one address and zone were taken; want %d at most", taken.Load(), most)
	}
	for _, metric := range []string{
		`balefire_dns_tsig_total{result="BADSIG"}`, `balefire_dns_tsig_total{result="BADKEY"}`, `balefire_dns_dropped_total{reason="rate-limited"}`,
	} {
		if counter(metric) < 100 {
			t.Errorf("%s is %v", metric, counter(metric))
		}
	}
	if now := counter("go_goroutines"); now > 2000 {
		t.Errorf("%v goroutines", now)
	}
	if more := len(n.Log()) - logged; more > 100<<10 {
		t.Errorf("%d octets were logged", more)
	}
	if got := n.short("x.example.com", "A"); got != "" {
		t.Errorf("an update with a bad signature was made: %q", got)
	}
}

// dialFrom connects a socket to a server over UDP, from an address of loopback.
func dialFrom(from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	return d.Dial("udp", to)
}
