package contract

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// receivedZone is what came of an AXFR.
type receivedZone struct {
	records int    // the SOA counted once
	serial  uint32 // of both SOAs
	marked  string // the text of the TXT record at the name "last"
	rcode   int    // that ended it
}

// receiveZone asks for a zone over a connection, and goes through what comes; an error is no clean end.
func receiveZone(conn net.Conn, zone string) (z receivedZone, err error) {
	query, err := new(dns.Msg).SetAxfr(zone).Pack()
	if err != nil {
		return z, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return z, err
	}
	if _, err := conn.Write(append([]byte{byte(len(query) >> 8), byte(len(query))}, query...)); err != nil {
		return z, err
	}
	buf := make([]byte, 2+dns.MaxMsgSize)
	for soas := 0; soas < 2; {
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return z, err
		}
		message := buf[2 : 2+int(buf[0])<<8+int(buf[1])]
		if _, err := io.ReadFull(conn, message); err != nil {
			return z, err
		}
		var m dns.Msg
		if err := m.Unpack(message); err != nil {
			return z, err
		}
		if z.rcode = m.Rcode; z.rcode != dns.RcodeSuccess {
			return z, nil
		}
		for _, rr := range m.Answer {
			switch rr := rr.(type) {
			case *dns.SOA:
				if soas++; soas == 2 {
					if rr.Serial != z.serial {
						return z, fmt.Errorf("it begins with serial %d and ends with %d", z.serial, rr.Serial)
					}
					continue
				}
				z.serial = rr.Serial
			case *dns.TXT:
				if strings.HasPrefix(rr.Hdr.Name, "last.") {
					z.marked = rr.Txt[0]
				}
			}
			if soas == 2 || soas == 0 {
				return z, errors.New("records that are not between the SOAs")
			}
			z.records++
		}
	}
	return z, nil
}

// ownMemory is how much memory a process has that is no file's, octets.
func ownMemory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	kB, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.ParseInt(kB, 10, 64)
	return n << 10, err
}

// watched has something done while a node's memory is looked at, and queries are asked; it returns the most memory that was seen, and how many were answered. Each must be.
func (n node) watched(name string, do func()) (most int64, answered int) {
	n.t.Helper()
	var done atomic.Bool
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !done.Load() {
			now, err := ownMemory(n.PID())
			if err != nil {
				n.t.Error(err)
				return
			}
			most = max(most, now)
			<-tick.C
		}
	})
	work.Go(func() {
		client := &dns.Client{Timeout: 10 * time.Second}
		for !done.Load() {
			m, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), n.DNS)
			for try := 0; try < 5 && errors.Is(err, os.ErrDeadlineExceeded); try++ { // a packet may get lost
				m, _, err = client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), n.DNS)
			}
			if err != nil || len(m.Answer) != 1 {
				n.t.Errorf("%s after %d answers: %v %v", name, answered, err, m)
				return
			}
			answered++
		}
	})
	do()
	done.Store(true)
	work.Wait()
	return most, answered
}

// TestManyTransfers: a thousand clients that ask for a zone at once get it whole, or, when there are too many before them, are told that they don't; the process takes
// little more memory for it, and answers queries meanwhile.
func TestManyTransfers(t *testing.T) {
	t.Parallel()
	const clients, places, names, zone = 1000, 8, 2000, "example.org."
	n := start(t, "--dns-tcp-per-network", "2000", "--dns-transfers", fmt.Sprint(places), "--dns-rrl-rate", "0", "--dns-tcp-idle-timeout", "2m")
	text := plain(1, 1)
	for i := range names {
		text += fmt.Sprintf("host%d A 192.0.2.1\n", i)
	}
	n.cli("zone", "import", "--origin", zone, write(t, t.TempDir(), "zone", text))
	n.cli("zone", "set", zone, "--allow-transfer", "127.0.0.1")
	before, err := ownMemory(n.PID())
	if err != nil {
		t.Fatal(err)
	}
	var whole, refused atomic.Int64
	most, answered := n.watched("host7."+zone, func() {
		conns := make([]net.Conn, clients)
		for i := range conns {
			var err error
			if conns[i], err = net.DialTimeout("tcp", n.DNS, patience); err != nil {
				t.Error(err)
				return
			}
			defer conns[i].Close()
		}
		var all sync.WaitGroup
		for _, conn := range conns {
			all.Go(func() {
				z, err := receiveZone(conn, zone)
				switch {
				case err != nil:
					t.Errorf("after %d records: %v", z.records, err)
				case z.rcode == dns.RcodeServerFailure && z.records == 0:
					refused.Add(1)
				case z.rcode != 0 || z.records != names+3:
					t.Errorf("%+v", z)
				default:
					whole.Add(1)
				}
			})
		}
		all.Wait()
	})
	if whole.Load() < places || whole.Load()+refused.Load() != clients {
		t.Errorf("%d have it whole, and %d were refused", whole.Load(), refused.Load())
	}
	for metric, want := range map[string]int64{
		`balefire_dns_transfers_total{sent="zone"}`:           whole.Load(),
		`balefire_dns_transfers_failed_total{too_many="yes"}`: refused.Load(),
	} {
		if err := n.Await(time.Minute, "counting", func() bool { return int64(n.metric(metric)) == want }); err != nil { // it counts when the client has all of it
			t.Errorf("%s is %v, and clients say %d", metric, n.metric(metric), want)
		}
	}
	t.Logf("%d whole, %d refused, %d MB of memory before and %d at most, %d queries answered meanwhile", whole.Load(), refused.Load(), before>>20, most>>20, answered)
	if most > before+192<<20 {
		t.Errorf("its memory has grown from %d to %d MB", before>>20, most>>20)
	}
	if answered == 0 {
		t.Error("no query was answered meanwhile")
	}
}
