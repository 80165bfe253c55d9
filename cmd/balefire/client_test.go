package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"balefire/admin"
)

// call is one request as the server saw it.
type call struct{ line, body, token, ifMatch, key string }

// api is a server that answers what a test says, for what the real one can't be made to say; serve_test.go has
// the real one.
type api struct {
	mu    sync.Mutex
	calls []call
}

// newAPI answers "METHOD /path" with what the table says: a status, a space, and a body.
func newAPI(t *testing.T, answers map[string]string) *api {
	t.Helper()
	a := &api{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the body: %v", err)
		}
		line := r.Method + " " + r.URL.EscapedPath()
		if r.URL.RawQuery != "" {
			line += "?" + r.URL.RawQuery
		}
		a.mu.Lock()
		a.calls = append(a.calls, call{line, string(body), r.Header.Get("Authorization"), r.Header.Get("If-Match"), r.Header.Get("Idempotency-Key")})
		a.mu.Unlock()
		answer, ok := answers[line]
		if !ok {
			answer, ok = answers[r.Method+" "+r.URL.EscapedPath()]
		}
		if !ok {
			answer = "404 {}"
		}
		var status int
		fmt.Sscanf(answer, "%d", &status)
		_, content, _ := strings.Cut(answer, " ")
		w.Header().Set("Content-Type", "application/json")
		if status == http.StatusTemporaryRedirect {
			w.Header().Set("Location", content)
		}
		w.WriteHeader(status)
		io.WriteString(w, content)
	}))
	t.Cleanup(srv.Close)
	t.Setenv("BALEFIRE_SERVER", srv.URL)
	t.Setenv("BALEFIRE_TOKEN", "from the environment")
	return a
}

// lines are the requests so far, without bodies.
func (a *api) lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var lines []string
	for _, c := range a.calls {
		lines = append(lines, c.line)
	}
	return lines
}

func TestRecordSetSendsWhatItMeans(t *testing.T) {
	tests := []struct {
		args []string
		line string
		body string
	}{
		{
			[]string{"example.com.", "www", "A", "300", "192.0.2.7", "192.0.2.8"},
			"PUT /v1/zones/example.com./rrsets/www.example.com./A",
			`{"records":["192.0.2.7","192.0.2.8"],"ttl":300}`,
		},
		{
			[]string{"example.com", "@", "mx", "60", "10 mail", "20 mail.example.net."},
			"PUT /v1/zones/example.com./rrsets/example.com./MX",
			`{"records":["10 mail.example.com.","20 mail.example.net."],"ttl":60}`,
		},
		{
			[]string{".", "se", "DS", "60", "1 8 2 " + strings.Repeat("AB", 32)},
			"PUT /v1/zones/@/rrsets/se./DS",
			`{"records":["1 8 2 ` + strings.Repeat("AB", 32) + `"],"ttl":60}`,
		},
		{
			[]string{"2.0.192.in-addr.arpa.", "0/25", "NS", "60", "ns.example.com."},
			"PUT /v1/zones/2.0.192.in-addr.arpa./rrsets/0%2F25.2.0.192.in-addr.arpa./NS",
			`{"records":["ns.example.com."],"ttl":60}`,
		},
		{
			[]string{"example.com.", "t", "TYPE65400", "60", `\# 2 0102`},
			"PUT /v1/zones/example.com./rrsets/t.example.com./TYPE65400",
			`{"records":["\\# 2 0102"],"ttl":60}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			a := newAPI(t, map[string]string{tt.line: `200 {"id":"3@4711","status":"applied","zone":"z.","serial":7}`})
			code, out, errOut := runCLI(t, append([]string{"record", "set", "--if-serial", "6"}, tt.args...)...)
			if code != exitOK {
				t.Fatalf("exit %d: %s", code, errOut)
			}
			got := a.calls[0]
			if got.line != tt.line || !strings.EqualFold(got.body, tt.body) {
				t.Errorf("sent %s %s\nwant %s %s", got.line, got.body, tt.line, tt.body)
			}
			if got.token != "Bearer from the environment" || got.ifMatch != `"6"` {
				t.Errorf("token %q, If-Match %q", got.token, got.ifMatch)
			}
			if !strings.Contains(out, "serial 7 (3@4711)") {
				t.Errorf("printed %q", out)
			}
		})
	}
}

// TestTokenOrder: --token-file, BALEFIRE_TOKEN, BALEFIRE_TOKEN_FILE, --data-dir.
func TestTokenOrder(t *testing.T) {
	a := newAPI(t, map[string]string{"GET /v1/zones": `200 {"zones":[]}`})
	dir := t.TempDir()
	for file, token := range map[string]string{admin.TokenFile: "from the directory\n", "flag": "from the flag\n", "env": "from the file\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := func(want string, args ...string) {
		t.Helper()
		if code, _, errOut := runCLI(t, append([]string{"zone", "list"}, args...)...); code != exitOK {
			t.Fatalf("exit %d: %s", code, errOut)
		}
		if got := a.calls[len(a.calls)-1].token; got != "Bearer "+want {
			t.Errorf("sent %q, want %q", got, want)
		}
	}
	t.Setenv("BALEFIRE_TOKEN_FILE", filepath.Join(dir, "env"))
	list("from the flag", "--token-file", filepath.Join(dir, "flag"), "--data-dir", dir)
	list("from the environment", "--data-dir", dir)
	t.Setenv("BALEFIRE_TOKEN", "")
	list("from the file", "--data-dir", dir)
	t.Setenv("BALEFIRE_TOKEN_FILE", "")
	list("from the directory", "--data-dir", dir)
}

func TestPagesAreFollowed(t *testing.T) {
	newAPI(t, map[string]string{
		"GET /v1/zones?limit=1000&prefix=e":                        `200 {"zones":[{"name":"e1.","serial":1}],"next":"e1."}`,
		"GET /v1/zones?after=e1.&limit=1000&prefix=e":              `200 {"zones":[],"next":"e1x."}`,
		"GET /v1/zones?after=e1x.&limit=1000&prefix=e":             `200 {"zones":[{"name":"e2.","serial":2}]}`,
		"GET /v1/zones/example.com./rrsets?limit=3":                `200 {"rrsets":[{"owner":"example.com.","type":"A","ttl":1,"records":["192.0.2.1","192.0.2.2"]}],"next":"c"}`,
		"GET /v1/zones/example.com./rrsets?after=c&limit=2":        `200 {"rrsets":[{"owner":"b.example.com.","type":"A","ttl":1,"records":["192.0.2.3"]}],"next":"d"}`,
		"GET /v1/zones/example.com./rrsets?after=d&limit=1":        `200 {"rrsets":[{"owner":"c.example.com.","type":"A","ttl":1,"records":["192.0.2.4"]}],"next":"e"}`,
		"GET /v1/zones/example.com./rrsets?after=unexpected&limit": `500 {}`,
	})
	code, out, errOut := runCLI(t, "zone", "list", "--prefix", "e", "-o", "json")
	var listed []zoneInfo
	if err := json.Unmarshal([]byte(out), &listed); err != nil || code != exitOK || len(listed) != 2 || listed[1].Name != "e2." {
		t.Errorf("exit %d, %v: %s%s", code, err, out, errOut)
	}
	code, out, errOut = runCLI(t, "record", "list", "example.com.", "--limit", "3")
	want := "OWNER  TTL  TYPE  RECORDS\n" +
		"@      1    A     192.0.2.1\n" +
		"                  192.0.2.2\n" +
		"b      1    A     192.0.2.3\n" +
		"c      1    A     192.0.2.4\n"
	if code != exitOK || out != want {
		t.Errorf("exit %d: %s\n%q\nwant\n%q", code, errOut, out, want)
	}
}

func TestRefusals(t *testing.T) {
	tests := map[string]struct{ answer, want string }{
		"problem": {
			`422 {"title":"Not valid","detail":"2 mistakes","errors":[{"field":"records[0]","detail":"not an address"},{"field":"ttl","detail":"negative"}]}`,
			"balefire: 2 mistakes\n  records[0]: not an address\n  ttl: negative\n",
		},
		"no token": {
			`401 {"title":"No token"}`,
			"balefire: No token\nThe token is BALEFIRE_TOKEN, or in --token-file, or in admin.token of the server's --data-dir.\n",
		},
		"redirect":        {"307 http://192.0.2.1/", "balefire: 307 Temporary Redirect from SERVER/v1/zones/example.com.\n"},
		"something else":  {`502 <html>`, "balefire: 502 Bad Gateway from SERVER/v1/zones/example.com.\n"},
		"rejected":        {`200 {"id":"3@1","status":"rejected","zone":"example.com.","error":{"rule":"no-such-zone"}}`, "balefire: rejected: no-such-zone (3@1)\n"},
		"answer cut":      {`200 {"id":`, "balefire: SERVER: read the answer: unexpected EOF\n"},
		"problem with id": {`409 {"title":"Rejected","detail":"no-such-zone","id":"3@1"}`, "balefire: no-such-zone (3@1)\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			newAPI(t, map[string]string{"DELETE /v1/zones/example.com.": tt.answer})
			code, out, errOut := runCLI(t, "zone", "delete", "example.com.")
			got := strings.ReplaceAll(errOut, os.Getenv("BALEFIRE_SERVER"), "SERVER")
			if code != exitFailed || out != "" || got != tt.want {
				t.Errorf("exit %d, stdout %q, stderr\n%q\nwant\n%q", code, out, got, tt.want)
			}
		})
	}
}

func TestPendingChangesAreWaitedFor(t *testing.T) {
	a := newAPI(t, map[string]string{
		"DELETE /v1/zones/example.com.":    `202 {"id":"3@1","status":"pending","zone":"example.com."}`,
		"GET /v1/changes/3@1?wait=10s":     `200 {"id":"3@1","status":"applied","zone":"example.com.","serial":0}`,
		"DELETE /v1/zones/example.net.":    `202 {"id":"3@2","status":"pending","zone":"example.net."}`,
		"GET /v1/changes/3@2":              `200 {"id":"3@2","status":"pending","zone":"example.net."}`,
		"GET /v1/changes/3@2?wait=nothing": `500 {}`,
	})
	if code, out, errOut := runCLI(t, "zone", "delete", "example.com."); code != exitOK || out != "example.com. deleted (3@1)\n" {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	if got := a.lines(); len(got) != 2 {
		t.Errorf("requests: %v", got)
	}
	code, _, errOut := runCLI(t, "zone", "delete", "example.net.", "--timeout", "30ms")
	if want := "balefire: 3@2 was accepted, and is not applied yet: see `balefire change show 3@2`\n"; code != exitFailed || errOut != want {
		t.Errorf("exit %d: %q, want %q", code, errOut, want)
	}
}

const soaText = "@ 300 IN SOA ns hostmaster 1 7200 900 1209600 300\n@ 300 IN NS ns\nns 300 IN A 192.0.2.1\n"

func TestImport(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"new.example.zone":      soaText,
		"same.example.zone":     soaText,
		"taken.example.zone":    soaText + "www 300 IN CNAME ns\nwww 300 IN A 192.0.2.2\n",
		"typo.example.zone":     soaText + "www 300 IN A 192.0.2\n",
		"outside.example.zone":  soaText + "www.example.net. 300 IN A 192.0.2.1\n",
		"soaless.example.zone":  "@ 300 IN NS ns\n",
		"empty.example.zone":    "; nothing\n",
		"whatever":              "not looked at",
		"sub/inc.example.zone":  soaText + "$INCLUDE more.txt\n",
		"sub/more.txt":          "more 300 IN A 192.0.2.9\n",
		"sub/elsewhere.db.zone": "$ORIGIN real.example.\n" + soaText,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := newAPI(t, map[string]string{
		"PUT /v1/zones/new.example./file?force=true":   `200 {"id":"1@1","status":"applied","zone":"new.example.","serial":5,"result":"created"}`,
		"PUT /v1/zones/same.example./file?force=true":  `200 {"status":"applied","zone":"same.example.","serial":9,"result":"unchanged"}`,
		"PUT /v1/zones/real.example./file?force=true":  `202 {"id":"1@2","status":"pending","zone":"real.example.","result":"replaced"}`,
		"GET /v1/changes/1@2?wait=10s":                 `200 {"id":"1@2","status":"applied","zone":"real.example.","serial":6}`,
		"PUT /v1/zones/inc.example./file?force=true":   `200 {"id":"1@3","status":"applied","zone":"inc.example.","serial":5,"result":"created"}`,
		"PUT /v1/zones/taken.example./file?force=true": `422 {"title":"Not valid","detail":"cname-and-other at www.taken.example.","owner":"www.taken.example.","rrtype":"A"}`,
	})
	code, out, errOut := runCLI(t, "zone", "import", dir, "--force")
	wantOut := "new.example.: created, serial 5, 3 records\n" +
		"same.example.: unchanged, serial 9, 3 records\n" +
		"real.example.: replaced, serial 6, 3 records\n" +
		"inc.example.: created, serial 5, 4 records\n" +
		"2 created, 1 replaced, 1 unchanged, 5 failed\n"
	wantErr := "failed: DIR/empty.example.zone:1:1: there is no record in it\n" +
		"failed: DIR/outside.example.zone:4:1: www.example.net. is not in the zone outside.example.\n" +
		"failed: DIR/soaless.example.zone:1:1: there is no SOA record in this file, which would name the zone\n" +
		"failed: DIR/taken.example.zone:5:1: cname-and-other at www.taken.example.\n" +
		"failed: DIR/typo.example.zone:4:14: "
	if code != exitFailed || !sameLines(out, wantOut) {
		t.Errorf("exit %d\n%s\nwant\n%s", code, out, wantOut)
	}
	if got := strings.ReplaceAll(errOut, dir, "DIR"); !strings.HasPrefix(got, wantErr) {
		t.Errorf("stderr\n%s\nwant\n%s…", got, wantErr)
	}
	for _, c := range a.calls {
		if strings.HasPrefix(c.line, "PUT /v1/zones/inc.example.") {
			want := "inc.example.\t300\tIN\tSOA\tns.inc.example. hostmaster.inc.example. 1 7200 900 1209600 300\n" +
				"inc.example.\t300\tIN\tNS\tns.inc.example.\n" +
				"ns.inc.example.\t300\tIN\tA\t192.0.2.1\n" +
				"more.inc.example.\t300\tIN\tA\t192.0.2.9\n"
			if c.body != want {
				t.Errorf("sent\n%s\nwant\n%s", c.body, want)
			}
		}
	}
}

func sameLines(a, b string) bool {
	return slices.Equal(slices.Sorted(strings.Lines(a)), slices.Sorted(strings.Lines(b)))
}

func TestImportFromStandardInput(t *testing.T) {
	a := newAPI(t, map[string]string{"PUT /v1/zones/@/file": `200 {"id":"1@1","status":"applied","zone":".","serial":5,"result":"created"}`})
	code, out, errOut := runCLIWith(t, soaText, "zone", "import", "--origin", ".", "-")
	if code != exitOK || out != ".: created, serial 5, 3 records\n" {
		t.Errorf("exit %d: %s%s, requests %v", code, out, errOut, a.lines())
	}
}

func TestZoneDiff(t *testing.T) {
	server := "$ORIGIN example.com.\n" + strings.Replace(soaText, " 1 ", " 77 ", 1) + "a 300 IN A 192.0.2.1\nb 300 IN A 192.0.2.1\n"
	newAPI(t, map[string]string{
		"GET /v1/zones/example.com.":      `200 {"name":"example.com.","serial":77,"serial_policy":"increment"}`,
		"GET /v1/zones/example.com./file": "200 " + server,
	})
	file := writeFile(t, "example.com.zone", soaText+"b 300 IN A 192.0.2.2\nc 300 IN TXT \"x y\"\n")
	code, out, errOut := runCLI(t, "zone", "diff", "example.com.", file)
	want := "- a.example.com. 300 A 192.0.2.1\n" +
		"- b.example.com. 300 A 192.0.2.1\n" +
		"+ b.example.com. 300 A 192.0.2.2\n" +
		"+ c.example.com. 300 TXT \"x y\"\n"
	if code != exitFailed || out != want || errOut != "" {
		t.Errorf("exit %d: %s\n%s\nwant\n%s", code, errOut, out, want)
	}
	same := writeFile(t, "example.com.zone", server)
	if code, out, errOut := runCLI(t, "zone", "diff", "example.com.", same); code != exitOK || out+errOut != "" {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
}

func TestChangeApplyNamesTheLineOfBadJSON(t *testing.T) {
	a := newAPI(t, nil)
	code, _, errOut := runCLIWith(t, "{\n \"operations\": [,]\n}", "change", "apply", "example.com.", "-")
	if want := "balefire: -:2:17: invalid character ',' looking for beginning of value\n"; code != exitFailed || errOut != want {
		t.Errorf("exit %d: %q, want %q", code, errOut, want)
	}
	if got := a.lines(); len(got) > 0 {
		t.Errorf("requests: %v", got)
	}
}

func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if code, _, errOut := runCLI(t, "man", dir); code != exitOK {
		t.Fatalf("exit %d: %s", code, errOut)
	}
	for _, page := range []string{"balefire.1", "balefire-serve.1", "balefire-zone-import.1", "balefire-record-set.1"} {
		if content, err := os.ReadFile(filepath.Join(dir, page)); err != nil || !strings.HasPrefix(string(content), ".nh\n.TH") {
			t.Errorf("%s: %v %.20q", page, err, content)
		}
	}
}

// TestListsHaveNoHoles: zones that are not known just now are not taken for absent.
func TestListsHaveNoHoles(t *testing.T) {
	newAPI(t, map[string]string{"GET /v1/zones": `200 {"zones":[{"name":"example.com.","serial":1}],"unavailable_partitions":[4,7]}`})
	code, out, errOut := runCLI(t, "zone", "list")
	if code != exitFailed || out != "" || !strings.Contains(errOut, "the zones of partitions [4 7] are not known just now") {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
}
