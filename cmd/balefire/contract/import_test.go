package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"balefire/cmd/balefire/balefiretest"
)

// importResult is what `zone import -o json` says of a file.
type importResult struct {
	File     string   `json:"file"`
	Zone     string   `json:"zone"`
	Result   string   `json:"result"`
	ID       string   `json:"id"`
	Serial   uint32   `json:"serial"`
	Records  uint64   `json:"records"`
	Warnings []string `json:"warnings"`
	Error    string   `json:"error"`
}

const plainZone = `$TTL 300
@ SOA ns1.example.net. hostmaster.example.net. %d 7200 900 1209600 300
@ NS ns1.example.net.
www A 192.0.2.%d
`

func plain(serial, host int) string { return fmt.Sprintf(plainZone, serial, host) }

// TestImport: files named <apex>.zone, with $ORIGIN, with --origin, and directories of them, many at once; which were
// created, unchanged, replaced, and which failed, with file, line and column.
func TestImport(t *testing.T) {
	t.Parallel()
	n := start(t)
	dir := t.TempDir()
	write(t, dir, "zones/one.example.zone", plain(1, 1))
	write(t, dir, "zones/deep/two.example.zone", plain(1, 2))
	write(t, dir, "zones/deep/README", "not a zone")
	origin := write(t, dir, "with-origin.txt", "$ORIGIN three.example.\n"+plain(1, 3))
	classless := write(t, dir, "0-25.2.0.192.in-addr.arpa.zone", plain(1, 9))
	several := []string{"zone", "import", filepath.Join(dir, "zones"), origin, classless}

	got := jsonOf[[]importResult](n, several...)
	wanted := []string{"two.example.", "one.example.", "three.example.", "0-25.2.0.192.in-addr.arpa."}
	if len(got) != len(wanted) {
		t.Fatalf("%+v", got)
	}
	for i, r := range got {
		if r.Zone != wanted[i] || r.Result != "created" || r.Records != 3 || r.Serial != 1 || r.ID == "" {
			t.Errorf("%+v, want %s created", r, wanted[i])
		}
		if a := n.short("www."+r.Zone, "A"); !strings.HasPrefix(a, "192.0.2.") {
			t.Errorf("www.%s after the import: %q", r.Zone, a)
		}
	}
	fourth := write(t, dir, "no-name-of-a-zone", plain(1, 4))
	contains(t, "--origin", n.cli("zone", "import", "--origin", "four.example.", fourth), "four.example.: created, serial 1, 3 records")

	// Again: nothing is written, though we gave a serial ourselves meanwhile.
	n.cli("record", "set", "two.example.", "www", "A", "300", "192.0.2.22")
	n.cli("record", "set", "two.example.", "www", "A", "300", "192.0.2.2")
	position := func(zone string) string {
		return api[struct{ Position string }](n, 200, "GET", "/v1/zones/"+zone, "").Position
	}
	one, two := position("one.example."), position("two.example.")
	out := n.cli(several...)
	contains(t, "the second import", out, "one.example.: unchanged, serial 1, 3 records", "two.example.: unchanged, serial 3, 3 records", "4 unchanged")
	if position("one.example.") != one || position("two.example.") != two {
		t.Error("an unchanged zone was written again")
	}
	if history := jsonOf[[]any](n, "zone", "history", "two.example."); len(history) != 3 {
		t.Errorf("history has %d entries, want 3", len(history))
	}

	// One replaced, one failed, the others unchanged; the failed one keeps what it had.
	write(t, dir, "zones/one.example.zone", plain(1, 11))
	bad := write(t, dir, "zones/deep/two.example.zone", plain(9, 2)+"mail A 192.0.2.300\n")
	r := n.fails(1, "failed: "+bad+":5:8: ", several...)
	contains(t, "an import with a failure", r.out, "one.example.: replaced, serial 2, 3 records", "three.example.: unchanged", "1 replaced, 2 unchanged, 1 failed")
	if got := n.short("www.one.example", "A") + n.short("www.two.example", "A"); got != "192.0.2.11\n192.0.2.2\n" {
		t.Errorf("after it: %q", got)
	}
	failed := run(t, n.env(), "", "zone", "import", bad, "-o", "json")
	if failed.code != 1 || !strings.Contains(failed.out, `"result": "failed"`) || !strings.Contains(failed.out, bad+":5:8: ") {
		t.Errorf("-o json of a failure: %v", failed)
	}

	// A serial that went forward is taken as it is.
	write(t, dir, "zones/one.example.zone", plain(2026010100, 12))
	contains(t, "a newer serial", n.cli("zone", "import", filepath.Join(dir, "zones", "one.example.zone")), "one.example.: replaced, serial 2026010100")

	// --dry-run changes nothing; standard input is a file; $INCLUDE is for the command line.
	contains(t, "--dry-run", n.cli("zone", "import", "--dry-run", "--origin", "five.example.", fourth), "five.example.: created")
	n.fails(1, "not hosted", "zone", "show", "five.example.")
	if r := run(t, n.env(), plain(7, 5), "zone", "import", "-", "--origin", "five.example."); r.code != 0 {
		t.Error(r)
	}
	write(t, dir, "hosts.inc", "ftp A 192.0.2.66\n")
	including := write(t, dir, "six.example.zone", plain(1, 6)+"$INCLUDE hosts.inc\n$GENERATE 1-3 h$ A 192.0.2.$\n")
	contains(t, "$INCLUDE and $GENERATE", n.cli("zone", "import", including), "six.example.: created, serial 1, 7 records")
	if got := n.short("ftp.six.example", "A") + n.short("h3.six.example", "A"); got != "192.0.2.66\n192.0.2.3\n" {
		t.Errorf("what was included and generated: %q", got)
	}
	if res := n.call("PUT", "/v1/zones/seven.example./file", plain(1, 7)+"$INCLUDE /etc/passwd\n", "Content-Type: text/dns"); res.status != 422 || !strings.Contains(res.body, "$INCLUDE") {
		t.Errorf("$INCLUDE over HTTP: %d\n%s", res.status, res.body)
	}

	// Mixed TTLs take the lowest, with a warning.
	mixed := write(t, dir, "mixed.example.zone", plain(1, 8)+"www 60 A 192.0.2.88\n")
	r = run(t, n.env(), "", "zone", "import", mixed)
	if r.code != 0 || !strings.Contains(r.err, "warning: "+mixed) && !strings.Contains(r.err, "warning: mixed.example.zone:") {
		t.Errorf("mixed TTLs: %v", r)
	}
	contains(t, "mixed TTLs", n.dig("+noall", "+answer", "www.mixed.example", "A"), "www.mixed.example.\t60\tIN\tA\t192.0.2.8", "www.mixed.example.\t60\tIN\tA\t192.0.2.88")
}

// TestImportNamesThePlace of every kind of mistake, found here or by the server, and writes nothing.
func TestImportNamesThePlace(t *testing.T) {
	t.Parallel()
	n := start(t)
	dir := t.TempDir()
	for name, c := range map[string]struct{ add, place, what string }{
		"address":       {"www A 192.0.2.300\n", "5:7", ""},
		"type":          {"www QQ 1\n", "5:5", "QQ"},
		"missing rdata": {"mail MX 10\n", "5:", ""},
		"parenthesis":   {"txt TXT ( \"a\"\n", "5:", ""},
		"quote":         {"txt TXT \"a\n", "5:", ""},
		"long label":    {strings.Repeat("a", 64) + " A 192.0.2.1\n", "5:1", ""},
		"escape":        {"a\\999 A 192.0.2.1\n", "5:1", ""},
		"ttl":           {"www 99999999999 A 192.0.2.1\n", "5:5", ""},
		"class":         {"www CH A 192.0.2.1\n", "5:5", ""},
		"directive":     {"$NOTHING 1\n", "5:1", "$NOTHING"},
		"generate":      {"$GENERATE 1-99999999 h$ A 192.0.2.1\n", "5:", ""},
		"include":       {"$INCLUDE missing.inc\n", "5:", "missing.inc"},
		"outside":       {"www.example.org. A 192.0.2.1\n", "5:1", "not in the zone"},
		"cname":         {"www CNAME elsewhere.example.net.\n", "5:1", "CNAME"},
		"two cnames":    {"a CNAME b\na CNAME c\n", "5:1", "CNAME"},
		"second soa":    {"@ SOA a. b. 1 2 3 4 5\n", "", "SOA"},
		"below dname":   {"d DNAME example.net.\nx.d A 192.0.2.1\n", "6:1", "DNAME"},
		"ds without ns": {"sub DS 1 8 2 " + strings.Repeat("00", 32) + "\n", "5:1", "DS"},
		"odd hex":       {"x TYPE65280 \\# 2 0a0\n", "5:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, filepath.Join(dir, strings.ReplaceAll(name, " ", "-")), "example.com.zone", plain(1, 1)+c.add)
			for _, command := range []string{"import", "check"} {
				r := run(t, n.env(), "", "zone", command, file)
				if r.code != 1 || !strings.Contains(r.err, file+":"+c.place) || !strings.Contains(r.err, c.what) {
					t.Errorf("%v\nwant exit 1, %s:%s and %q", r, file, c.place, c.what)
				}
			}
		})
	}
	empty := write(t, dir, "empty.zone", "; nothing\n")
	n.fails(1, empty+":1:1: ", "zone", "import", empty)
	noSOA := write(t, dir, "no-soa.zone", "$TTL 1\nwww A 192.0.2.1\n")
	n.fails(1, noSOA+":2:1: ", "zone", "import", noSOA)
	noNS := write(t, dir, "no-ns.zone", "@ 1 SOA a. b. 1 2 3 4 5\n")
	n.fails(1, noNS+":1:1: ", "zone", "import", noNS)
	emptyDir := filepath.Join(dir, "empty")
	if err := os.Mkdir(emptyDir, 0o755); err != nil {
		t.Fatal(err)
	}
	n.fails(1, "*.zone", "zone", "import", emptyDir)
	if list := jsonOf[[]zoneInfo](n, "zone", "list"); len(list) != 0 {
		t.Errorf("something was written: %+v", list)
	}

	// Losing most of a zone at once needs --force.
	big := plain(1, 1) + "$GENERATE 1-200 h$ A 192.0.2.1\n"
	file := write(t, dir, "big.example.zone", big)
	n.cli("zone", "import", file)
	write(t, dir, "big.example.zone", plain(2, 1))
	n.fails(1, "--force", "zone", "import", file)
	n.cli("zone", "import", "--force", file)
}

// TestProgress: a bar on a terminal, and nothing of it in a file or a pipe.
func TestProgress(t *testing.T) {
	t.Parallel()
	n := start(t)
	command := fmt.Sprintf("env BALEFIRE_TOKEN=%s %s zone import --origin . --server http://%s %s", balefiretest.Token, binary, n.Admin, rootZone)
	out := tool(t, "script", "-qec", command, "/dev/null")
	contains(t, "on a terminal", out, "\r[", "of 1 zones", "MiB/s", ".: created, serial 2017082100, 22772 records")
	if r := run(t, n.env(), "", "zone", "import", "--origin", ".", rootZone); r.code != 0 || strings.ContainsAny(r.out+r.err, "\r[") {
		t.Errorf("not on a terminal: %v", r)
	}
}
