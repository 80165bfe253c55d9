package contract

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

// TestTokenFile: without BALEFIRE_TOKEN the first start makes a token, and the command line finds it in each way.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	n := startWith(t, balefiretest.How{NoToken: true, Args: []string{"--log-level", "debug"}})
	file := filepath.Join(n.Dir, "admin.token")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("%s has mode %v, want 0600", file, info.Mode())
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(content))
	if len(token) < 32 {
		t.Errorf("a token of %d characters", len(token))
	}

	server := "BALEFIRE_SERVER=http://" + n.Admin
	copied := write(t, t.TempDir(), "token", token+"\n")
	wrong := write(t, t.TempDir(), "token", "another-token-altogether\n")
	for _, c := range []struct {
		name      string
		env, args []string
		code      int
	}{
		{"--data-dir", []string{server}, []string{"--data-dir", n.Dir}, 0},
		{"--token-file", []string{server}, []string{"--token-file", copied}, 0},
		{"BALEFIRE_TOKEN", []string{server, "BALEFIRE_TOKEN=" + token}, nil, 0},
		{"--server", nil, []string{"--server", "http://" + n.Admin, "--data-dir", n.Dir}, 0},
		{"--server over BALEFIRE_SERVER", []string{"BALEFIRE_SERVER=http://127.0.0.1:1"}, []string{"--server", "http://" + n.Admin, "--data-dir", n.Dir}, 0},
		{"none", []string{server}, nil, 1},
		{"a wrong one", []string{server, "BALEFIRE_TOKEN=another-token-altogether"}, nil, 1},
		{"a wrong file", []string{server}, []string{"--token-file", wrong}, 1},
		{"a file that is missing", []string{server}, []string{"--token-file", filepath.Join(n.Dir, "missing")}, 1},
	} {
		if r := run(t, c.env, "", append([]string{"zone", "list"}, c.args...)...); r.code != c.code {
			t.Errorf("%s: %v\nwant exit %d", c.name, r, c.code)
		} else if strings.Contains(r.err, token) {
			t.Errorf("%s: the token is shown:\n%s", c.name, r.err)
		}
	}

	// It stays the same, and it is nowhere in what the server says, not even to one who debugs.
	if strings.Contains(n.Log()+n.Said(), token) {
		t.Errorf("the token is in the log:\n%s\n%s", n.Said(), n.Log())
	}
	n.Kill()
	n = startWith(t, balefiretest.How{NoToken: true, Dir: n.Dir})
	if again, err := os.ReadFile(file); err != nil || string(again) != string(content) {
		t.Errorf("after a restart there is another token: %v", err)
	}

	// A file that others can read is no secret.
	if err := n.Stop(time.Minute); err != nil {
		t.Errorf("SIGTERM: %v\n%s", err, n.Log())
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, nil, "", "serve", "--data-dir", n.Dir, "--dns-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"); r.code != 1 || !strings.Contains(r.err, "admin.token can be read by others") {
		t.Errorf("with a token that everybody can read: %v", r)
	}
}

// TestTokenOfTheEnvironment: BALEFIRE_TOKEN is the token, and no file is made.
func TestTokenOfTheEnvironment(t *testing.T) {
	t.Parallel()
	n := start(t, "--log-level", "debug")
	if _, err := os.Stat(filepath.Join(n.Dir, "admin.token")); !os.IsNotExist(err) {
		t.Errorf("there is an admin.token: %v", err)
	}
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	before := n.serial("example.com")
	file := "example.com. 60 IN SOA a. b. 1 2 3 4 5\nexample.com. 60 IN NS a.\n"
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/v1/zones", ""},
		{"POST", "/v1/zones", `{"name":"example.net.","nameservers":["ns.example.org."]}`},
		{"GET", "/v1/zones/example.com.", ""},
		{"PATCH", "/v1/zones/example.com.", `{"serial_policy":"keep"}`},
		{"DELETE", "/v1/zones/example.com.", ""},
		{"GET", "/v1/zones/example.com./file", ""},
		{"PUT", "/v1/zones/example.com./file", file},
		{"GET", "/v1/zones/example.com./rrsets", ""},
		{"PUT", "/v1/zones/example.com./rrsets", `{"rrsets":[]}`},
		{"GET", "/v1/zones/example.com./rrsets/@/SOA", ""},
		{"PUT", "/v1/zones/example.com./rrsets/www/A", `{"ttl":1,"records":["192.0.2.1"]}`},
		{"DELETE", "/v1/zones/example.com./rrsets/www/A", ""},
		{"POST", "/v1/zones/example.com./changes", `{"operations":[]}`},
		{"GET", "/v1/zones/example.com./history", ""},
		{"POST", "/v1/zones/example.com./rollback", `{"serial":1}`},
		{"GET", "/v1/changes/0@0", ""},
		{"POST", "/v1/lookup", `{"queries":[]}`},
		{"GET", "/v1/nothing", ""},
		{"GET", "/nothing", ""},
	} {
		for _, authorization := range []string{
			"", "Bearer", "Bearer ", "Bearer wrong-token-of-no-use", "Basic " + balefiretest.Token, "Bearer " + balefiretest.Token + "x",
			"Bearer " + strings.ToUpper(balefiretest.Token),
		} {
			res := n.call(c.method, c.path, c.body, "Authorization: "+authorization)
			if res.status != 401 || res.header.Get("WWW-Authenticate") == "" || !strings.HasPrefix(res.header.Get("Content-Type"), "application/problem+json") {
				t.Errorf("%s %s with Authorization %q: %d %v\n%s", c.method, c.path, authorization, res.status, res.header, res.body)
			}
		}
		// The token is taken from nowhere else.
		if res := n.call(c.method, c.path+"?token="+balefiretest.Token, c.body, "Authorization: "); res.status != 401 {
			t.Errorf("%s %s with the token in the query: %d", c.method, c.path, res.status)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json"} {
		if res := n.call("GET", path, "", "Authorization: "); res.status != 200 {
			t.Errorf("GET %s without a token: %d\n%s", path, res.status, res.body)
		}
	}
	if got := n.serial("example.com"); got != before {
		t.Errorf("something was written: serial %d, before it was %d", got, before)
	}
	if log := n.Log() + n.Said(); strings.Contains(log, balefiretest.Token) {
		t.Errorf("the token is in the log:\n%s", log)
	}
}
