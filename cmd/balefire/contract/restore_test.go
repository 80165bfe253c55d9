package contract

import (
	"fmt"
	"testing"
	"time"
)

// backedUp is a line of `backup list -o json`.
type backedUp struct {
	Partition int32
	Offset    int64
}

// TestRestoreFromBackup: a zone, and all of them, are brought back to what a backup has; serials go on.
func TestRestoreFromBackup(t *testing.T) {
	t.Parallel()
	url := "file://" + t.TempDir()
	n := start(t, "--partitions", "1", "--backup-url", url, "--backup-interval", "1s", "--backup-keep", "1000")
	for _, zone := range []string{"example.com.", "gone.example.", "same.example."} {
		n.cli("zone", "create", zone, "--ns", "ns1.example.net.")
		n.cli("record", "set", zone, "www", "A", "60", "192.0.2.1")
	}
	dir := t.TempDir()
	write(t, dir, "keep.example.zone", "@ 60 SOA ns1 root 500 1 1 1 1\n@ 60 NS ns1.example.net.\nwww 60 A 192.0.2.1\n")
	n.cli("zone", "import", dir, "--serial-policy", "keep")
	var newest backedUp
	if err := n.Await(time.Minute, "backed up", func() bool {
		if run(t, n.env(), "", "backup", "list", "--backup-url", url).code != 0 {
			return false
		}
		list := jsonOf[[]backedUp](n, "backup", "list", "--backup-url", url)
		if len(list) > 0 {
			newest = list[0]
		}
		return newest.Offset >= 6
	}); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	at := fmt.Sprintf("0@%d", newest.Offset)

	n.cli("record", "set", "example.com.", "www", "A", "60", "192.0.2.66")
	n.cli("record", "set", "keep.example.", "www", "A", "60", "192.0.2.66")
	n.cli("zone", "delete", "gone.example.")
	n.cli("zone", "create", "new.example.", "--ns", "ns1.example.net.")
	before, keep := n.serial("example.com"), n.serial("keep.example")

	restore := []string{"backup", "restore", "--backup-url", url, "--at", at}
	contains(t, "dry run", n.cli(append(restore, "example.com.", "--dry-run")...), "example.com.: replaced")
	if got := n.short("www.example.com", "A"); got != "192.0.2.66\n" {
		t.Errorf("a dry run changed www to %q", got)
	}
	contains(t, "one zone", n.cli(append(restore, "example.com.")...), "example.com.: replaced")
	if got := n.short("www.example.com", "A"); got != "192.0.2.1\n" {
		t.Errorf("restored: %q", got)
	}
	if got := n.short("www.keep.example", "A"); got != "192.0.2.66\n" {
		t.Errorf("not asked for, and %q", got)
	}
	if after := n.serial("example.com"); after <= before {
		t.Errorf("the serial went from %d to %d", before, after)
	}
	contains(t, "all", n.cli(append(restore, "--all")...),
		"gone.example.: created", "same.example.: unchanged", "keep.example.: replaced", "1 created, 1 replaced, 2 unchanged")
	for name, want := range map[string]string{"www.gone.example": "192.0.2.1\n", "www.keep.example": "192.0.2.1\n"} {
		if got := n.short(name, "A"); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if after := n.serial("keep.example"); after <= keep {
		t.Errorf("the serial went from %d to %d", keep, after)
	}
	if got := n.short("new.example", "NS"); got != "ns1.example.net.\n" {
		t.Errorf("a zone that the backup does not have: %q", got)
	}

	n.fails(1, "does not have it", append(restore, "new.example.")...)
	n.fails(1, "no backup", "backup", "restore", "--backup-url", url, "--at", "2001-01-01T00:00:00Z", "--all")
	n.fails(2, "--at", "backup", "restore", "--backup-url", url, "--at", "yesterday", "--all")
	n.fails(2, "what to restore", "backup", "restore", "--backup-url", url)
	n.fails(2, "want one of", append(restore, "--all", "--topic", "00")...)
}
