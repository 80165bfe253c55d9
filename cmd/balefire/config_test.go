package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestConfigMistakes: each file, and every mistake in it with its place. FILE stands for the file's name.
func TestConfigMistakes(t *testing.T) {
	tests := map[string]struct {
		file string
		want []string
	}{
		"empty":    {"", nil},
		"comments": {"# nothing\ndns:\n  # nothing\n", nil},
		"all right": {"data-dir: /x\ndns:\n  listen: [\"127.0.0.1:53\", \"[::1]:53\"]\n  edns-size: 1400\n" +
			"  tcp:\n    idle-timeout: 90s\nstore:\n  hot-zones: 4GiB\nlog: {level: debug}\nbrokers: k1:9092,k2:9092\n", nil},
		"not YAML": {"dns: [\n", []string{"FILE:1:1: not YAML: did not find expected node content"}},
		"not YAML further down": {"data-dir: x\ndns:\n  listen: \"127.0.0.1:53\n", []string{
			"FILE:3:1: not YAML: found unexpected end of stream",
		}},
		"several at once": {"data_dir: x\ndns:\n  edns-size: 100000\n  listen: [\"127.0.0.1:53\", \"nowhere\"]\n  rrl:\n    slip: yes\n  tpc: {}\nlog:\n  level: loud\n", []string{
			`FILE:1:1: data_dir: unknown: want one of admin, backup, brokers, data-dir, dns, gossip, kafka, log, namespace, node-id, partitions, region, relay, replica-group, secondary, secrets, store, token`,
			`FILE:3:14: dns.edns-size: "100000": want a whole number from 512 to 4096`,
			`FILE:4:28: dns.listen: "nowhere": want HOST:PORT, such as 192.0.2.1:53 or [2001:db8::1]:53`,
			`FILE:6:11: dns.rrl.slip: "yes": want a whole number from 0 to 100`,
			`FILE:7:3: dns.tpc: unknown: want one of allow-peers, answer-cache, cookie-rotation, cookies, edns-size, hide-identity, hide-version, identity, listen, nsid, require-cookies, rrl, tcp, tls, transfers, udp-workers, version`,
			`FILE:9:10: log.level: "loud": want one of debug, info, warn, error`,
		}},
		"wrong kinds": {"dns: 5\nadmin:\n  listen: [a:1]\nlog:\n  level:\npartitions: {}\n", []string{
			`FILE:1:6: dns: is a single value: want a section with allow-peers, answer-cache, cookie-rotation, cookies, edns-size, hide-identity, hide-version, identity, listen, nsid, require-cookies, rrl, tcp, tls, transfers, udp-workers, version`,
			`FILE:3:11: admin.listen: is a list: want host:port`,
			`FILE:5:9: log.level: has no value: want debug|info|warn|error, or leave the line out`,
			`FILE:6:13: partitions: is a section: want number`,
		}},
		"twice":         {"region: a\nregion: b\n", []string{"FILE:2:1: region: is there twice, first in line 1"}},
		"two documents": {"region: a\n---\nregion: b\n", []string{"FILE:2:1: a second document: want one"}},
		"a list":        {"- a\n", []string{"FILE:1:1: is a list: want a section with admin, backup, brokers, data-dir, dns, gossip, kafka, log, namespace, node-id, partitions, region, relay, replica-group, secondary, secrets, store, token"}},
		"alias":         {"region: &r a\nnamespace: *r\n", []string{"FILE:2:12: namespace: an alias: write the value here, so that it has a place of its own"}},
		"between options": {"dns:\n  listen: 127.0.0.1:53\n  tcp:\n    connections: 10\n    per-network: 11\nadmin:\n  listen: 127.0.0.1:53\n", []string{
			"FILE:7:11: admin.listen: 127.0.0.1:53 is also in dns.listen or dns.tls.listen, which takes its TCP port",
			"FILE:5:18: dns.tcp.per-network: 11 is more than dns.tcp.connections, 10",
		}},
		"TLS without a key": {"dns:\n  listen: 127.0.0.1:53\n  tls:\n    listen: [\"127.0.0.1:53\", \"[::1]:853\"]\n    cert: a.pem\n", []string{
			"FILE:4:13: dns.tls.listen: 127.0.0.1:53 is there twice, or also in dns.listen, which takes its TCP port",
			"FILE:5:11: dns.tls.cert: and dns.tls.key are needed for dns.tls.listen: want both",
		}},
		"TLS without an address": {"dns: {tls: {cert: a.pem, key: b.pem}}\n", []string{"dns.tls.listen: is empty, but there are other settings of TLS: want HOST:PORT"}},
		"secrets are not shown":  {"token: abc\n", []string{"FILE:1:8: token: has 3 characters: want at least 16, or leave it out and one is made"}},
		"port out of range":      {"dns: {listen: '127.0.0.1:65536'}\n", []string{`FILE:1:15: dns.listen: "127.0.0.1:65536": want HOST:PORT, such as 192.0.2.1:53 or [2001:db8::1]:53`}},
		"duration without unit":  {"dns: {tcp: {idle-timeout: 10}}\n", []string{`FILE:1:27: dns.tcp.idle-timeout: "10": want a time from 1s to 1h, such as 90s, 10m or 24h`}},
		"size too small":         {"store: {hot-zones: 5}\n", []string{`FILE:1:20: store.hot-zones: "5": want a size such as 512MiB or 4GiB, at least 1MiB`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := writeFile(t, "balefire.yaml", tt.file)
			code, out, errOut := runCLI(t, "config", "check", file)
			got := strings.ReplaceAll(errOut, file, "FILE")
			want, wantCode := "", exitOK
			if len(tt.want) > 0 {
				want, wantCode = strings.Join(tt.want, "\n")+"\n", exitFailed
			} else if out != file+": no mistakes\n" {
				t.Errorf("printed %q", out)
			}
			if got != want || code != wantCode {
				t.Errorf("exit %d:\n%s\nwant exit %d:\n%s", code, got, wantCode, want)
			}
		})
	}
}

func TestFlagsWinOverEnvironmentOverFile(t *testing.T) {
	file := writeFile(t, "c.yaml", "region: file\nnamespace: file\nnode-id: file\ntoken: 0123456789abcdef\ndns:\n  edns-size: 600\n  cookies: false\n")
	t.Setenv("BALEFIRE_CONFIG", file)
	t.Setenv("BALEFIRE_REGION", "env")
	t.Setenv("BALEFIRE_NAMESPACE", "env")
	t.Setenv("BALEFIRE_DNS_LISTEN", "127.0.0.1:1,127.0.0.1:2")
	t.Setenv("BALEFIRE_PORT", "tcp://10.0.0.1:53") // as Kubernetes sets for a service of that name
	code, out, errOut := runCLI(t, "config", "show", "--region", "flag", "--dns-cookies", "--admin-listen", "127.0.0.1:9", "--brokers", "a:1", "--brokers", "b:2,c:3")
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	for _, want := range []string{
		"region: flag # --region\n",
		"namespace: env # BALEFIRE_NAMESPACE\n",
		"node-id: file # " + file + ":3:10\n",
		"  edns-size: 600 # " + file + ":6:14\n",
		"  cookies: true # --dns-cookies\n",
		`  listen: ["127.0.0.1:1", "127.0.0.1:2"] # BALEFIRE_DNS_LISTEN` + "\n",
		`brokers: ["a:1", "b:2", "c:3"] # --brokers` + "\n",
		"token: (hidden) # " + file + ":4:8\n",
		"partitions: 0 # default\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
	if want := "BALEFIRE_PORT: no option has this name; it is ignored\n"; errOut != want {
		t.Errorf("stderr %q, want %q", errOut, want)
	}
	if strings.Contains(out+errOut, "0123456789abcdef") {
		t.Error("the token is shown")
	}
}

// TestShownConfigIsAConfig: what `config show` prints means the same when it is read.
func TestShownConfigIsAConfig(t *testing.T) {
	t.Setenv("BALEFIRE_DNS_IDENTITY", `a: "b" # c`)
	t.Setenv("BALEFIRE_DNS_VERSION", "1.0")
	_, first, errOut := runCLI(t, "config", "show", "-o", "json")
	_, shown, _ := runCLI(t, "config", "show")
	file := writeFile(t, "shown.yaml", shown)
	os.Unsetenv("BALEFIRE_DNS_IDENTITY")
	os.Unsetenv("BALEFIRE_DNS_VERSION")
	code, second, errOut2 := runCLI(t, "config", "show", "-o", "json", "--config", file)
	if code != exitOK || errOut+errOut2 != "" {
		t.Fatalf("exit %d: %s%s", code, errOut, errOut2)
	}
	if a, b := valuesOf(first), valuesOf(second); !reflect.DeepEqual(a, b) {
		t.Errorf("shown\n%s\nread as\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// valuesOf drops where values came from.
func valuesOf(shown string) []string {
	var kept []string
	for line := range strings.Lines(shown) {
		if !strings.Contains(line, `"from"`) {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return kept
}

// TestEveryFieldIsAnOption fails for a field of Config that the table leaves out, and for names that clash.
func TestEveryFieldIsAnOption(t *testing.T) {
	c := defaultConfig()
	bound := map[uintptr]string{}
	names := map[string]string{}
	for _, o := range c.options() {
		v := reflect.ValueOf(o.value)
		for v.Field(0).Kind() == reflect.Struct {
			v = v.Field(0)
		}
		bound[v.Field(0).Pointer()] = o.key
		for _, name := range []string{o.env(), o.flag(), o.key} {
			if other, taken := names[name]; taken && other != o.key {
				t.Errorf("%s and %s are both called %s", o.key, other, name)
			}
			names[name] = o.key
		}
		if o.doc == "" {
			t.Errorf("%s has no doc", o.key)
		}
		// Kubernetes sets these for a service named balefire or balefire-….
		if strings.HasSuffix(o.env(), "_PORT") || strings.HasSuffix(o.env(), "_SERVICE_HOST") {
			t.Errorf("%s would be set by an orchestrator", o.env())
		}
		// A default that its own option refuses could not be written into a file.
		if err := o.value.Set(o.value.String()); err != nil {
			t.Errorf("default of %s: %v", o.key, err)
		}
	}
	var walk func(v reflect.Value, path string)
	walk = func(v reflect.Value, path string) {
		for i := range v.NumField() {
			f := v.Field(i)
			at := path + "." + v.Type().Field(i).Name
			if f.Kind() == reflect.Struct {
				walk(f, at)
			} else if _, ok := bound[f.Addr().Pointer()]; !ok {
				t.Errorf("no option sets Config%s", at)
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), "")
	if found := c.Validate(); len(found) > 0 {
		t.Errorf("the defaults are mistaken: %v", found)
	}
}

// TestFlagsOfTheContract are those that scripts use.
func TestFlagsOfTheContract(t *testing.T) {
	root, _ := newRoot()
	serve, _, err := root.Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"data-dir", "dns-listen", "admin-listen", "config", "brokers", "namespace", "region", "replica-group", "node-id", "partitions",
	} {
		if serve.Flags().Lookup(name) == nil {
			t.Errorf("serve has no --%s", name)
		}
	}
	if serve.Flags().Lookup("token") != nil {
		t.Error("serve has --token, which every user of the machine could read")
	}
}

func TestExitCodes(t *testing.T) {
	t.Setenv("BALEFIRE_SERVER", "http://127.0.0.1:1") // nothing listens there
	tests := []struct {
		args []string
		want int
	}{
		{[]string{"version"}, exitOK},
		{[]string{"--help"}, exitOK},
		{[]string{"zone", "--help"}, exitOK},
		{[]string{"completion", "bash"}, exitOK},
		{[]string{"zone", "list"}, exitFailed},
		{[]string{"config", "check", "/nonexistent"}, exitFailed},
		{[]string{"zone", "check", "/nonexistent"}, exitFailed},
		{[]string{"frobnicate"}, exitUsage},
		{[]string{"zone"}, exitUsage},
		{[]string{"zone", "frobnicate"}, exitUsage},
		{[]string{"zone", "list", "--frobnicate"}, exitUsage},
		{[]string{"zone", "list", "surplus"}, exitUsage},
		{[]string{"zone", "list", "-o", "xml"}, exitUsage},
		{[]string{"zone", "show", "a..b"}, exitUsage},
		{[]string{"zone", "delete", "@"}, exitUsage}, // which would be the root
		{[]string{"zone", "create", "example.com"}, exitUsage},
		{[]string{"zone", "import", "--serial-policy", "x", "/nonexistent"}, exitUsage},
		{[]string{"record", "set", "example.com.", "www", "A", "300"}, exitUsage},
		{[]string{"record", "set", "example.com.", "www", "A", "soon", "192.0.2.1"}, exitUsage},
		{[]string{"record", "set", "example.com.", "www", "A", "300", "192.0.2"}, exitUsage},
		{[]string{"record", "set", "example.com.", "www.example.net.", "A", "300", "192.0.2.1"}, exitUsage},
		{[]string{"record", "set", "example.com.", "www", "NOTATYPE", "300", "192.0.2.1"}, exitUsage},
		{[]string{"record", "set", "example.com.", "www", "A", "300", "192.0.2.1", "--server", "::"}, exitUsage},
		{[]string{"serve", "--partitions", "-1"}, exitUsage},
		{[]string{"serve", "--namespace", "a.b"}, exitUsage},
		{[]string{"serve", "--dns-rrl-exempt", "192.0.2.1/24"}, exitUsage},
		{[]string{"serve", "--dns-listen", "nowhere"}, exitUsage},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			code, out, errOut := runCLI(t, tt.args...)
			if code != tt.want {
				t.Errorf("exit %d, want %d; stdout %q, stderr %q", code, tt.want, out, errOut)
			}
			if (code != exitOK) != (errOut != "") {
				t.Errorf("exit %d with stderr %q", code, errOut)
			}
		})
	}
}

// runCLI runs a command as the process would.
func runCLI(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	return runCLIWith(t, "", args...)
}

func runCLIWith(t *testing.T, stdin string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(context.WithoutCancel(t.Context()), args, strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDeployedConfigIsRight(t *testing.T) {
	if code, _, errOut := runCLI(t, "config", "check", "../../deploy/balefire.yaml"); code != exitOK {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

// TestDeployedRegionIsRight: but for its secrets, which come from the environment.
func TestDeployedRegionIsRight(t *testing.T) {
	content, err := os.ReadFile("../../deploy/balefire-region.yaml")
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.NewReplacer(
		"\nkafka:\n", "\nkafka:\n  password: secret\n",
		"\ngossip:\n", "\ngossip:\n  key: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n",
	).Replace(string(content))
	if code, _, errOut := runCLI(t, "config", "check", writeFile(t, "region.yaml", whole)); code != exitOK {
		t.Errorf("exit %d: %s", code, errOut)
	}
}
