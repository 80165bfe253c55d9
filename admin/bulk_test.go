package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
)

// smallZone is a zone that is right, relative to its name.
const smallZone = "@ 60 SOA ns hostmaster 1 7200 900 1209600 300\n@ 60 NS ns\nns 60 A 192.0.2.1\n"

// bulkText makes the body of a bulk import of names and files, in turn.
func bulkText(t *testing.T, namesAndFiles ...string) string {
	t.Helper()
	var items []map[string]string
	for pair := range slices.Chunk(namesAndFiles, 2) {
		items = append(items, map[string]string{"name": pair[0], "file": pair[1]})
	}
	body, err := json.Marshal(map[string]any{"zones": items})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// resultsOf tells each result in short: the zone with what became of it, or with the kind of problem and its detail.
func resultsOf(t *testing.T, a reply) (short []string) {
	t.Helper()
	var got bulkResults
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	for _, r := range got.Results {
		switch {
		case (r.Import != nil) == (r.Problem != nil):
			t.Errorf("%s: want an import or a problem: %s", r.Zone, a.body)
		case r.Import != nil:
			short = append(short, fmt.Sprintf("%s %s %s", r.Zone, r.Import.Status, r.Import.Result))
		default:
			short = append(short, fmt.Sprintf("%s %s %s", r.Zone, strings.TrimPrefix(r.Problem.Type, "urn:balefire:problem:"), r.Problem.Detail))
		}
	}
	return short
}

func wantResults(t *testing.T, what string, a reply, want ...string) {
	t.Helper()
	if got := resultsOf(t, a); !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestBulkImport: each zone has its own outcome, what fails stops no other, and doing it again changes nothing.
func TestBulkImport(t *testing.T) {
	r := newRig(t, nil)
	r.makeZone("old.example.")
	body := bulkText(t,
		"new.example.", smallZone,
		"typo.example.", smallZone+"www 60 A 192.0.2\n",
		"old.example.", smallZone,
		"invalid.example.", smallZone+"ns 60 CNAME a.\n",
		"empty.example.", "; nothing\n",
		"last.example.", smallZone,
	)
	check := func(what string, a reply, created, replaced string) {
		t.Helper()
		wantResults(t, what, a,
			"new.example. "+created,
			`typo.example. zone-file typo.example.zone:4:10: A: "192.0.2" is not an IPv4 address`,
			"old.example. "+replaced,
			"invalid.example. zone-file invalid.example.zone:4:1: cname-and-other at ns.invalid.example. CNAME: a CNAME allows no other data beside it (RFC 2181 §10.1)",
			"empty.example. zone-file empty.example.zone:1:1: there is no record in it",
			"last.example. "+created)
	}
	before := r.state()
	check("dry run", r.must(http.StatusOK, "POST", "/v1/imports?dry_run=true", body), "dry-run created", "dry-run replaced")
	if r.state() != before {
		t.Errorf("a dry run made\n%s", r.state())
	}
	check("at first", r.must(http.StatusOK, "POST", "/v1/imports", body), "applied created", "applied replaced")
	after, published := r.state(), r.faults.published()
	if n := strings.Count(after, "\n"); n != 3 {
		t.Errorf("%d zones:\n%s", n, after)
	}
	check("again", r.must(http.StatusOK, "POST", "/v1/imports", body), "applied unchanged", "applied unchanged")
	if r.state() != after || r.faults.published() != published {
		t.Errorf("imported again, %d records more:\n%s\nwant\n%s", r.faults.published()-published, r.state(), after)
	}
}

// TestBulkImportIsOneByOne: it makes the zones that the same files make by themselves.
func TestBulkImportIsOneByOne(t *testing.T) {
	one, many := newRig(t, nil), newRig(t, nil)
	var files []string
	for i := range 300 {
		name := fmt.Sprintf("z%d.example.", i)
		file := strings.Join(zoneText(name, i+1, i%7), "")
		files = append(files, name, file)
		if i%10 == 0 {
			one.must(http.StatusCreated, "PUT", "/v1/zones/"+name+"/file?serial_policy=keep", file)
		}
	}
	for i, result := range resultsOf(t, many.must(http.StatusOK, "POST", "/v1/imports?serial_policy=keep", bulkText(t, files...))) {
		if want := files[2*i] + " applied created"; result != want {
			t.Errorf("%s, want %s", result, want)
		}
	}
	all := many.state()
	for line := range strings.Lines(one.state()) {
		if !strings.Contains(all, line) {
			t.Errorf("by itself it is %s", line)
		}
	}
	if n := strings.Count(all, "\n"); n != 300 {
		t.Errorf("%d zones", n)
	}
}

// TestBulkImportIsRefused: what is wrong with the request itself is told before anything is done.
func TestBulkImportIsRefused(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.BulkZones = 2 })
	good := bulkText(t, "a.example.", smallZone)
	tests := []struct {
		path, body, header string
		status             int
		says               string
	}{
		{"", `{}`, "", http.StatusUnprocessableEntity, "/zones"},
		{"", `{"zones": []}`, "", http.StatusUnprocessableEntity, "is empty"},
		{"", `{"zones": [{"name": "a.example."}]}`, "", http.StatusUnprocessableEntity, "/zones/0/file"},
		{"", `{"zones": [{"name": "a..example.", "file": ""}]}`, "", http.StatusUnprocessableEntity, "/zones/0/name"},
		{"", bulkText(t, "a.example.", smallZone, "A.example.", smallZone), "", http.StatusUnprocessableEntity, "a.example. is also at /zones/0/name"},
		{"", bulkText(t, "a.example.", "", "b.example.", "", "c.example.", ""), "", http.StatusRequestEntityTooLarge, "at most 2"},
		{"?match=1", good, "", http.StatusBadRequest, "?match"},
		{"?serial_policy=none", good, "", http.StatusBadRequest, "?serial_policy"},
		{"", good, "Idempotency-Key: k", http.StatusBadRequest, "Idempotency-Key"},
		{"", good, `If-Match: "1"`, http.StatusBadRequest, "If-Match"},
	}
	for _, tt := range tests {
		var headers []string
		if tt.header != "" {
			headers = append(headers, tt.header)
		}
		if a := r.call("POST", "/v1/imports"+tt.path, tt.body, headers...); a.status != tt.status || !strings.Contains(string(a.body), tt.says) {
			t.Errorf("%s %s %s: %d %s, want %d and %q", tt.path, tt.body, tt.header, a.status, a.body, tt.status, tt.says)
		}
	}
	if r.faults.published() > 0 {
		t.Errorf("%d records", r.faults.published())
	}
}

// TestBulkImportTogether: the zones of a request are under way at once, or one that waits would hold up all after it.
func TestBulkImportTogether(t *testing.T) {
	r := newRig(t, nil)
	const count = 20
	arrived := make(chan struct{}, count)
	all := make(chan struct{})
	go func() {
		for range count {
			<-arrived
		}
		close(all)
	}()
	r.faults.set(func(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
		arrived <- struct{}{}
		select {
		case <-all:
		case <-ctx.Done():
			return store.Position{}, errors.New("the others did not come")
		}
		if cs.Zone == zones.MustParseName("z3.example.") {
			return store.Position{}, fmt.Errorf("%w: no", mutationlog.ErrRefused)
		}
		return r.node.Publish(ctx, cs)
	}, nil)
	var files, want []string
	for i := range count {
		name := fmt.Sprintf("z%d.example.", i)
		files = append(files, name, smallZone)
		want = append(want, name+" applied created")
	}
	a := r.must(http.StatusOK, "POST", "/v1/imports", bulkText(t, files...))
	got := resultsOf(t, a)
	if len(got) != count || !strings.HasPrefix(got[3], "z3.example. log-unavailable ") {
		t.Fatalf("%s", a.body)
	}
	got[3] = want[3]
	if !slices.Equal(got, want) {
		t.Errorf("%s", a.body)
	}
}

// TestBulkImportInARegion: zones go on to who holds them, and those of a node that is lost are told apart.
func TestBulkImportInARegion(t *testing.T) {
	g := newRegion(t, nil, []int32{0}, []int32{1}, nil)
	here, there, nowhere := g.zoneIn(0, 0), g.zoneIn(1, 0), g.zoneIn(2, 0)
	body := bulkText(t, there, smallZone, nowhere, smallZone, here, smallZone)
	a := g.members[0].must(http.StatusOK, "POST", "/v1/imports", body)
	wantResults(t, "at first", a, there+" applied created", nowhere+" unavailable no node of this region holds partition 2 just now", here+" applied created")
	if n := g.members[1].faults.published(); n != 1 {
		t.Errorf("the holder has published %d", n)
	}
	g.members[1].mu.Lock()
	g.members[1].spoil = func(next http.RoundTripper, r *http.Request) (*http.Response, error) { return nil, errors.New("lost") }
	g.members[1].mu.Unlock()
	a = g.members[0].must(http.StatusOK, "POST", "/v1/imports", body)
	wantResults(t, "a node is lost", a,
		there+" outcome-unknown node n1, which holds it, did not answer: the zone may be imported all the same. Import it again",
		nowhere+" unavailable no node of this region holds partition 2 just now", here+" applied unchanged")
}
