package contract

import (
	"encoding/json"
	"strings"
	"testing"
)

// peers is what `zone show -o json` says of a zone beside its content.
type peers struct {
	SerialPolicy  string           `json:"serial_policy"`
	Frozen        bool             `json:"frozen"`
	Standing      string           `json:"standing"`
	Primaries     []map[string]any `json:"primaries"`
	Notify        []map[string]any `json:"notify"`
	AllowTransfer []map[string]any `json:"allow_transfer"`
	AllowUpdate   []map[string]any `json:"allow_update"`
	AllowNotify   []map[string]any `json:"allow_notify"`
	Groups        []string         `json:"groups"`
	NewOwner      string           `json:"new_owner"`
	Catalog       map[string]any   `json:"catalog"`
}

// equal compares a value with JSON text.
func equal(t *testing.T, what string, got any, want string) {
	t.Helper()
	b, err := json.Marshal(got)
	if err != nil || string(b) != want {
		t.Errorf("%s: %s, %v; want %s", what, b, err, want)
	}
}

// TestSettings goes through the settings of a zone, as a table and as JSON.
func TestSettings(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("zone", "create", "example.org.", "--ns", "ns1")
	if out := n.cli("zone", "set", "example.org.", "--notify", "198.51.100.5,[2001:db8::5]:5353", "--notify", "key:note@198.51.100.6", "--allow-transfer", "key:secondary.example."); !strings.HasPrefix(out, "example.org. set, serial ") {
		t.Errorf("zone set: %q", out)
	}
	n.cli("zone", "set", "example.org.", "--allow-transfer", "192.0.2.0/24", "--allow-transfer", "key:a@2001:db8::/32", "--allow-notify", "192.0.2.1")
	n.cli("zone", "set", "example.org.", "--allow-update", "key:dhcp@192.0.2.53", "--update-names", "dyn", "--update-types", "A,TXT", "--serial-policy", "date")
	got := jsonOf[peers](n, "zone", "show", "example.org.")
	equal(t, "notify", got.Notify, `[{"address":"198.51.100.5","port":53},{"address":"2001:db8::5","port":5353},{"address":"198.51.100.6","key":"note.","port":53}]`)
	equal(t, "allow_transfer", got.AllowTransfer, `[{"networks":["192.0.2.0/24"]},{"key":"a.","networks":["2001:db8::/32"]}]`)
	equal(t, "allow_notify", got.AllowNotify, `[{"networks":["192.0.2.1/32"]}]`)
	equal(t, "allow_update", got.AllowUpdate, `[{"key":"dhcp.","names":[{"name":"dyn.example.org.","scope":"all"}],"networks":["192.0.2.53/32"],"types":["A","TXT"]}]`)
	if got.SerialPolicy != "date" || got.Frozen || got.Standing != "" || len(got.Primaries) != 0 {
		t.Errorf("%+v", got)
	}
	rows(
		t, n.cli("zone", "show", "example.org."),
		row("notified", `198\.51\.100\.5:53`), row("", `\[2001:db8::5\]:5353`), row("", `key:note\.@198\.51\.100\.6:53`), row("may transfer", `192\.0\.2\.0/24`),
		row("may update", `key:dhcp\.@192\.0\.2\.53/32`, `all:dyn\.example\.org\.`, "A,TXT"), row("may notify", `192\.0\.2\.1/32`),
	)
	n.cli("zone", "set", "example.org.", "--notify", "none", "--allow-update", "none")
	got = jsonOf[peers](n, "zone", "show", "example.org.")
	equal(t, "notify", got.Notify, `[]`)
	equal(t, "allow_update", got.AllowUpdate, `[]`)
	equal(t, "allow_notify", got.AllowNotify, `[{"networks":["192.0.2.1/32"]}]`)

	// freeze, thaw
	if out := n.cli("zone", "freeze", "example.org."); !strings.HasPrefix(out, "example.org. frozen") {
		t.Errorf("zone freeze: %q", out)
	}
	n.fails(1, "frozen", "record", "set", "example.org.", "www", "A", "300", "192.0.2.7")
	n.fails(1, "frozen", "zone", "delete", "example.org.")
	rows(t, n.cli("zone", "show", "example.org."), row("frozen", "yes"))
	if out := n.cli("zone", "thaw", "example.org."); !strings.HasPrefix(out, "example.org. thawed") {
		t.Errorf("zone thaw: %q", out)
	}
	n.cli("record", "set", "example.org.", "www", "A", "300", "192.0.2.7")

	// what makes no sense
	n.fails(2, "nothing to set", "zone", "set", "example.org.")
	n.fails(2, "want an IP address", "zone", "set", "example.org.", "--notify", "ns1.example.net.")
	n.fails(2, "no term", "zone", "set", "example.org.", "--notify", "none,192.0.2.1")
	n.fails(2, "want key:NAME", "zone", "set", "example.org.", "--allow-transfer", "everybody")
	n.fails(2, "key", "zone", "set", "example.org.", "--allow-transfer", "key:")
	n.fails(2, "--allow-update", "zone", "set", "example.org.", "--update-types", "A", "--allow-transfer", "192.0.2.1")
	n.fails(2, "--secondary-of", "zone", "set", "example.org.", "--tsig", "key.example.")
	n.fails(1, "prefix", "zone", "set", "example.org.", "--allow-transfer", "192.0.2.1/24")
}

// TestSecondaryZone: a zone that awaits its primaries is hosted, and not answered for; one that has content can become secondary, and one's own again.
func TestSecondaryZone(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("zone", "create", "net.", "--ns", "ns1")
	n.cli("record", "set", "net.", "www.example", "A", "60", "192.0.2.99")
	if out := n.cli("zone", "create", "example.net.", "--secondary-of", "192.0.2.1", "--secondary-of", "key:own@[2001:db8::1]:5353", "--tsig", "key.example.", "--tls=ns1.example.com"); !strings.HasPrefix(out, "example.net. created (") {
		t.Errorf("zone create --secondary-of: %q", out)
	}
	got := jsonOf[peers](n, "zone", "show", "example.net.")
	equal(t, "primaries", got.Primaries, `[{"address":"192.0.2.1","key":"key.example.","port":853,"tls":true,"tls_name":"ns1.example.com"},{"address":"2001:db8::1","key":"own.","port":5353,"tls":true,"tls_name":"ns1.example.com"}]`)
	if got.Standing != "awaiting" {
		t.Errorf("%+v", got)
	}
	rows(t, n.cli("zone", "show", "example.net."), row("secondary", "awaits its first transfer"),
		row("primaries", `key:key\.example\.@192\.0\.2\.1:853 over TLS as ns1\.example\.com`))
	contains(t, "a zone that awaits", n.dig("www.example.net", "A"), "status: SERVFAIL", "EDE: 14")
	n.fails(1, "primaries", "record", "set", "example.net.", "www", "A", "300", "192.0.2.7")
	n.fails(1, "nothing has come", "zone", "export", "example.net.")
	n.fails(1, "no primaries", "zone", "set", "example.net.", "--secondary-of", "none")
	n.fails(2, "--ns", "zone", "create", "example.com.", "--ns", "ns1", "--secondary-of", "192.0.2.1")
	n = n.again()
	contains(t, "a zone that awaits, after a restart", n.dig("www.example.net", "A"), "status: SERVFAIL", "EDE: 14")
	n.cli("zone", "delete", "example.net.")
	if got := n.short("www.example.net", "A"); got != "192.0.2.99\n" {
		t.Errorf("after it was deleted: %q", got)
	}

	n.cli("zone", "set", "net.", "--secondary-of", "192.0.2.1", "--tls")
	got = jsonOf[peers](n, "zone", "show", "net.")
	equal(t, "primaries", got.Primaries, `[{"address":"192.0.2.1","port":853,"tls":true}]`)
	if got.Standing != "served" {
		t.Errorf("%+v", got)
	}
	n.fails(1, "primaries", "record", "set", "net.", "www", "A", "300", "192.0.2.7")
	if got := n.short("www.example.net", "A"); got != "192.0.2.99\n" {
		t.Errorf("as a secondary zone: %q", got)
	}
	n.cli("zone", "set", "net.", "--secondary-of", "none")
	n.cli("record", "set", "net.", "www", "A", "300", "192.0.2.7")
}
