package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"balefire/zones"
)

// bulkAPI takes bulk imports, and answers each zone as a test says.
type bulkAPI struct {
	mu    sync.Mutex
	sizes []int          // zones of each bulk import
	times map[string]int // that a zone came
	puts  []string       // zones that came by themselves
}

func newBulkAPI(t *testing.T, answer func(name, file string) string) *bulkAPI {
	t.Helper()
	a := &bulkAPI{times: map[string]int{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodPut:
			a.puts = append(a.puts, strings.Split(r.URL.Path, "/")[3])
			fmt.Fprint(w, `{"status":"applied","serial":1,"result":"created"}`)
		case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/v1/changes/"):
			fmt.Fprint(w, `{"id":"1@7","status":"applied","serial":8}`)
		case r.Method == http.MethodPost && r.URL.Path == "/v1/imports":
			var body struct{ Zones []struct{ Name, File string } }
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			var results []string
			for _, z := range body.Zones {
				a.times[z.Name]++
				results = append(results, answer(z.Name, z.File))
			}
			a.sizes = append(a.sizes, len(body.Zones))
			fmt.Fprintf(w, `{"results":[%s]}`, strings.Join(results, ","))
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}))
	t.Cleanup(srv.Close)
	t.Setenv("BALEFIRE_SERVER", srv.URL)
	t.Setenv("BALEFIRE_TOKEN", "from the environment")
	return a
}

func writeZones(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name+".zone"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBulkImport: small zones go together, each with its own result and place; large ones and mistakes don't.
func TestBulkImport(t *testing.T) {
	var large strings.Builder
	large.WriteString(soaText)
	for i := range 2000 {
		fmt.Fprintf(&large, "h%d 60 A 192.0.2.1\n", i)
	}
	files := map[string]string{
		"large.example":    large.String(),
		"generate.example": soaText + "$GENERATE 1-3000 h$ 60 A 192.0.2.1\n", // large once it is read
		"typo.example":     soaText + "www 300 IN A 192.0.2\n",
		"taken.example":    "; a comment\n" + soaText + "www 300 IN CNAME ns\n",
		"late.example":     soaText,
	}
	const plain = 3*bulkZones + 10
	for i := range plain {
		files[fmt.Sprintf("z%d.example", i)] = soaText
	}
	a := newBulkAPI(t, func(name, file string) string {
		want := strings.NewReplacer("NAME", name).Replace(
			"NAME\t300\tIN\tSOA\tns.NAME hostmaster.NAME 1 7200 900 1209600 300\nNAME\t300\tIN\tNS\tns.NAME\nns.NAME\t300\tIN\tA\t192.0.2.1\n")
		switch {
		case name == "taken.example.":
			return `{"zone":"x.","problem":{"title":"Not valid","detail":"not so","line":4}}`
		case name == "late.example.":
			return `{"zone":"x.","import":{"id":"1@7","status":"pending","result":"created"}}`
		case file != want:
			t.Errorf("sent\n%s\nwant\n%s", file, want)
		}
		return `{"zone":"x.","import":{"id":"1@1","status":"applied","serial":5,"result":"unchanged"}}`
	})
	code, out, errOut := runCLI(t, "zone", "import", writeZones(t, files))
	wantOut := "generate.example.: created, serial 1, 3003 records\n" +
		"large.example.: created, serial 1, 2003 records\n" +
		"late.example.: created, serial 8, 3 records\n" +
		fmt.Sprintf("3 created, %d unchanged, 2 failed\n", plain)
	if code != exitFailed || out != wantOut {
		t.Errorf("exit %d\n%s\nwant\n%s", code, out, wantOut)
	}
	for _, want := range []string{"/taken.example.zone:5:1: not so\n", `/typo.example.zone:4:14: A: "192.0.2" is not an IPv4 address`} {
		if !strings.Contains(errOut, want) {
			t.Errorf("stderr lacks %q:\n%s", want, errOut)
		}
	}
	if len(a.puts) != 2 || len(a.sizes) != 4 {
		t.Errorf("by themselves: %v; together: %v", a.puts, a.sizes)
	}
	for name, n := range a.times {
		if n != 1 {
			t.Errorf("%s was sent %d times", name, n)
		}
	}
}

// TestBulkBodyFits: whatever is in the zones, the server takes as much, or one would make all others fail.
func TestBulkBodyFits(t *testing.T) {
	const most = 2 << 20 // admin.Limits.Body
	for _, octet := range []string{`\`, `"`, "<", "\t"} {
		var batch []*smallZone
		for range bulkZones {
			batch = append(batch, &smallZone{
				source: zoneSource{apex: zones.Name(strings.Repeat("\x01a", 127) + "\x00")},
				text:   []byte(strings.Repeat(octet, bulkOctets/bulkZones)),
			})
		}
		if n := len(bulkBody(batch)); n > most {
			t.Errorf("of %q it takes %d octets, at most %d are taken", octet, n, most)
		}
	}
}

// TestBulkImportIsInterrupted: what is not known to be imported is neither failed nor passed over.
func TestBulkImportIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	files := map[string]string{}
	for i := range 10 * bulkZones {
		files[fmt.Sprintf("z%d.example", i)] = soaText
	}
	a := newBulkAPI(t, func(string, string) string {
		cancel()
		return `{"zone":"x.","import":{"status":"applied","serial":5,"result":"created"}}`
	})
	conn := &connection{}
	c, err := conn.dialWith("token")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := zoneFiles([]string{writeZones(t, files)})
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range importAll(ctx, c, paths, importOptions{}, nil, nil) {
		count[r.Result]++
	}
	if count["left"] < 5*bulkZones || count["left"]+count["created"] != len(files) {
		t.Errorf("%v of %d", count, len(files))
	}
	if len(a.puts) > 0 {
		t.Errorf("%d were sent by themselves", len(a.puts))
	}
}
