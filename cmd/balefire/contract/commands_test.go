package contract

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// zoneInfo is a zone as `-o json` shows it.
type zoneInfo struct {
	Name         string `json:"name"`
	Serial       uint32 `json:"serial"`
	SerialPolicy string `json:"serial_policy"`
	RRsets       uint64 `json:"rrsets"`
	Records      uint64 `json:"records"`
	Signed       bool   `json:"signed"`
	Digest       string `json:"digest"`
}

// rrset is an RRset as `-o json` shows it.
type rrset struct {
	Owner   string   `json:"owner"`
	Type    string   `json:"type"`
	TTL     uint32   `json:"ttl"`
	Records []string `json:"records"`
}

// changed is what a write came to.
type changed struct {
	ID        string `json:"id"`
	Status    string `json:"status"`
	Zone      string `json:"zone"`
	Serial    uint32 `json:"serial"`
	Duplicate bool   `json:"duplicate"`
}

// row makes a pattern of one line of a table.
func row(cells ...string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*` + strings.Join(cells, `\s+`) + `\s*$`)
}

// rows fails the test for each row that is missing.
func rows(t *testing.T, table string, wanted ...*regexp.Regexp) {
	t.Helper()
	for _, w := range wanted {
		if !w.MatchString(table) {
			t.Errorf("no line matches %s:\n%s", w, table)
		}
	}
}

// TestCommands walks through every command about zones, records and changes, as a table and as JSON.
func TestCommands(t *testing.T) {
	t.Parallel()
	n := start(t)
	id := regexp.MustCompile(`\((\d+@\d+)\)\n$`)

	// zone create
	out := n.cli("zone", "create", "example.com.", "--ns", "ns1", "--ns", "ns2.example.net.", "--ttl", "600")
	if !strings.HasPrefix(out, "example.com. created, serial ") || !id.MatchString(out) {
		t.Errorf("zone create: %q", out)
	}
	other := jsonOf[changed](n, "zone", "create", "example.net", "--ns", "ns1.example.com.", "--serial-policy", "unixtime", "--mailbox", "admin", "--primary", "ns1.example.com.")
	if other.Status != "applied" || other.Zone != "example.net." || other.ID == "" || other.Serial == 0 {
		t.Errorf("zone create -o json: %+v", other)
	}
	if got := n.short("example.com", "NS"); got != "ns1.example.com.\nns2.example.net.\n" {
		t.Errorf("name servers: %q", got)
	}
	if got := n.short("example.net", "SOA"); !strings.HasPrefix(got, "ns1.example.com. admin.example.net. ") {
		t.Errorf("SOA: %q", got)
	}
	n.fails(1, "already", "zone", "create", "example.com.", "--ns", "ns1")

	// record set
	before := n.serial("example.com")
	out = n.cli("record", "set", "example.com.", "www", "A", "300", "192.0.2.7", "192.0.2.8")
	change := id.FindStringSubmatch(out)
	if change == nil || !strings.HasPrefix(out, "example.com. www.example.com. A set, serial ") {
		t.Fatalf("record set: %q", out)
	}
	set := jsonOf[changed](n, "record", "set", "example.com", "@", "MX", "600", "10 mail", "20 mail.example.net.")
	if set.Status != "applied" || set.Serial != before+2 || set.Serial != n.serial("example.com") {
		t.Errorf("record set -o json: %+v, before it was %d", set, before)
	}
	n.cli("record", "set", "example.com.", "mail.example.com.", "AAAA", "300", "2001:db8::1")
	n.cli("record", "set", "example.com.", "*.dev", "TXT", "300", `"two strings" "in \"one\" record"`)
	n.cli("record", "set", "example.com.", "odd", "TYPE65280", "300", `\# 3 0a0b0c`)
	for question, want := range map[string]string{
		"www.example.com A":         "192.0.2.7\n192.0.2.8\n",
		"example.com MX":            "10 mail.example.com.\n20 mail.example.net.\n",
		"mail.example.com AAAA":     "2001:db8::1\n",
		"any.dev.example.com TXT":   `"two strings" "in \"one\" record"` + "\n",
		"odd.example.com TYPE65280": `\# 3 0A0B0C` + "\n",
	} {
		if got := n.short(strings.Fields(question)...); got != want {
			t.Errorf("%s: %q, want %q", question, got, want)
		}
	}
	n.cli("record", "set", "example.com.", "www", "A", "300", "192.0.2.9", "--if-serial", utoa(n.serial("example.com")))
	n.fails(1, "serial", "record", "set", "example.com.", "www", "A", "300", "192.0.2.10", "--if-serial", "1")
	if got := n.short("www.example.com", "A"); got != "192.0.2.9\n" {
		t.Errorf("with --if-serial: %q", got)
	}

	// record list
	rows(
		t, n.cli("record", "list", "example.com."),
		row("OWNER", "TTL", "TYPE", "RECORDS"), row("@", "600", "NS", `ns1\.example\.com\.`), row(`ns2\.example\.net\.`),
		row("www", "300", "A", `192\.0\.2\.9`), row("mail", "300", "AAAA", "2001:db8::1"), row(`\*\.dev`, "300", "TXT", `"two strings" "in \\"one\\" record"`),
	)
	list := jsonOf[[]rrset](n, "record", "list", "example.com.", "--prefix", "www")
	if len(list) != 1 || list[0].Owner != "www.example.com." || list[0].Type != "A" || list[0].TTL != 300 || strings.Join(list[0].Records, " ") != "192.0.2.9" {
		t.Errorf("record list --prefix www: %+v", list)
	}
	if list := jsonOf[[]rrset](n, "record", "list", "example.com.", "--limit", "2"); len(list) != 2 {
		t.Errorf("record list --limit 2: %+v", list)
	}
	if list := jsonOf[[]rrset](n, "record", "list", "example.com.", "--prefix", "nothing"); list == nil || len(list) != 0 {
		t.Errorf("an empty list is null, or not empty: %v", list)
	}

	// record delete
	n.cli("record", "set", "example.com.", "www", "A", "300", "192.0.2.7", "192.0.2.8")
	n.cli("record", "delete", "example.com.", "www", "A", "192.0.2.7")
	if got := n.short("www.example.com", "A"); got != "192.0.2.8\n" {
		t.Errorf("after one of two was deleted: %q", got)
	}
	if got := jsonOf[changed](n, "record", "delete", "example.com.", "www", "A"); got.Status != "applied" {
		t.Errorf("record delete -o json: %+v", got)
	}
	contains(t, "what was deleted", n.dig("www.example.com", "A"), "status: NXDOMAIN")

	// change apply, change show
	n.cli("record", "set", "example.com.", "old", "A", "300", "192.0.2.1")
	file := write(t, t.TempDir(), "change.json", `{
  "reason": "move www",
  "preconditions": [{"if": "rrset_exists", "owner": "old", "type": "A"}],
  "operations": [{"op": "put_rrset", "owner": "www", "type": "A", "ttl": 300, "records": ["192.0.2.7"]},
                 {"op": "delete_rrset", "owner": "old", "type": "A"}]}`)
	applied := jsonOf[changed](n, "change", "apply", "example.com.", file)
	if applied.Status != "applied" || applied.Duplicate {
		t.Errorf("change apply: %+v", applied)
	}
	table := n.cli("change", "show", applied.ID)
	rows(
		t, table, row("change", applied.ID), row("status", "applied"), row("zone", `example\.com\.`), row("author", "admin"), row("reason", "move www"),
		row("serial", utoa(applied.Serial)+", before "+utoa(applied.Serial-1)),
		row(`- old\.example\.com\. 300 A 192\.0\.2\.1`), row(`\+ www\.example\.com\. 300 A 192\.0\.2\.7`),
	)
	type detail struct {
		changed
		Reason  string `json:"reason"`
		Changes []struct {
			Owner         string `json:"owner"`
			Before, After *rrset
		} `json:"changes"`
	}
	if got := jsonOf[detail](n, "change", "show", applied.ID); got.Reason != "move www" || len(got.Changes) < 2 || got.Serial != applied.Serial {
		t.Errorf("change show -o json: %+v", got)
	}
	n.fails(1, "", "change", "apply", "example.com.", file) // the precondition does not hold any more
	stdin := func(args ...string) ran {
		return run(t, n.env(), `{"operations":[{"op":"add_records","owner":"www","type":"A","ttl":300,"records":["192.0.2.8"]}]}`, append([]string{"change", "apply", "example.com.", "-"}, args...)...)
	}
	first, second := stdin("--idempotency-key", "a key"), stdin("--idempotency-key", "a key", "-o", "json")
	if first.code != 0 || second.code != 0 || !strings.Contains(second.out, `"duplicate": true`) {
		t.Errorf("the same key twice: %v\n%v", first, second)
	}
	if got := n.short("www.example.com", "A"); got != "192.0.2.7\n192.0.2.8\n" {
		t.Errorf("after a change from standard input: %q", got)
	}
	rejected := n.fails(1, "CNAME", "record", "set", "example.com.", "www", "CNAME", "300", "elsewhere")
	if at := id.FindStringSubmatch(rejected.err); at != nil {
		rows(t, n.cli("change", "show", at[1]), row("status", "rejected"))
	} else {
		t.Errorf("a rejected change without its position: %v", rejected)
	}

	// zone history, zone rollback
	history := jsonOf[[]struct{ ID, Action, Author, Reason string }](n, "zone", "history", "example.com.")
	if len(history) < 10 || history[len(history)-1].Action != "created" || history[0].Author != "admin" {
		t.Errorf("zone history: %+v", history)
	}
	rows(t, n.cli("zone", "history", "example.com.", "--limit", "3"), row("CHANGE", "TIME", "SERIAL", "ACTION", "RRSETS", "AUTHOR", "REASON"), row(`\d+@\d+`, `.*`, "move www"))
	now := n.serial("example.com")
	n.cli("zone", "rollback", "example.com.", utoa(applied.Serial-1))
	if got := n.short("old.example.com", "A"); got != "192.0.2.1\n" {
		t.Errorf("after rolling back: %q", got)
	}
	if got := n.serial("example.com"); got != now+1 {
		t.Errorf("rolling back made serial %d of %d", got, now)
	}

	// zone show, zone list
	info := jsonOf[zoneInfo](n, "zone", "show", "example.com.")
	if info.Name != "example.com." || info.Serial != n.serial("example.com") || info.SerialPolicy != "increment" || info.Signed || len(info.Digest) != 64 {
		t.Errorf("zone show: %+v", info)
	}
	rows(t, n.cli("zone", "show", "example.com."), row("zone", `example\.com\.`), row("serial", utoa(info.Serial)), row("RRsets", utoa(uint32(info.RRsets))))
	rows(
		t, n.cli("zone", "list"), row("ZONE", "SERIAL", "POLICY", "RRSETS", "RECORDS", "SIGNED", "CHANGED"),
		row(`example\.com\.`, utoa(info.Serial), "increment", `\d+`, `\d+`, "no", `.*`), row(`example\.net\.`, `\d+`, "unixtime", "2", "2", "no", `.*`),
	)
	if list := jsonOf[[]zoneInfo](n, "zone", "list"); len(list) != 2 || list[0].Name != "example.com." || list[1].Name != "example.net." {
		t.Errorf("zone list: %+v", list)
	}
	if list := jsonOf[[]zoneInfo](n, "zone", "list", "--prefix", "example.n"); len(list) != 1 || list[0].Name != "example.net." {
		t.Errorf("zone list --prefix: %+v", list)
	}

	// zone export, zone check, zone diff
	exported := filepath.Join(t.TempDir(), "example.com.zone")
	n.cli("zone", "export", "example.com.", "--file", exported)
	content, err := os.ReadFile(exported)
	if err != nil || string(content) != n.cli("zone", "export", "example.com.") {
		t.Errorf("zone export --file is not what zone export prints: %v", err)
	}
	contains(t, "zone check", n.cli("zone", "check", exported), "example.com. is valid")
	if out := n.cli("zone", "diff", "example.com.", exported); out != "" {
		t.Errorf("no difference: %q", out)
	}
	changedFile := write(t, t.TempDir(), "example.com.zone", strings.ReplaceAll(string(content), "192.0.2.1", "192.0.2.111"))
	r := n.fails(1, "", "zone", "diff", "example.com.", changedFile)
	rows(t, r.out, row(`- old\.example\.com\. 300 A 192\.0\.2\.1`), row(`\+ old\.example\.com\. 300 A 192\.0\.2\.111`))

	// zone delete
	n.fails(1, "serial", "zone", "delete", "example.com.", "--if-serial", "1")
	if got := jsonOf[changed](n, "zone", "delete", "example.net."); got.Status != "applied" || got.Zone != "example.net." {
		t.Errorf("zone delete -o json: %+v", got)
	}
	contains(t, "zone delete", n.cli("zone", "delete", "example.com."), "example.com. deleted")
	contains(t, "a deleted zone", n.dig("example.com", "SOA"), "status: REFUSED", "flags: qr rd;")
	if list := jsonOf[[]zoneInfo](n, "zone", "list"); list == nil || len(list) != 0 {
		t.Errorf("zone list without zones: %v", list)
	}
}

// TestExitCodes: 0, 1 for what failed, 2 for how a command was called; and what was wrong is said on standard error.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	before := n.cli("zone", "export", "example.com.")
	dir := t.TempDir()
	notJSON := write(t, dir, "not.json", "{\n  \"operations\": [\n  }\n")
	unknown := write(t, dir, "unknown.json", `{"operations": [{"op": "put_rrset", "owner": "www", "type": "A", "ttl": 1, "record": ["192.0.2.1"]}]}`)
	for _, c := range []struct {
		code int
		text string
		args string
	}{
		{2, "needs a subcommand", "zone"},
		{2, "unknown", "zone frobnicate"},
		{2, "unknown", "frobnicate"},
		{2, "--no-such-flag", "zone list --no-such-flag"},
		{2, "want table or json", "zone list -o xml"},
		{2, "accepts", "zone show"},
		{2, "accepts", "zone show a. b."},
		{2, "--ns is missing", "zone create example.org."},
		{2, "--serial-policy", "zone create example.org. --ns a. --serial-policy never"},
		{2, "zone", "zone show bad..name"},
		{2, "arg", "record set example.com. www A"},
		{2, "arg", "record set example.com. www A 300"},
		{2, "TTL", "record set example.com. www A soon 192.0.2.1"},
		{2, "TTL", "record set example.com. www A 2147483648 192.0.2.1"},
		{2, "A", "record set example.com. www A 300 192.0.2.256"},
		{2, "NOTYPE", "record set example.com. www NOTYPE 300 192.0.2.1"},
		{2, "not in the zone", "record set example.com. www.example.org. A 300 192.0.2.1"},
		{2, "serial", "zone rollback example.com. many"},
		{2, "--server", "zone list --server nowhere"},
		{2, "arg", "change apply example.com."},
		{2, "arg", "zone import"},
		{2, "--origin", "zone import x.zone --origin bad..name"},
		{1, "not hosted", "zone show example.org."},
		{1, "not hosted", "zone delete example.org."},
		{1, "not hosted", "zone export example.org."},
		{1, "not hosted", "record list example.org."},
		{1, "", "record set example.org. www A 300 192.0.2.1"},
		{1, "CNAME", "record set example.com. @ CNAME 300 elsewhere.example.net."},
		{1, "SOA", "record delete example.com. @ SOA"},
		{1, "NS", "record delete example.com. @ NS"},
		{1, "missing.json", "change apply example.com. missing.json"},
		{1, notJSON + ":3:", "change apply example.com. " + notJSON},
		{1, "/operations/0/record", "change apply example.com. " + unknown},
		{1, "that serial", "zone rollback example.com. 9999"},
		{1, "position", "change show nonsense"},
		{1, "missing.zone", "zone import missing.zone"},
		{1, "missing.zone", "zone check missing.zone"},
		{1, "127.0.0.1:1", "zone list --server http://127.0.0.1:1"},
		{0, "", "zone list --help"},
		{0, "", "--help"},
		{0, "", "version"},
	} {
		r := n.fails(c.code, c.text, strings.Fields(c.args)...)
		if c.code == 2 {
			contains(t, "a mistake in usage", r.err, "balefire: ", "--help'")
		}
		if c.code != 0 && r.out != "" {
			t.Errorf("what failed printed something:\n%v", r)
		}
		if c.code == 1 && !strings.HasPrefix(r.err, "balefire: ") && !strings.HasPrefix(r.err, "failed: ") && !strings.Contains(r.args[1], "check") {
			t.Errorf("who says so?\n%v", r)
		}
	}
	if after := n.cli("zone", "export", "example.com."); after != before {
		t.Errorf("what failed changed something:\n%s\nbefore:\n%s", after, before)
	}
}

// TestCompletionAndManualPages come from the command tree.
func TestCompletionAndManualPages(t *testing.T) {
	t.Parallel()
	for shell, text := range map[string]string{"bash": "__start_balefire", "zsh": "#compdef balefire", "fish": "complete -c balefire", "powershell": "Register-ArgumentCompleter"} {
		r := run(t, nil, "", "completion", shell)
		if r.code != 0 || !strings.Contains(r.out, text) {
			t.Errorf("%s: exit %d, %d octets", shell, r.code, len(r.out))
		}
	}
	// What the shell asks when somebody types `balefire zone <TAB>`.
	contains(t, "completion", run(t, nil, "", "__complete", "zone", "").out, "create\t", "delete\t", "list\t", "show\t", "import\t", "export\t", "check\t", "diff\t")
	dir := t.TempDir()
	script := filepath.Join(dir, "completion.bash")
	if err := os.WriteFile(script, []byte(run(t, nil, "", "completion", "bash").out), 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, "bash", "-n", script)

	if r := run(t, nil, "", "man", dir); r.code != 0 {
		t.Fatal(r)
	}
	for page, words := range map[string][]string{
		"balefire.1": {".TH", "balefire-zone(1)"}, "balefire-serve.1": {".TH", "--data-dir", "--dns-listen", "--admin-listen", "--brokers"},
		"balefire-zone-import.1": {".TH", "--origin"}, "balefire-record-set.1": {".TH"}, "balefire-change-apply.1": {".TH"}, "balefire-version.1": {".TH"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil {
			t.Error(err)
			continue
		}
		contains(t, page, strings.ReplaceAll(string(text), `\-`, "-"), words...)
	}
	version := run(t, nil, "", "version")
	if !strings.HasPrefix(version.out, "balefire ") || version.code != 0 {
		t.Errorf("%v", version)
	}
	// Each flag of the contract has its line in the help.
	help := run(t, nil, "", "serve", "--help").out
	for _, o := range contractOptions {
		contains(t, "serve --help", help, o.flag+" ")
	}
	contains(t, "serve --help", help, "--config ")
}
