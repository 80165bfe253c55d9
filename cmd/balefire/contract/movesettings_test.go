package contract

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// TestNamespaceMoveSettings: what a move carries beside content: zones' settings, how secondary zones stand, TSIG keys and ACLs, so that who could do
// something can still do it, and nobody else.
func TestNamespaceMoveSettings(t *testing.T) {
	t.Parallel()
	old := start(t, "--node-id", "old", "--partitions", "2")
	key := jsonOf[tsigKey](old, "tsig", "create", "transfer.example.")
	old.cli("tsig", "create", "update.example.", "--algorithm", "hmac-sha512")
	old.cli("acl", "set", "secondaries", "--allow", "transfer", "--key", "transfer.example.", "--zone", "plain.example.")
	old.cli("acl", "set", "acme", "--allow", "update", "--key", "update.example.", "--network", "127.0.0.0/8", "--zone", "+example.", "--name", "*.plain.example.", "--type", "TXT")
	for _, zone := range []string{"plain.example.", "full.example.", "ice.example.", "second.example.", "turned.example."} {
		old.cli("zone", "create", zone, "--ns", "ns1.example.net.")
		old.cli("record", "set", zone, "www", "A", "60", "192.0.2.1")
	}
	old.cli("zone", "set", "full.example.", "--allow-notify", "192.0.2.8")
	old.cli("zone", "set", "full.example.", "--notify", "198.51.100.5,key:update.example.@[2001:db8::5]:5353", "--allow-transfer", "key:transfer.example.@127.0.0.0/8",
		"--allow-update", "key:update.example.", "--update-names", "dyn", "--update-types", "A,TXT", "--serial-policy", "date")
	old.cli("zone", "freeze", "ice.example.")
	old.cli("zone", "set", "second.example.", "--secondary-of", "192.0.2.1", "--tsig", "transfer.example.", "--notify", "198.51.100.6")
	old.cli("zone", "create", "await.example.", "--secondary-of", "192.0.2.2", "--tls=ns1.example.net")
	old.cli("zone", "set", "plain.example.", "--group", "customers")
	old.cli("catalog", "create", "made.catalog.", "--group", "customers", "--notify", "198.51.100.7")
	old.cli("catalog", "subscribe", "theirs.catalog.", "--from", "192.0.2.4", "--tsig", "transfer.example.")
	old.cli("zone", "set", "await.example.", "--allow-transfer", "192.0.2.9")

	// Keys go only where they can be opened.
	stranger := start(t, "--node-id", "stranger", "--partitions", "1", "--namespace", "third")
	toStranger := []string{"namespace", "move", "--to-server", "http://" + stranger.Admin}
	old.fails(1, "secrets.key-file", toStranger...)
	stranger.cli("tsig", "create", "own.")
	old.fails(1, "with the secrets of the old one", toStranger...)

	fresh := start(t, "--node-id", "fresh", "--partitions", "3", "--namespace", "second", "--secrets-key-file", filepath.Join(old.How.Dir, "secrets.key"))
	fresh.cli("acl", "set", "own", "--allow", "notify", "--key", "transfer.example.")
	move := []string{"namespace", "move", "--to-server", "http://" + fresh.Admin}
	text := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	equalSettings := func(what string) {
		t.Helper()
		for name := range zonesOf(old) {
			if want, got := text(jsonOf[peers](old, "zone", "show", name)), text(jsonOf[peers](fresh, "zone", "show", name)); got != want {
				t.Errorf("%s: %s is\n%s, want\n%s", what, name, got, want)
			}
		}
		for _, list := range [][]string{{"tsig", "list"}, {"acl", "list"}} {
			want, got := old.cli(list...), fresh.cli(list...)
			for line := range strings.Lines(want) {
				if !strings.Contains(got, strings.TrimRight(line, " \n")) {
					t.Errorf("%s: %s has\n%s, and not %q", what, strings.Join(list, " "), got, line)
				}
			}
		}
	}
	contains(t, "first", old.cli(move...), "4 TSIG keys and ACLs copied", "left alone: ACL own\n", "All 8 zones are equal")
	equalSettings("first")
	contains(t, "nothing new", old.cli(move...), "pass 1: 8 zones, 0 copied")
	transferred := func(zone, status string) {
		t.Helper()
		out := fresh.dig("-y", key.Algorithm+":"+key.Name+":"+key.Secret, "+noidnout", zone, "AXFR")
		if got := strings.Contains(out, "www."+zone); got != (status == "") || !strings.Contains(out, status) {
			t.Errorf("AXFR of %s by its key: %s", zone, out)
		}
	}
	transferred("plain.example.", "")
	transferred("full.example.", "")
	transferred("ice.example.", "Transfer failed")
	contains(t, "a frozen zone", fresh.dig("www.ice.example", "A"), "192.0.2.1")
	fresh.fails(1, "frozen", "record", "set", "ice.example.", "www", "A", "60", "192.0.2.3")
	contains(t, "a secondary zone", fresh.dig("www.second.example", "A"), "192.0.2.1")
	contains(t, "one that awaits", fresh.dig("await.example", "SOA"), "SERVFAIL", "EDE: 14")

	// What has changed: settings only, the content of a frozen zone, which zones are secondary, an ACL.
	old.cli("zone", "set", "full.example.", "--allow-transfer", "none", "--notify", "none")
	old.cli("zone", "thaw", "ice.example.")
	old.cli("record", "set", "ice.example.", "www", "A", "60", "192.0.2.2")
	old.cli("zone", "freeze", "ice.example.")
	old.cli("zone", "set", "second.example.", "--secondary-of", "none")
	old.cli("record", "set", "second.example.", "www", "A", "60", "192.0.2.2")
	old.cli("zone", "set", "turned.example.", "--secondary-of", "192.0.2.1")
	old.cli("catalog", "set", "made.catalog.", "--group", "customers", "--group", "others")
	old.cli("zone", "delete", "await.example.")
	old.cli("zone", "create", "await.example.", "--ns", "ns1.example.net.")
	for shown := ""; shown <= aclTime(fresh, "acme"); shown = aclTime(old, "acme") { // times are to the second
		old.cli("acl", "set", "acme", "--allow", "update", "--key", "update.example.", "--zone", "plain.example.")
	}
	contains(t, "second", old.cli(move...), "8 zones, 6 copied, 1 TSIG keys and ACLs copied", "All 8 zones are equal")
	equalSettings("second")
	transferred("full.example.", "Transfer failed")
	for _, zone := range []string{"ice.example", "second.example"} {
		if got := fresh.short("www."+zone, "A"); got != "192.0.2.2\n" {
			t.Errorf("%s: %q", zone, got)
		}
	}
	fresh.cli("record", "set", "second.example.", "mail", "A", "60", "192.0.2.9")
	fresh.fails(1, "primaries", "record", "set", "turned.example.", "mail", "A", "60", "192.0.2.9")

	// What was changed in the new namespace is not overwritten by accident.
	old.fails(1, "second.example.: it was changed in the new namespace", move...)
	for shown := ""; shown <= aclTime(old, "acme"); shown = aclTime(fresh, "acme") {
		fresh.cli("acl", "set", "acme", "--allow", "update", "--network", "127.0.0.0/8")
	}
	fresh.cli("zone", "set", "full.example.", "--allow-update", "none")
	fresh.cli("tsig", "delete", "update.example.")
	fresh.cli("tsig", "create", "update.example.")
	r := old.fails(1, "ACL acme: it was changed in the new namespace", move...)
	contains(t, "both", r.out+r.err, "full.example.: it was changed in the new namespace", "TSIG key update.example.: the new namespace has another one")
	contains(t, "forced", old.cli(append(move, "--force")...), "All 8 zones are equal")
	equalSettings("forced")

	// A zone that a move has brought is deleted where it was deleted, frozen or not.
	old.cli("zone", "thaw", "ice.example.")
	old.cli("zone", "delete", "ice.example.")
	contains(t, "last", old.cli(append(move, "--freeze")...), "1 deleted", "All 7 zones are equal, and the old namespace is at rest")
	equalSettings("last")
	// What is the namespace's stays as it was moved, like its zones.
	old.fails(1, "send them to", "tsig", "create", "late.example.")
	old.fails(1, "send them to", "acl", "set", "acme", "--allow", "transfer", "--key", "transfer.example.")
	old.fails(1, "send them to", "acl", "delete", "acme")
	old.cli("namespace", "thaw")
	old.cli("acl", "delete", "acme")
}

// aclTime is when an ACL was set.
func aclTime(n node, name string) string {
	for _, a := range jsonOf[[]struct{ Name, Changed string }](n, "acl", "list") {
		if a.Name == name {
			return a.Changed
		}
	}
	return ""
}
