//go:build million

package contract

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestMillionWhileItChanges: a zone of a million names goes to several clients while it is changed, each of them as it was at one moment, and takes little of the process's memory.
func TestMillionWhileItChanges(t *testing.T) {
	const names, clients, rounds, zone = 1_000_000, 4, 2, "example.org."
	n := start(t, "--dns-rrl-rate", "0")
	file, err := os.Create(filepath.Join(t.TempDir(), "zone"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	fmt.Fprint(w, plain(1, 1))
	for i := range names {
		fmt.Fprintf(w, "n%07d A 192.0.2.1\n", i)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	tool(t, "env", append(n.env(), binary, "zone", "import", "--timeout", "10m", "--origin", zone, file.Name())...)
	t.Logf("imported in %s", time.Since(began))
	n.cli("zone", "set", zone, "--allow-transfer", "127.0.0.1")
	before, err := ownMemory(n.PID())
	if err != nil {
		t.Fatal(err)
	}

	// The zone says in one of its records which serial it has.
	var done atomic.Bool
	var changing sync.WaitGroup
	changes := 0
	mark := func() {
		serial := n.serial(zone) + 1
		api[changed](n, 200, "PUT", "/v1/zones/"+zone+"/rrsets/last/TXT", fmt.Sprintf(`{"ttl":60,"records":["\"%d\""]}`, serial))
		changes++
	}
	mark()
	changing.Go(func() {
		for !done.Load() {
			mark()
		}
	})
	began = time.Now()
	most, answered := n.watched("n0000007."+zone, func() {
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for range rounds {
					conn, err := net.DialTimeout("tcp", n.DNS, patience)
					if err != nil {
						t.Error(err)
						return
					}
					z, err := receiveZone(conn, zone)
					conn.Close()
					if err != nil || z.rcode != dns.RcodeSuccess || z.records != names+4 || z.marked != fmt.Sprint(z.serial) {
						t.Errorf("%+v, %v", z, err)
					}
				}
			})
		}
		all.Wait()
	})
	took := time.Since(began)
	done.Store(true)
	changing.Wait()
	t.Logf("%d transfers by %d clients in %s, beside %d changes and %d queries; %d MB of memory before, %d at most", clients*rounds, clients, took, changes, answered, before>>20, most>>20)
	if most > before+192<<20 {
		t.Errorf("its memory has grown from %d to %d MB", before>>20, most>>20)
	}
	if changes < 10 {
		t.Errorf("%d changes are few", changes)
	}
}
