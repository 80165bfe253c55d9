package contract

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// contractOptions are the flags that the contract names. Each has three values, for the three places to say it.
var contractOptions = []struct {
	flag, env, yaml string // yaml has %s for the value
	key             string
	values          [3]string
}{
	{"--data-dir", "BALEFIRE_DATA_DIR", "data-dir: %s", "data-dir", [3]string{"/a/b", "/c/d", "/e/f"}},
	{"--dns-listen", "BALEFIRE_DNS_LISTEN", "dns: {listen: [%q]}", "dns.listen", [3]string{"127.0.0.1:5301", "127.0.0.1:5302", "127.0.0.1:5303"}},
	{"--admin-listen", "BALEFIRE_ADMIN_LISTEN", "admin: {listen: %q}", "admin.listen", [3]string{"127.0.0.1:1", "127.0.0.1:2", "[::1]:3"}},
	{"--brokers", "BALEFIRE_BROKERS", "brokers: [%q]", "brokers", [3]string{"a.example:9092", "b.example:9092", "c.example:9092"}},
	{"--namespace", "BALEFIRE_NAMESPACE", "namespace: %s", "namespace", [3]string{"one", "two", "three"}},
	{"--region", "BALEFIRE_REGION", "region: %s", "region", [3]string{"north", "south", "west"}},
	{"--replica-group", "BALEFIRE_REPLICA_GROUP", "replica-group: %s", "replica-group", [3]string{"g1", "g2", "g3"}},
	{"--node-id", "BALEFIRE_NODE_ID", "node-id: %s", "node-id", [3]string{"n1", "n2", "n3"}},
	{"--partitions", "BALEFIRE_PARTITIONS", "partitions: %s", "partitions", [3]string{"3", "5", "7"}},
}

// shown returns what `config show` says of every option.
func shown(t *testing.T, env []string, args ...string) map[string]string {
	t.Helper()
	r := run(t, env, "", append([]string{"config", "show", "-o", "json"}, args...)...)
	var rows []struct{ Option, Value string }
	if err := json.Unmarshal([]byte(r.out), &rows); r.code != 0 || err != nil {
		t.Fatalf("%v: %v", r, err)
	}
	values := map[string]string{}
	for _, row := range rows {
		values[row.Option] = row.Value
	}
	return values
}

// TestPrecedence: flags win over the environment, that over the file, that over the defaults; for every option.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	defaults := shown(t, nil)
	var file strings.Builder
	var env, flags []string
	for _, o := range contractOptions {
		fmt.Fprintf(&file, o.yaml+"\n", o.values[0])
		env = append(env, o.env+"="+o.values[1])
		flags = append(flags, o.flag, o.values[2])
	}
	path := write(t, t.TempDir(), "balefire.yaml", file.String())
	for name, c := range map[string]struct {
		got  map[string]string
		want int
	}{
		"file":                        {shown(t, nil, "--config", path), 0},
		"file named in environment":   {shown(t, []string{"BALEFIRE_CONFIG=" + path}), 0},
		"environment":                 {shown(t, env), 1},
		"environment over file":       {shown(t, env, "--config", path), 1},
		"flags":                       {shown(t, nil, flags...), 2},
		"flags over file":             {shown(t, nil, append(flags, "--config", path)...), 2},
		"flags over environment":      {shown(t, env, flags...), 2},
		"flags over environment, all": {shown(t, env, append(flags, "--config", path)...), 2},
	} {
		for _, o := range contractOptions {
			if c.got[o.key] != o.values[c.want] {
				t.Errorf("%s: %s is %q, want %q", name, o.key, c.got[o.key], o.values[c.want])
			}
		}
	}
	for key, want := range map[string]string{
		"dns.listen": "127.0.0.1:5300", "admin.listen": "127.0.0.1:8053", "brokers": "", "dns.edns-size": "1232",
	} {
		if defaults[key] != want {
			t.Errorf("by default %s is %q, want %q", key, defaults[key], want)
		}
	}
	if got := shown(t, nil, "--dns-listen", "127.0.0.1:1", "--dns-listen", "[::1]:2")["dns.listen"]; got != "127.0.0.1:1,[::1]:2" {
		t.Errorf("two --dns-listen come to %q", got)
	}
	if got := shown(t, nil, "--brokers", "a:1,b:2", "--brokers", "c:3")["brokers"]; got != "a:1,b:2,c:3" {
		t.Errorf("--brokers come to %q", got)
	}
}

// TestServeTakesItsConfiguration: what `config show` says is what a server does.
func TestServeTakesItsConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "from-file")
	first, second := porttest.Free(t, "127.0.0.1"), porttest.Free(t, "127.0.0.1")
	config := write(t, dir, "balefire.yaml", fmt.Sprintf(`
data-dir: %s
node-id: from-file
partitions: 3
dns:
  listen: [%q, %q]
  edns-size: 1400
  hide-version: true
log: {level: debug, format: json}
`, data, first, second))
	n := launchWith(t, balefiretest.How{
		Dir: data, DNS: []string{first, second}, Args: []string{"--config", config, "--sample", sampleZones},
		Env: []string{"BALEFIRE_DNS_EDNS_SIZE=1300", "BALEFIRE_NODE_ID=from-environment"},
	})
	if err := n.AwaitReady(time.Minute); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	awaitSamples(n)
	for _, addr := range []string{first, second} {
		out := tool(t, "dig", append(at(addr), "+nsid", "mail.example.com", "A")...)
		contains(t, "dig at "+addr, out, "192.0.2.25", `("from-environment")`, "udp: 1300")
	}
	contains(t, "version.server", n.dig("ch", "version.server", "TXT"), "status: REFUSED")
	partitions, err := os.ReadDir(filepath.Join(data, "partitions"))
	if err != nil || len(partitions) != 3 {
		t.Errorf("%d partitions, want 3: %v", len(partitions), err)
	}
	contains(t, "the log", n.Log(), `"level":"debug"`)

	// The number of partitions is fixed when the namespace is made.
	if err := n.Stop(time.Minute); err != nil {
		t.Fatalf("SIGTERM: %v\n%s", err, n.Log())
	}
	n = startWith(t, balefiretest.How{Dir: data, Args: []string{"--partitions", "5"}})
	if got := n.short("mail.example.com", "A"); got != "192.0.2.25\n" {
		t.Errorf("with another --partitions than there are: %q", got)
	}
}

// TestConfigCheckNamesTheLine of each mistake.
func TestConfigCheckNamesTheLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "bad.yaml", `data-dir: /var/lib/balefire
namespace: "two words"
partitions: many
dns:
  listen:
    - 127.0.0.1:53
    - nowhere
  edns-size: 100
  edsn-size: 1232
admin: 127.0.0.1:8053
region: north
region: south
log: {level: loud}
`)
	r := run(t, nil, "", "config", "check", path)
	if r.code != 1 {
		t.Errorf("%v\nwant exit 1", r)
	}
	wanted := []string{
		"2:12: namespace: ", "3:13: partitions: ", "7:7: dns.listen: ", "8:14: dns.edns-size: ", "9:3: dns.edsn-size: ",
		"10:8: admin: ", "12:1: region: ", "13:14: log.level: ",
	}
	for _, w := range wanted {
		if !strings.Contains("\n"+r.err, "\n"+path+":"+w) {
			t.Errorf("no line begins with %s:%s\n%s", path, w, r.err)
		}
	}
	if got := strings.Count(r.err, "\n"); got != len(wanted) {
		t.Errorf("%d mistakes, want %d:\n%s", got, len(wanted), r.err)
	}

	broken := write(t, dir, "broken.yaml", "dns:\n  listen: [\"127.0.0.1:53\"\nadmin: {}\n")
	if r := run(t, nil, "", "config", "check", broken); r.code != 1 || !strings.Contains(r.err, broken+":") {
		t.Errorf("what is no YAML: %v", r)
	}
	if r := run(t, nil, "", "config", "check", filepath.Join(dir, "missing.yaml")); r.code != 1 || !strings.Contains(r.err, "missing.yaml") {
		t.Errorf("a file that is missing: %v", r)
	}
	good := write(t, dir, "good.yaml", "dns:\n  listen: [\"127.0.0.1:53\"]\n")
	if r := run(t, nil, "", "config", "check", good); r.code != 0 || r.err != "" {
		t.Errorf("a good file: %v", r)
	}
	if r := run(t, nil, "", "config", "check", "../../../deploy/balefire.yaml"); r.code != 0 {
		t.Errorf("the example in deploy: %v", r)
	}
	if r := run(t, nil, "", "config", "check"); r.code != 2 {
		t.Errorf("without a file: %v\nwant exit 2", r)
	}
	// A server does not start with such a file, and says the same.
	if r := run(t, nil, "", "serve", "--data-dir", filepath.Join(dir, "data"), "--config", path); r.code != 1 || !strings.Contains(r.err, path+":7:7: dns.listen: ") {
		t.Errorf("serve with mistakes: %v", r)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("serve with mistakes made its data directory: %v", err)
	}
}

// TestConfigMistakesElsewhere: in the environment and on the command line, mistakes are named too.
func TestConfigMistakesElsewhere(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		env  []string
		args []string
		code int
		want string
	}{
		{[]string{"BALEFIRE_PARTITIONS=many"}, nil, 1, "BALEFIRE_PARTITIONS: partitions: "},
		{[]string{"BALEFIRE_TOKEN=short"}, nil, 1, "token: has 5 characters: want at least 16"},
		{nil, []string{"--partitions", "many"}, 2, "--partitions"},
		{nil, []string{"--dns-listen", "nowhere"}, 2, "--dns-listen"},
		{nil, []string{"--no-such-flag"}, 2, "--no-such-flag"},
		{nil, []string{"--dns-listen", "127.0.0.1:5300", "--admin-listen", "127.0.0.1:5300"}, 1, "admin.listen"},
		{nil, []string{"--dns-listen", "192.0.2.1:53", "--admin-listen", "127.0.0.1:0"}, 1, "192.0.2.1:53"},
		{nil, []string{"--dns-listen", "127.0.0.1:0", "--admin-listen", "192.0.2.1:80"}, 1, "192.0.2.1:80"},
		{nil, []string{"an-argument"}, 2, "an-argument"},
	} {
		r := run(t, c.env, "", append([]string{"serve", "--data-dir", dir}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.err, c.want) {
			t.Errorf("%v %v\nwant exit %d and %q", c.env, r, c.code, c.want)
		}
		if strings.Contains(r.err, "=short") || strings.Contains(r.err, `"short"`) {
			t.Errorf("a secret is shown:\n%s", r.err)
		}
	}
}

// TestConfigShowHidesSecrets wherever they come from, and is itself a configuration file.
func TestConfigShowHidesSecrets(t *testing.T) {
	t.Parallel()
	const secret = "a-secret-that-nobody-sees"
	dir := t.TempDir()
	file := write(t, dir, "secret.yaml", "token: "+secret+"\nregion: north\n")
	for _, c := range []struct {
		env, args []string
	}{
		{[]string{"BALEFIRE_TOKEN=" + secret}, nil},
		{nil, []string{"--config", file}},
		{[]string{"BALEFIRE_TOKEN=" + secret}, []string{"--config", file, "-o", "json"}},
	} {
		r := run(t, c.env, "", append([]string{"config", "show"}, c.args...)...)
		if r.code != 0 || strings.Contains(r.out+r.err, secret) || !strings.Contains(r.out, "(hidden)") {
			t.Errorf("%v %v", c.env, r)
		}
	}
	r := run(t, nil, "", "config", "show", "--region", "south", "--dns-listen", "[::1]:5300")
	again := write(t, dir, "again.yaml", r.out)
	if got := shown(t, nil, "--config", again); got["region"] != "south" || got["dns.listen"] != "[::1]:5300" {
		t.Errorf("what `config show` printed does not mean the same: %v", got)
	}
}
