package contract

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

// TestOneServerOnADirectory: a second one says so and ends, and the first goes on.
func TestOneServerOnADirectory(t *testing.T) {
	t.Parallel()
	n := start(t, "--sample", sampleZones)
	awaitSamples(n)
	began := time.Now()
	r := run(t, []string{"BALEFIRE_TOKEN=" + balefiretest.Token}, "", "serve", "--data-dir", n.Dir, "--dns-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if r.code != 1 || !strings.Contains(r.err, n.Dir+" is in use") {
		t.Errorf("a second server on the same directory: %v", r)
	}
	if took := time.Since(began); took > time.Minute/2 {
		t.Errorf("it took %s to refuse", took)
	}
	if got := n.short("mail.example.com", "A"); got != "192.0.2.25\n" {
		t.Errorf("the first one answers %q", got)
	}
	n.cli("record", "set", "example.com.", "www", "A", "300", "192.0.2.7")
}

// samples are the addresses of names in zones of their own. Questions for an apex can be answered without knowing
// what the other partitions have; of what is below it, a part can't while one of them is missing.
var samples = map[string]string{
	"example.com":       "192.0.2.80\n",
	"one.example":       "192.0.2.201\n",
	"two.example":       "192.0.2.202\n",
	"elsewhere.example": "192.0.2.200\n",
}

// damaged fills a node, kills it, and has its files damaged before it is started again. Partition is that of
// example.com., in which no other zone is.
func damaged(t *testing.T, damage func(dir string, partition int)) node {
	t.Helper()
	n := start(t, "--sample", sampleZones)
	awaitSamples(n)
	for zone, address := range samples {
		if zone != "example.com" {
			n.cli("zone", "create", zone, "--ns", "ns1.example.net.")
			n.cli("record", "set", zone, "@", "A", "60", strings.TrimSpace(address))
		}
	}
	number := func(zone string) (p int) {
		position := api[struct{ Position string }](n, 200, "GET", "/v1/zones/"+zone, "").Position
		if _, err := fmt.Sscanf(position, "%d@", &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	partition := number("example.com.")
	for zone := range samples {
		if zone != "example.com" && number(zone) == partition {
			t.Fatalf("%s is in the partition of example.com.", zone)
		}
	}
	n.Kill()
	damage(n.Dir, partition)
	how := n.How
	how.Args, how.DNS = nil, nil
	return launchWith(t, how)
}

// awaitAnswers waits until the server answers for every zone that is not damaged: the partitions are opened one after another.
func awaitAnswers(n node) {
	n.t.Helper()
	if err := n.Await(time.Minute, "answering", func() bool {
		for zone, want := range samples {
			if zone == "example.com" {
				continue
			}
			out, err := tryTool(n.t, "dig", append(at(n.DNS), "+short", "+tries=1", "+time=1", zone, "A")...)
			if err != nil || out != want {
				return false
			}
		}
		return true
	}); err != nil {
		n.t.Fatalf("%v\n%s", err, n.Log())
	}
}

// overwrite damages the middle of a file.
func overwrite(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("!!!!!!!!!!!!!!!!"), at); err != nil {
		t.Fatal(err)
	}
}

func checkSamples(n node) {
	n.t.Helper()
	for zone, want := range samples {
		if got := n.short(zone, "A"); got != want {
			n.t.Errorf("%s: %q, want %q\n%s", zone, got, want, n.Log())
		}
	}
}

// TestDamagedCopyIsMadeAnew: the log has all of it.
func TestDamagedCopyIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(dir string){
		"description": func(dir string) { overwrite(t, filepath.Join(dir, "META"), 0) },
		"memtable":    func(dir string) { overwrite(t, filepath.Join(dir, "badger", "00001.mem"), 60) },
		"gone": func(dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := damaged(t, func(dir string, partition int) {
				damage(filepath.Join(dir, "partitions", fmt.Sprintf("%03d", partition)))
			})
			if err := n.Await(time.Minute, "answering from what it made anew", func() bool {
				out, err := tryTool(t, "dig", append(at(n.DNS), "+short", "+tries=1", "+time=1", "mail.example.com", "A")...)
				return err == nil && out == "192.0.2.25\n"
			}); err != nil {
				t.Fatalf("%v\n%s", err, n.Log())
			}
			checkSamples(n)
			n.cli("record", "set", "example.com.", "new", "A", "60", "192.0.2.5")
			if got := n.short("new.example.com", "A"); got != "192.0.2.5\n" {
				t.Errorf("a change after that: %q", got)
			}
		})
	}
}

// TestAnswersBeforeAllIsOpen: what is open is answered while the start still waits for the rest, which is not denied, and nobody is told that the
// node is ready.
func TestAnswersBeforeAllIsOpen(t *testing.T) {
	t.Parallel()
	n := damaged(t, func(dir string, partition int) { // not damaged, but of a version that is still to come
		file := filepath.Join(dir, "partitions", fmt.Sprintf("%03d", partition), "META")
		newer := fmt.Sprintf("{\"format\":99,\"partition\":%d,\"topic_id\":\"\"}\n", partition)
		if err := os.WriteFile(file, []byte(newer), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	awaitAnswers(n)
	// A start that is not ready gives up waiting when nothing has changed for two seconds: who was slow to ask can't tell.
	if strings.Contains(n.Said(), "is ready.") && time.Since(n.Began) < 2*time.Second {
		t.Errorf("no answer before all that can be was open\n%s", n.Log())
	}
	if _, status := n.health(); status != 503 {
		t.Errorf("/readyz: %d", status)
	}
	for _, name := range []string{"example.com", "mail.example.com", "nothing.example.com"} {
		if out := n.dig(name, "A"); !strings.Contains(out, "status: SERVFAIL") {
			t.Errorf("of a partition that is not open:\n%s", out)
		}
	}
}

// TestDamagedDatabase: whatever becomes of a partition whose database can't be opened, it is said where, the others
// are answered, and what is in it is never denied.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	var file string
	n := damaged(t, func(dir string, partition int) {
		file = filepath.Join(dir, "partitions", fmt.Sprintf("%03d", partition), "badger")
		overwrite(t, filepath.Join(file, "MANIFEST"), 0)
	})
	awaitAnswers(n)
	took := time.Since(n.Began)
	t.Logf("all answers came after %s", took.Round(time.Millisecond))
	if took > time.Minute {
		t.Errorf("one partition silenced the others for %s", took)
	}
	contains(t, "the log", n.Log(), filepath.Dir(file))
	for zone, want := range samples {
		if got := n.short(zone, "A"); got != want && zone != "example.com" {
			t.Errorf("%s: %q, want %q", zone, got, want)
		}
	}
	for _, name := range []string{"mail.example.com", "nothing.example.com"} {
		out := n.dig(name, "A")
		answered := strings.Contains(out, "192.0.2.25") || name != "mail.example.com" && strings.Contains(out, "status: NXDOMAIN") && strings.Contains(out, "IN\tSOA")
		if !answered && !strings.Contains(out, "status: SERVFAIL") {
			t.Errorf("what can't be known is neither SERVFAIL nor right:\n%s", out)
		}
	}
}

// TestDamagedLog: everything is still answered; nothing is taken for a partition whose log is not what it was, and
// nobody is told that it was.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	n := damaged(t, func(dir string, partition int) {
		files, err := filepath.Glob(filepath.Join(dir, "log", "broker", "partitions", fmt.Sprintf("*.mutations-%d", partition), "*.dat"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no log of partition %d: %v", partition, err)
		}
		for _, file := range files {
			overwrite(t, file, 100)
		}
	})
	if err := n.AwaitReady(time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	checkSamples(n)
	n.cli("record", "set", "elsewhere.example.", "new", "A", "60", "192.0.2.5")
	if got := n.short("new.elsewhere.example", "A"); got != "192.0.2.5\n" {
		t.Errorf("a change in a partition that is whole: %q", got)
	}
	r := run(t, n.env(), "", "record", "set", "example.com.", "new", "A", "60", "192.0.2.5")
	if got := n.short("new.example.com", "A"); (r.code == 0) != (got == "192.0.2.5\n") {
		t.Errorf("DNS says %q after\n%v%s", got, r, n.Log())
	}
	if r.code != 0 && r.err == "" {
		t.Errorf("no reason: %v", r)
	}
}

// TestDamagedControlLog: without what holds the namespace together nothing is written, and everything answered.
func TestDamagedControlLog(t *testing.T) {
	t.Parallel()
	var file string
	n := damaged(t, func(dir string, _ int) {
		files, err := filepath.Glob(filepath.Join(dir, "log", "broker", "partitions", "*.control-0", "*.dat"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no control log: %v", err)
		}
		file = files[0]
		overwrite(t, file, 100)
	})
	if err := n.AwaitReady(time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	checkSamples(n)
	contains(t, "the log", n.Log(), file, "damaged")
	r := run(t, n.env(), "", "record", "set", "example.com.", "new", "A", "60", "192.0.2.5")
	if r.code != 1 || !strings.Contains(r.err, "nothing was changed") || !strings.Contains(r.err, "damaged") {
		t.Errorf("a write without a log: %v", r)
	}
}
