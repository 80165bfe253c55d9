package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"balefire/store"
	"balefire/zones"
)

// pages lists all zones page by page.
func (r *rig) pages(query string, limit int) (bodies []string, names []string) {
	r.t.Helper()
	after := ""
	for {
		a := r.must(http.StatusOK, "GET", fmt.Sprintf("/v1/zones?limit=%d%s%s", limit, query, after), "")
		got := a.json(r.t)
		for _, z := range got["zones"].([]any) {
			names = append(names, z.(map[string]any)["name"].(string))
		}
		bodies = append(bodies, string(a.body))
		next, more := got["next"].(string)
		if !more {
			return bodies, names
		}
		after = "&after=" + next
	}
}

// TestListsAreOfTheWholeNamespace: pages are the same wherever they are asked for, and however partitions are spread.
func TestListsAreOfTheWholeNamespace(t *testing.T) {
	g := newRegion(t, nil, nil, []int32{0, 1, 2}, []int32{0}, []int32{1, 2}, []int32{2})
	whole := g.members[1]
	for p := range int32(3) {
		for n := range 5 + int(p) {
			whole.makeZone(g.zoneIn(p, n))
		}
	}
	whole.makeZone("other.test.")
	whole.hold([]int32{0, 1, 2}, nil) // the others don't know of it
	for _, limit := range []int{1, 2, 3, 7, 19, 100} {
		for _, query := range []string{"", "&prefix=z1", "&prefix=none"} {
			want, names := whole.pages(query, limit)
			if query == "" && len(names) != 19 {
				t.Fatalf("%d zones: %q", len(names), names)
			}
			for _, m := range []*member{g.members[0], g.members[2], g.members[3]} {
				if got, _ := m.pages(query, limit); !slices.Equal(got, want) {
					t.Errorf("%s, %d a page%s:\n%s\nwant\n%s", m.id, limit, query, strings.Join(got, ""), strings.Join(want, ""))
				}
			}
		}
	}
	want, _ := whole.pages("&partitions=2,0", 4)
	if got, names := g.members[0].pages("&partitions=0,2", 4); !slices.Equal(got, want) || len(names) < 12 {
		t.Errorf("some partitions:\n%s\nwant\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
	for _, bad := range []string{"", "x", "-1", "3", "1,,2", "1%20", "99999999999"} {
		whole.must(http.StatusBadRequest, "GET", "/v1/zones?partitions="+bad, "")
	}
	// Few are asked, each once.
	for _, m := range g.members {
		m.takeAsked()
	}
	g.members[0].must(http.StatusOK, "GET", "/v1/zones", "")
	for i, n := range []int{0, 0, 1, 1, 0} {
		if asked := g.members[i].takeAsked(); len(asked) != n {
			t.Errorf("%s was asked %q", g.members[i].id, asked)
		}
	}
}

// TestMergedPagesAreWhole: past the end of a short page nothing is known.
func TestMergedPagesAreWhole(t *testing.T) {
	var m merger
	for _, page := range []zonePage{
		{Zones: []zoneInfo{{Name: "a.example."}}, Next: "b.example."}, {Zones: []zoneInfo{{Name: "b.example."}, {Name: "c.example."}}}, {Next: "d.example."},
	} {
		if err := m.add(page); err != nil {
			t.Fatal(err)
		}
	}
	if page, next := m.page(10); len(page) != 2 || page[1].Name != "b.example." || next != "b.example." {
		t.Errorf("%v, next %q", page, next)
	}
	if page, next := m.page(1); len(page) != 1 || next != "a.example." {
		t.Errorf("one: %v, next %q", page, next)
	}
	if m.add(zonePage{Zones: []zoneInfo{{Name: "x..y"}}}) == nil || m.add(zonePage{Next: "x..y"}) == nil {
		t.Error("names that are none were taken")
	}
}

// TestListsSayWhatTheyLack: partitions that nobody holds are named; a node that has lost one, or is lost, is made up for by others.
func TestListsSayWhatTheyLack(t *testing.T) {
	g := newRegion(t, nil, []int32{0}, []int32{0, 1, 2}, []int32{1}, nil)
	m, whole, one, spare := g.members[0], g.members[1], g.members[2], g.members[3]
	for p := range int32(3) {
		whole.makeZone(g.zoneIn(p, 0))
	}
	listed := func() (n int, unavailable string) {
		got := m.must(http.StatusOK, "GET", "/v1/zones", "").json(t)
		if got["unavailable_partitions"] != nil {
			unavailable = fmt.Sprint(got["unavailable_partitions"])
		}
		return len(got["zones"].([]any)), unavailable
	}
	check := func(what string, n int, unavailable string) {
		t.Helper()
		if gotN, got := listed(); gotN != n || got != unavailable {
			t.Errorf("%s: %d zones without %q, want %d without %q", what, gotN, got, n, unavailable)
		}
	}
	check("all there", 3, "")
	whole.hold([]int32{2}, []int32{0, 1, 2}) // asked for 1 and 2, has only 2
	check("one of two", 3, "")
	whole.hold(nil, []int32{0, 1, 2})
	check("neither", 2, "[2]")
	whole.hold([]int32{0, 1, 2}, []int32{0, 1, 2})
	whole.setSpoil(func(http.RoundTripper, *http.Request) (*http.Response, error) { return nil, errWire })
	check("lost", 2, "[2]")
	spare.hold([]int32{1, 2}, []int32{1, 2})
	check("lost, with a spare", 3, "")
	spare.hold(nil, nil)
	one.hold(nil, nil)
	check("lost, and nobody else", 1, "[1 2]")
	whole.setSpoil(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(r)
		if err == nil {
			resp.Body = cutBody{bytes.NewReader(bytes.Repeat([]byte(" "), 9<<20)), resp.Body}
		}
		return resp, err
	})
	check("an endless answer", 1, "[1 2]")
}

func TestLookUpsAreOfTheWholeNamespace(t *testing.T) {
	g := newRegion(t, nil, []int32{0}, []int32{0, 1, 2}, []int32{2})
	m, whole, third := g.members[0], g.members[1], g.members[2]
	var queries []string
	for p := range int32(3) {
		zone := g.zoneIn(p, 0)
		whole.makeZone(zone)
		queries = append(queries,
			fmt.Sprintf(`{"zone": %q, "name": "@", "type": "NS"}`, zone), fmt.Sprintf(`{"zone": %q, "name": "www", "type": "A"}`, zone),
			fmt.Sprintf(`{"zone": %q, "name": "www", "type": "TYPE65400"}`, g.zoneIn(p, 1)))
	}
	slices.Reverse(queries[2:7])
	body := `{"queries": [` + strings.Join(queries, ", ") + `]}`
	want := string(whole.must(http.StatusOK, "POST", "/v1/lookup", body).body)
	if strings.Count(want, `"found"`) != 3 || strings.Count(want, `"no-such-zone"`) != 3 {
		t.Fatalf("%s", want)
	}
	for _, other := range g.members {
		if got := string(other.must(http.StatusOK, "POST", "/v1/lookup", body).body); got != want {
			t.Errorf("%s: %s\nwant %s", other.id, got, want)
		}
	}
	third.hold(nil, []int32{2}) // believed, and not so
	whole.hold([]int32{0, 1, 2}, []int32{1, 2})
	if got := string(m.must(http.StatusOK, "POST", "/v1/lookup", body).body); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	whole.hold(nil, nil)
	got := string(m.must(http.StatusOK, "POST", "/v1/lookup", body).body)
	if strings.Count(got, `"unavailable"`) != 6 || strings.Count(got, `"found"`) != 1 || !strings.Contains(got, "no node of this region holds partition 1 just now") {
		t.Errorf("%s", got)
	}
}

// TestTooMuchLookedUpElsewhere: the bound is one for all nodes.
func TestTooMuchLookedUpElsewhere(t *testing.T) {
	g := newRegion(t, func(_ *member, o *Options) { o.Limits.PageOctets = 50 }, nil, []int32{0}, []int32{1, 2})
	a, b := g.zoneIn(0, 0), g.zoneIn(1, 0)
	for _, zone := range []string{a, b} {
		g.members[0].makeZone(zone)
	}
	query := func(zone string) string { return fmt.Sprintf(`{"zone": %q, "name": "@", "type": "NS"}`, zone) }
	one := `{"queries": [` + query(a) + `]}`
	g.members[0].must(http.StatusOK, "POST", "/v1/lookup", one)
	both := `{"queries": [` + query(a) + ", " + query(b) + ", " + query(b) + `]}`
	g.members[0].must(http.StatusRequestEntityTooLarge, "POST", "/v1/lookup", both)
	many := `{"queries": [` + strings.Repeat(query(a)+", ", 5) + query(b) + `]}`
	g.members[0].must(http.StatusRequestEntityTooLarge, "POST", "/v1/lookup", many)
}

// TestAChangeIsFoundByItsID: wherever it is, also when it comes while its client waits.
func TestAChangeIsFoundByItsID(t *testing.T) {
	g := newRegion(t, func(_ *member, o *Options) { o.Groups = &groupsOf{} }, nil, []int32{0}, []int32{1, 2})
	m := g.members[0]
	for p := range int32(3) {
		zone := g.zoneIn(p, 0)
		a := m.must(http.StatusCreated, "POST", "/v1/zones", `{"name": "`+zone+`", "nameservers": ["ns1.test."]}`)
		id := a.json(t)["change_id"].(string)
		for _, other := range g.members {
			got := other.must(http.StatusOK, "GET", "/v1/changes/"+id+"?groups=true", "")
			if d := got.json(t); d["zone"] != zone || d["author"] != "tester" || len(d["groups"].([]any)) != 2 {
				t.Errorf("%s: %s", other.id, got.body)
			}
		}
	}
	unknown := "/v1/changes/" + strings.Repeat("cd", 16)
	m.must(http.StatusNotFound, "GET", unknown, "")
	m.must(http.StatusBadRequest, "GET", unknown+"?partitions=1", "")
	g.members[2].hold([]int32{1}, []int32{1, 2})
	if a := m.must(http.StatusServiceUnavailable, "GET", unknown, ""); !strings.Contains(string(a.body), "holds 2 just now") && !strings.Contains(string(a.body), "holds 1,2 just now") {
		t.Errorf("%s", a.body)
	}
	g.members[2].hold([]int32{1, 2}, []int32{1, 2})
	// It comes later.
	cs := &zones.ChangeSet{ID: zones.ChangeID{0xef}, Zone: zones.MustParseName(g.zoneIn(2, 0)), Author: "late", Ops: []zones.Op{zones.OpDeleteZone{}}}
	asked := make(chan struct{})
	var once sync.Once
	g.members[2].setSpoil(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		defer once.Do(func() { close(asked) })
		return next.RoundTrip(r)
	})
	var published sync.WaitGroup
	published.Go(func() {
		<-asked
		if _, err := g.node.Publish(context.Background(), cs); err != nil {
			t.Error(err)
		}
	})
	if got := m.must(http.StatusOK, "GET", "/v1/changes/"+cs.ID.String()+"?wait=60s", "").json(t); got["action"] != "deleted" {
		t.Errorf("%v", got)
	}
	published.Wait()
}

// backer makes backups without making any.
type backer struct {
	mu    sync.Mutex
	asked [][]int32
	err   error
}

func (b *backer) BackUp(_ context.Context, partitions []int32) (made []BackupMade, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, partitions)
	for _, p := range partitions {
		switch {
		case p == 0:
			made = append(made, BackupMade{Partition: p, Offset: 7, Octets: 100, Made: time.Unix(1000, 0).UTC()})
		case p == 1:
			made = append(made, BackupMade{Partition: p, Offset: 3, Skipped: "nothing has changed"})
		case b.err == nil:
			made = append(made, BackupMade{Partition: p, Err: errors.New("the disk is full")})
		}
	}
	return made, b.err
}

func TestBackupsOfTheRegion(t *testing.T) {
	backers := map[string]*backer{"n0": {}, "n1": {}, "n2": {}}
	g := newRegion(t, func(m *member, o *Options) { o.Backups = backers[m.id] }, []int32{1}, []int32{0}, []int32{0, 2})
	m := g.members[0]
	const want = `{"backups":[{"partition":0,"node":"n2","offset":7,"octets":100,"made":"1970-01-01T00:16:40Z"},` +
		`{"partition":1,"node":"n0","offset":3,"skipped":"nothing has changed"},{"partition":2,"node":"n2","error":"the disk is full"}]}` + "\n"
	if a := m.must(http.StatusOK, "POST", "/v1/backups", ""); string(a.body) != want {
		t.Errorf("%s\nwant %s", a.body, want)
	}
	backers["n2"].err = errors.New("no object store answers")
	if a := m.must(http.StatusOK, "POST", "/v1/backups?partitions=2", ""); string(a.body) != `{"backups":[{"partition":2,"node":"n2","error":"no object store answers"}]}`+"\n" {
		t.Errorf("%s", a.body)
	}
	g.members[2].hold([]int32{0}, []int32{0, 2})
	if a := m.must(http.StatusOK, "POST", "/v1/backups", ""); !strings.Contains(string(a.body), `{"partition":2,"error":"no node of this region holds partition 2 just now"}`) || !strings.Contains(string(a.body), `"partition":0,"node":"n1"`) {
		t.Errorf("%s", a.body)
	}
	if n := len(backers["n0"].asked); n != 2 {
		t.Errorf("this node was asked %d times: %v", n, backers["n0"].asked)
	}
	m.must(http.StatusBadRequest, "POST", "/v1/backups?partitions=7", "")
	m.must(http.StatusUnauthorized, "POST", "/v1/backups", "", "Authorization: none")

	alone := newRig(t, nil)
	alone.must(http.StatusNotImplemented, "POST", "/v1/backups", "")
	alone = newRig(t, func(o *Options) { o.Backups, o.Node = &backer{}, "n" })
	if got := alone.must(http.StatusOK, "POST", "/v1/backups", "").json(t); len(got["backups"].([]any)) != 3 {
		t.Errorf("%v", got)
	}
}

var _ Reader = partReader{(*store.Store)(nil), nil}
