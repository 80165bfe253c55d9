package contract

import (
	"fmt"
	"reflect"
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
	n.cli("zone", "set", "gone.example.", "--allow-transfer", "key:transfer.example.@192.0.2.0/24", "--allow-update", "192.0.2.9", "--update-names", "dyn", "--update-types", "A",
		"--notify", "198.51.100.5")
	n.cli("zone", "set", "same.example.", "--secondary-of", "192.0.2.1")
	n.cli("zone", "create", "await.example.", "--secondary-of", "192.0.2.2", "--tls=ns1.example.net")
	n.cli("zone", "create", "copy.example.", "--ns", "ns1.example.net.")
	n.cli("zone", "set", "copy.example.", "--secondary-of", "key:transfer.example.@192.0.2.3")
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
		return newest.Offset >= 11
	}); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	at := fmt.Sprintf("0@%d", newest.Offset)

	n.cli("record", "set", "example.com.", "www", "A", "60", "192.0.2.66")
	n.cli("record", "set", "keep.example.", "www", "A", "60", "192.0.2.66")
	settings := map[string]peers{}
	for _, zone := range []string{"gone.example.", "await.example.", "copy.example."} {
		settings[zone] = jsonOf[peers](n, "zone", "show", zone)
		n.cli("zone", "delete", zone)
	}
	n.cli("zone", "set", "same.example.", "--secondary-of", "none")
	n.cli("record", "set", "same.example.", "www", "A", "60", "192.0.2.66")
	n.cli("zone", "set", "same.example.", "--secondary-of", "192.0.2.1", "--allow-notify", "192.0.2.8")
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
		"gone.example.: created", "await.example.: created", "copy.example.: created", "same.example.: kept", "keep.example.: replaced",
		"3 created, 1 replaced, 1 unchanged, 1 kept")
	for zone, want := range settings {
		if got := jsonOf[peers](n, "zone", "show", zone); !reflect.DeepEqual(got, want) {
			t.Errorf("%s came back as %+v, and was %+v", zone, got, want)
		}
	}
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
