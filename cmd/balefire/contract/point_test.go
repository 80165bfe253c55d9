package contract

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRestoreToAPoint: between backups, and before the first, the log says what was there; into the namespace itself, and
// into one with another number of partitions.
func TestRestoreToAPoint(t *testing.T) {
	t.Parallel()
	shift := devShift(t)
	dir := filepath.Join(t.TempDir(), "cluster")
	const ready = "All 1 nodes are ready"
	c := startCluster(t, dir, ready, "--port-shift", strconv.Itoa(shift), "--regions", "1", "--groups", "1", "--nodes", "1", "--partitions", "2",
		"--", "--backup-interval", "1s")
	source := c.node("127.0.1.1", shift)
	url := "file://" + filepath.Join(dir, "objects")
	set := func(value string) (at string) {
		t.Helper()
		var got changed
		out := c.asked(source, "record", "set", "example.com.", "www", "A", "60", value, "-o", "json")
		if err := json.Unmarshal([]byte(out), &got); err != nil || got.ID == "" {
			t.Fatalf("%v: %s", err, out)
		}
		return got.ID
	}
	c.asked(source, "zone", "create", "example.com.", "--ns", "ns1.example.net.")
	first := set("192.0.2.1")
	saved := set("192.0.2.2")
	c.eventually("back up "+saved, func() bool {
		r := run(t, nil, "", "backup", "list", "--backup-url", url, "-o", "json")
		var list []backedUp
		if r.code != 0 || json.Unmarshal([]byte(r.out), &list) != nil {
			return false
		}
		for _, b := range list {
			if fmt.Sprintf("%d@%d", b.Partition, b.Offset) == saved {
				return true
			}
		}
		return false
	})
	c.end(2)
	c = startCluster(t, dir, ready, "--", "--backup-create=false")
	third, fourth := set("192.0.2.3"), set("192.0.2.4")
	c.asked(source, "zone", "delete", "example.com.")

	target := start(t, "--namespace", "other", "--partitions", "5")
	restore := []string{"backup", "restore", "--backup-url", url}
	tls := filepath.Join(dir, "log", "tls")
	exact := append(restore, "--brokers", "127.0.0.1:"+strconv.Itoa(9092+shift), "--kafka-tls",
		"--kafka-tls-ca", filepath.Join(tls, "ca.pem"), "--kafka-tls-cert", filepath.Join(tls, "client.pem"), "--kafka-tls-key", filepath.Join(tls, "client-key.pem"))
	var time3 struct{ Time time.Time }
	if err := json.Unmarshal([]byte(c.asked(source, "change", "show", third, "-o", "json")), &time3); err != nil {
		t.Fatal(err)
	}
	serial := uint32(0)
	for _, tt := range []struct {
		at, value, from string
		args            []string
	}{
		{third, "192.0.2.3", "a backup of offset", exact},
		{fourth, "192.0.2.4", "and the log after it", exact},
		{saved, "192.0.2.2", "from a backup", exact},
		{first, "192.0.2.1", "", exact}, // a backup or the log alone, as it happened
		{time3.Time.Format(time.RFC3339Nano), "192.0.2.3", "and the log after it", exact},
		{fourth, "192.0.2.2", "the nearest backup; --brokers reads", restore},
		{third, "192.0.2.2", "the nearest backup\n", append(exact, "--nearest")},
	} {
		r := run(t, target.env(), "", append(tt.args, "example.com.", "--at", tt.at)...)
		if r.code != 0 || !strings.Contains(r.err, tt.from) {
			t.Errorf("--at %s: %v", tt.at, r)
		}
		if got := target.short("www.example.com", "A"); got != tt.value+"\n" {
			t.Errorf("--at %s: %q, want %s\n%v", tt.at, got, tt.value, r)
		}
		if now := target.serial("example.com"); now < serial {
			t.Errorf("--at %s: the serial went from %d to %d", tt.at, serial, now)
		} else {
			serial = now
		}
	}
	contains(t, "newest backup", target.cli(append(restore, "example.com.")...), "example.com.: unchanged") // found in whichever partition
	contains(t, "all", target.cli(append(exact, "--all", "--at", time3.Time.Format(time.RFC3339Nano))...), "example.com.: replaced")
	target.fails(1, "does not have it", append(restore, "example.net.")...)
	target.fails(1, "the log ends at", append(exact, "example.com.", "--at", strings.Split(third, "@")[0]+"@4711")...)
	target.fails(2, "want a time", append(exact, "example.com.", "--at", "then")...)
	target.fails(1, "no topic nowhere.mutations", append(exact, "example.com.", "--at", third, "--namespace", "nowhere")...)

	// Into the namespace that lost it.
	contains(t, "the namespace itself", c.asked(source, append(exact, "example.com.", "--at", fourth)...), "example.com.: created")
	if got := source.short("www.example.com", "A"); got != "192.0.2.4\n" {
		t.Errorf("brought back as %q", got)
	}
}
