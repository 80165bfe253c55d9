package contract

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

// zoneLine is a line of `zone list -o json`.
type zoneLine struct {
	Name   string
	Serial uint32
	Policy string `json:"serial_policy"`
	Digest string
}

func zonesOf(n node) map[string]zoneLine {
	all := map[string]zoneLine{}
	for _, z := range jsonOf[[]zoneLine](n, "zone", "list") {
		all[z.Name] = z
	}
	return all
}

// TestNamespaceMove: a namespace is copied into one with other partitions, again and again while it changes, then frozen,
// and nothing that was acknowledged is missing.
func TestNamespaceMove(t *testing.T) {
	t.Parallel()
	old := start(t, "--node-id", "old", "--partitions", "2")
	fresh := start(t, "--node-id", "fresh", "--partitions", "5", "--namespace", "second")
	dir := t.TempDir()
	var large strings.Builder // more than one record of the log holds
	large.WriteString("@ 60 SOA ns1 root 41 1 1 1 1\n@ 60 NS ns1.example.net.\n")
	for i := range 8000 {
		fmt.Fprintf(&large, "host-%d 60 TXT \"some text to make it longer, number %d\"\n", i, i)
	}
	write(t, dir, "large.example.zone", large.String())
	write(t, dir, "kept.example.zone", "@ 60 SOA ns1 root 500 1 1 1 1\n@ 60 NS ns1.example.net.\nwww 60 A 192.0.2.1\n")
	old.cli("zone", "import", sampleZones)
	old.cli("zone", "import", dir)
	old.cli("zone", "import", filepath.Join(dir, "kept.example.zone"), "--serial-policy", "keep")
	for _, zone := range []string{"gone.example.", "again.example.", "busy.example."} {
		old.cli("zone", "create", zone, "--ns", "ns1.example.net.")
		old.cli("record", "set", zone, "www", "A", "60", "192.0.2.1")
	}
	fresh.cli("zone", "create", "own.example.", "--ns", "ns1.example.net.")

	move := []string{"namespace", "move", "--to-server", "http://" + fresh.Admin}
	equal := func(what string, except ...string) {
		t.Helper()
		want, got := zonesOf(old), zonesOf(fresh)
		for _, name := range append(except, "own.example.") {
			delete(want, name)
			delete(got, name)
		}
		if len(want) < 5 || len(got) != len(want) {
			t.Errorf("%s: %d zones, want %d", what, len(got), len(want))
		}
		for name, z := range want {
			if got[name] != z {
				t.Errorf("%s: %+v, want %+v", what, got[name], z)
			}
		}
	}
	contains(t, "first", old.cli(move...), "from namespace balefire, 2 partitions", "to namespace second, 5 partitions",
		"1 only in the new namespace and left alone", "All 8 zones are equal")
	equal("first")
	if got := fresh.short("host-7999.large.example", "TXT"); !strings.Contains(got, "number 7999") {
		t.Errorf("large zone: %q", got)
	}

	// Again: what has changed, what was deleted, what was made anew with a lower serial.
	old.cli("record", "set", "busy.example.", "www", "A", "60", "192.0.2.2")
	old.cli("zone", "delete", "gone.example.")
	old.cli("zone", "delete", "again.example.")
	old.cli("zone", "create", "again.example.", "--ns", "ns2.example.net.")
	before := fresh.serial("again.example")
	contains(t, "second", old.cli(move...), "7 zones, 2 copied", "1 deleted", "pass 2: 7 zones, 0 copied")
	equal("second", "again.example.")
	if after := fresh.serial("again.example"); after <= before || fresh.short("again.example", "NS") != "ns2.example.net.\n" {
		t.Errorf("a zone that was made anew: serial %d after %d", after, before)
	}
	contains(t, "nothing new", old.cli(move...), "pass 1: 7 zones, 0 copied")

	// A zone that was changed in the new namespace is not overwritten by accident.
	fresh.cli("record", "set", "busy.example.", "www", "A", "60", "192.0.2.66")
	r := old.fails(1, "busy.example.: it was changed in the new namespace", move...)
	if strings.Contains(r.out, "All ") {
		t.Errorf("%v", r)
	}
	old.fails(1, "it was changed", append(move, "--freeze")...)
	old.cli("record", "set", "kept.example.", "mail", "A", "60", "192.0.2.9") // it was not frozen
	before = fresh.serial("busy.example")
	contains(t, "forced", old.cli(append(move, "--force")...), "All 7 zones are equal")
	if got := fresh.short("www.busy.example", "A"); got != "192.0.2.2\n" || fresh.serial("busy.example") <= before {
		t.Errorf("forced: %q, serial %d after %d", got, fresh.serial("busy.example"), before)
	}

	// The last time, with writers that do not rest.
	var writers sync.WaitGroup
	var mu sync.Mutex
	var acknowledged []string
	var refusals []response
	begun := make(chan struct{})
	for w := range 4 {
		zone := []string{"example.com.", "busy.example."}[w%2]
		writers.Go(func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("w%d-%d.%s", w, i, zone)
				res := old.call("PUT", "/v1/zones/"+zone+"/rrsets/"+name+"/A", `{"ttl":60,"records":["192.0.2.7"]}`)
				mu.Lock()
				if res.status != 200 {
					refusals = append(refusals, res)
					mu.Unlock()
					return
				}
				if acknowledged = append(acknowledged, name); len(acknowledged) == 10 {
					close(begun)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-begun:
	case <-time.After(time.Minute):
		t.Fatal("the writers did not begin")
	}
	contains(t, "frozen", old.cli(append(move, "--freeze", "--reason", "for the test")...),
		"takes no more changes", "All 7 zones are equal, and the old namespace is at rest", "What is next")
	writers.Wait()
	for _, res := range refusals {
		if want := "send them to namespace second at http://" + fresh.Admin; res.status != 409 || !strings.Contains(res.body, want) || !strings.Contains(res.body, "for the test") {
			t.Errorf("a writer was refused with %d %s", res.status, res.body)
		}
	}
	for _, zone := range []string{"example.com.", "busy.example."} {
		var there strings.Builder
		there.WriteString(fresh.cli("zone", "export", zone))
		for _, name := range acknowledged {
			if strings.HasSuffix(name, zone) && !strings.Contains(there.String(), "\n"+name) && !strings.HasPrefix(there.String(), name) {
				t.Errorf("%s was acknowledged, and is not in the new namespace", name)
				break
			}
		}
	}
	equal("frozen", "again.example.")

	// Frozen is frozen, also after a restart, until it is thawed.
	old = old.again()
	old.fails(1, "send them to", "record", "set", "example.com.", "www", "A", "60", "192.0.2.1")
	contains(t, "frozen twice", old.cli("namespace", "move", "--to-server", "http://"+fresh.Admin, "--freeze"), "at rest")
	contains(t, "thaw", old.cli("namespace", "thaw"), "taken again")
	old.cli("record", "set", "example.com.", "www", "A", "60", "192.0.2.1")
}

func TestNamespaceMoveRefuses(t *testing.T) {
	t.Parallel()
	n := start(t, "--partitions", "1")
	other := startWith(t, balefiretest.How{Args: []string{"--partitions", "1"}, Env: []string{"BALEFIRE_TOKEN=" + strings.Repeat("other", 5)}, NoToken: true})
	here, there := "http://"+n.Admin, "http://"+other.Admin
	if r := n.fails(1, "there is no zone to move", "namespace", "move", "--to-server", here, "--freeze"); strings.Contains(r.out, "no more changes") {
		t.Errorf("%v", r)
	}
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	n.fails(1, "belong to one namespace", "namespace", "move", "--to-server", here, "--freeze")
	n.cli("record", "set", "example.com.", "www", "A", "60", "192.0.2.1")
	n.fails(2, "--to-server is missing", "namespace", "move")
	n.fails(2, "--passes 0", "namespace", "move", "--to-server", there, "--passes", "0")
	n.fails(1, "token", "namespace", "move", "--to-server", there)
	file := write(t, t.TempDir(), "token", strings.Repeat("other", 5)+"\n")
	contains(t, "with its token", n.cli("namespace", "move", "--to-server", there, "--to-token-file", file), "All 1 zones are equal")
}
