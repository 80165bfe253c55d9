package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
)

// TestEveryNodeGivesTheHoldersAnswer: what can be read of a zone is the same wherever it is asked for.
func TestEveryNodeGivesTheHoldersAnswer(t *testing.T) {
	g := newRegion(t, nil, nil, []int32{0, 1, 2})
	empty, holder := g.members[0], g.members[1]
	empty.makeZone("example.com.")
	change := empty.must(http.StatusOK, "PUT", "/v1/zones/example.com./rrsets/www/A", `{"ttl": 60, "records": ["192.0.2.1"], "reason": "why"}`).json(t)
	for _, path := range []string{
		"/v1/zones", "/v1/zones/example.com.", "/v1/zones/example.com./file", "/v1/zones/example.com./rrsets?limit=2",
		"/v1/zones/example.com./rrsets/www/A", "/v1/zones/example.com./history", "/v1/zones/example.com./rrsets/www/AAAA", "/v1/zones/none.example.",
		"/v1/zones/example.com.?what", "/v1/zones/example.com./rrsets/www/RRSIG?covers=A", "/v1/changes/" + change["id"].(string), "/v1/changes/" + change["change_id"].(string),
		"/v1/changes/0@0?wait=never", "/v1/zones/example.com./nothing",
	} {
		empty.takeAsked()
		holder.takeAsked()
		a := empty.call("GET", path, "", "X-Request-Id: same")
		b := holder.call("GET", path, "", "X-Request-Id: same")
		if a.status != b.status || !bytes.Equal(a.body, b.body) {
			t.Errorf("%s: %d %s\nof the holder: %d %s", path, a.status, a.body, b.status, b.body)
		}
		for _, name := range []string{"Content-Type", "Content-Disposition", "Etag", "Cache-Control", "X-Request-Id"} {
			if a.header.Get(name) != b.header.Get(name) {
				t.Errorf("%s: %s: %q, of the holder %q", path, name, a.header.Get(name), b.header.Get(name))
			}
		}
		if path == "/v1/zones/example.com./file" && (a.header.Get(nodeHeader) != "n1" || b.header.Get(nodeHeader) != "n1") {
			t.Errorf("answered by %q and %q", a.header.Get(nodeHeader), b.header.Get(nodeHeader))
		}
		if asked := empty.takeAsked(); len(asked) > 0 {
			t.Errorf("%s: the holder asked: %q", path, asked)
		}
	}
	if got := string(holder.must(http.StatusOK, "GET", "/v1/zones/example.com./history", "").body); strings.Count(got, `"author":"tester"`) != 2 {
		t.Errorf("authors: %s", got)
	}
	head, err := empty.try("HEAD", "/v1/zones/example.com./file", nil)
	if err != nil || head.status != http.StatusOK || len(head.body) > 0 || head.header.Get("ETag") != `"2"` {
		t.Errorf("HEAD: %v %q", head.header, head.body)
	}
}

// TestLargeFilesArePassedOn: zone files that don't fit into memory go through a node both ways.
func TestLargeFilesArePassedOn(t *testing.T) {
	small := func(_ *member, o *Options) { o.Limits.Body, o.Limits.SortMemory = 16<<10, 64<<10 }
	g := newRegion(t, small, nil, []int32{0, 1, 2}, nil)
	empty, holder, other := g.members[0], g.members[1], g.members[2]
	other.hold(nil, []int32{0, 1, 2}) // and it is lost when asked
	other.setSpoil(func(http.RoundTripper, *http.Request) (*http.Response, error) { return nil, errWire })
	const url = "/v1/zones/big.example./file"
	lines := zoneText("big.example.", 1, 9000)
	got := empty.must(http.StatusCreated, "PUT", url, shuffled(lines)).json(t)
	if got["result"] != "created" || got["rrsets"] != 9002.0 || got["status"] != "applied" {
		t.Fatalf("%v", got)
	}
	if asked := holder.takeAsked(); !slices.Equal(asked, []string{"HEAD /v1/zones/big.example.", "PUT " + url}) {
		t.Errorf("asked %q", asked)
	}
	a := empty.must(http.StatusOK, "GET", url, "").body
	if b := holder.must(http.StatusOK, "GET", url, "").body; !bytes.Equal(a, b) || len(a) < 100<<10 {
		t.Errorf("exports of %d and %d octets differ", len(a), len(b))
	}
	// A mistake at the beginning ends it, though there is more to come.
	long := "$ORIGIN big.example.\nwww 60 IN A 192.0.2.x\n" + strings.Join(lines, "")
	if a, err := empty.try("PUT", url, strings.NewReader(long)); err == nil && (a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), "big.example.zone:2:")) {
		t.Errorf("%d %s", a.status, a.body)
	}
	// What is wrong with the client's sending is not the peer's fault.
	cut := io.MultiReader(strings.NewReader(strings.Join(lines[:2000], "")), failingReader{})
	if a, err := empty.try("PUT", url, cut); err == nil {
		t.Errorf("cut: %d %s", a.status, a.body)
	}
	if b := holder.must(http.StatusOK, "GET", url, "").body; !bytes.Equal(a, b) {
		t.Error("the zone was changed")
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the client stops") }

// TestSizesAreBoundedWhereClientsAsk: also of what is passed on.
func TestSizesAreBoundedWhereClientsAsk(t *testing.T) {
	g := newRegion(t, func(m *member, o *Options) {
		if m.id == "n0" {
			o.Limits.Body, o.Limits.ImportBody = 1000, 40<<10
		}
	}, nil, []int32{0, 1, 2})
	empty := g.members[0]
	lines := strings.Join(zoneText("big.example.", 1, 3000), "")
	empty.must(http.StatusRequestEntityTooLarge, "PUT", "/v1/zones/big.example./file", lines)
	long := `{"name": "example.com.", "nameservers": ["ns1.test."], "reason": "` + strings.Repeat("x", 1000) + `"}`
	empty.must(http.StatusRequestEntityTooLarge, "POST", "/v1/zones", long)
	empty.makeZone("example.com.")
	empty.must(http.StatusRequestEntityTooLarge, "PUT", "/v1/zones/example.com./rrsets", `{"rrsets": [], "reason": "`+strings.Repeat("x", 1000)+`"}`)
	empty.must(http.StatusNotFound, "GET", "/v1/zones/big.example.", "")
}

// TestOneHop: whoever is passed a request answers or declines, and the next is asked.
func TestOneHop(t *testing.T) {
	g := newRegion(t, nil, nil, nil, []int32{0, 1, 2})
	empty, liar, holder := g.members[0], g.members[1], g.members[2]
	liar.hold(nil, []int32{0, 1, 2})
	empty.makeZone("example.com.")
	if asked := liar.takeAsked(); !slices.Equal(asked, []string{"POST /v1/zones"}) {
		t.Errorf("the first: %q", asked)
	}
	if asked := holder.takeAsked(); !slices.Equal(asked, []string{"POST /v1/zones"}) {
		t.Errorf("the holder: %q", asked)
	}
	a := empty.must(http.StatusOK, "GET", "/v1/zones/example.com.", "")
	if a.header.Get(nodeHeader) != "n2" || a.header.Get(declinedHeader) != "" {
		t.Errorf("%v", a.header)
	}
	// Nodes that all believe it of others.
	empty.hold(nil, []int32{0, 1, 2})
	holder.hold(nil, []int32{0, 1, 2})
	for _, m := range g.members {
		m.takeAsked()
	}
	a = empty.must(http.StatusServiceUnavailable, "GET", "/v1/zones/example.com.", "")
	if a.header.Get("Retry-After") == "" || a.header.Get(nodeHeader) != "n0" || !strings.Contains(string(a.body), "problem:unavailable") {
		t.Errorf("%v %s", a.header, a.body)
	}
	for i, m := range g.members {
		if asked := m.takeAsked(); len(asked) != min(i, 1) {
			t.Errorf("%s was asked %q", m.id, asked)
		}
	}
}

// TestOnlyNodesAreBelieved: an answer that is not the peer's own is none.
func TestOnlyNodesAreBelieved(t *testing.T) {
	g := newRegion(t, nil, nil, []int32{0, 1, 2}, []int32{0, 1, 2})
	m, first := g.members[0], g.members[1]
	m.makeZone("example.com.")
	for name, header := range map[string]http.Header{"nobody": {}, "another": {nodeHeader: {"n7"}}} {
		first.setSpoil(func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.Body != nil {
				r.Body.Close()
			}
			return &http.Response{StatusCode: http.StatusForbidden, Header: header.Clone(), Body: io.NopCloser(strings.NewReader("who are you?"))}, nil
		})
		if a := m.must(http.StatusOK, "GET", "/v1/zones/example.com.", ""); a.header.Get(nodeHeader) != "n2" {
			t.Errorf("%s: %v", name, a.header)
		}
		m.must(http.StatusOK, "PATCH", "/v1/zones/example.com.", `{"serial_policy": "increment"}`)
		m.must(http.StatusOK, "GET", "/v1/zones", "")
	}
}

// TestNoHolder: reads say that nobody can tell; what needs no reading is published all the same.
func TestNoHolder(t *testing.T) {
	g := newRegion(t, func(_ *member, o *Options) { o.Groups = &groupsOf{} }, nil, []int32{0, 1, 2})
	m, holder := g.members[0], g.members[1]
	m.makeZone("example.com.")
	holder.hold(nil, nil)
	partition := g.partition("example.com.")
	for _, path := range []string{"", "/file", "/rrsets", "/rrsets/www/A", "/history"} {
		a := m.must(http.StatusServiceUnavailable, "GET", "/v1/zones/example.com."+path, "")
		if a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), fmt.Sprintf("no node of this region holds partition %d", partition)) {
			t.Errorf("%s: %v %s", path, a.header, a.body)
		}
	}
	const zone = "/v1/zones/example.com."
	before, published := m.state(), m.faults.published()
	m.must(http.StatusServiceUnavailable, "PUT", zone+"/file", strings.Join(zoneText("example.com.", 9, 3), ""))
	m.must(http.StatusServiceUnavailable, "POST", zone+"/rollback", `{"serial": 1}`)
	m.must(http.StatusServiceUnavailable, "POST", zone+"/changes", `{"operations": [{"op": "replace_zone", "rrsets": []}]}`)
	if m.state() != before || m.faults.published() != published {
		t.Error("refused, and published")
	}
	m.must(http.StatusBadRequest, "PUT", zone+"/rrsets/www/A?when=now", `{"ttl": 60, "records": ["192.0.2.1"]}`)
	for i, write := range [][3]string{
		{"PUT", zone + "/rrsets/www/A", `{"ttl": 60, "records": ["192.0.2.1"]}`},
		{"PUT", zone + "/rrsets", `{"rrsets": [{"owner": "a", "type": "A", "ttl": 60, "records": ["192.0.2.1"]}]}`},
		{"POST", zone + "/changes", `{"operations": [{"op": "add_records", "owner": "a", "type": "A", "ttl": 60, "records": ["192.0.2.2"]}]}`},
		{"DELETE", zone + "/rrsets/www/A", ""},
		{"PATCH", zone, `{"serial_policy": "unixtime"}`},
		{"POST", "/v1/zones", `{"name": "second.example.com.", "nameservers": ["ns1.test."]}`},
		{"DELETE", zone, ""},
	} {
		a := m.must(http.StatusAccepted, write[0], write[1], write[2])
		got := a.json(t)
		if got["status"] != "pending" || a.header.Get("Location") != fmt.Sprint("/v1/changes/", got["id"]) {
			t.Errorf("%s: %s", write, a.body)
		}
		// Where it is can be asked, but for what the groups say only when a holder is back.
		if i == 0 {
			m.must(http.StatusServiceUnavailable, "GET", a.header.Get("Location"), "")
			if got := m.must(http.StatusOK, "GET", a.header.Get("Location")+"?groups=true", "").json(t); got["status"] != "pending" || len(got["groups"].([]any)) != 2 {
				t.Errorf("%v", got)
			}
			m.must(http.StatusServiceUnavailable, "GET", "/v1/changes/"+got["change_id"].(string), "")
		}
		holder.hold([]int32{0, 1, 2}, []int32{0, 1, 2})
		if got := m.must(http.StatusOK, "GET", a.header.Get("Location")+"?wait=60s", "").json(t); got["status"] != "applied" {
			t.Errorf("%s: %v", write, got)
		}
		holder.hold(nil, nil)
	}
}

// TestAPeerIsLost: before or after it has done what it was asked, with another holder or without.
func TestAPeerIsLost(t *testing.T) {
	g := newRegion(t, nil, nil, []int32{0, 1, 2}, []int32{0, 1, 2})
	m, first, second := g.members[0], g.members[1], g.members[2]
	m.makeZone("example.com.")
	serial := 1.0
	put := func(headers ...string) reply {
		serial++
		return m.call("POST", "/v1/zones/example.com./changes", fmt.Sprintf(`{"operations": [{"op": "put_rrset", "owner": "www", "type": "A", "ttl": %v, "records": ["192.0.2.1"]}]}`, serial), headers...)
	}
	lost := map[string]func(http.RoundTripper, *http.Request) (*http.Response, error){
		"before": func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, errWire
		},
		"after": func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			return nil, errors.Join(err, errWire)
		},
	}
	for name, spoil := range lost {
		first.setSpoil(spoil)
		a := put()
		if got := a.json(t); a.status != http.StatusOK || got["serial"] != serial || a.header.Get(nodeHeader) != "n2" || got["duplicate"] != nil != (name == "after") {
			t.Errorf("lost %s: %d %s", name, a.status, a.body)
		}
		a = put("Idempotency-Key: " + name)
		if got := a.json(t); a.status != http.StatusOK || got["serial"] != serial {
			t.Errorf("lost %s, with a key: %d %s", name, a.status, a.body)
		}
		// Both are lost: it is published here, and is one change whoever made it.
		second.setSpoil(spoil)
		a = put()
		first.setSpoil(nil)
		second.setSpoil(nil)
		if a.status != http.StatusAccepted {
			t.Errorf("both lost %s: %d %s", name, a.status, a.body)
		}
		m.must(http.StatusOK, "GET", a.header.Get("Location")+"?wait=60s", "")
		if got := m.must(http.StatusOK, "GET", "/v1/zones/example.com.", "").json(t); got["serial"] != serial {
			t.Errorf("both lost %s: serial %v, want %v", name, got["serial"], serial)
		}
		// What needs the zone can't be said to have failed.
		first.setSpoil(spoil)
		second.setSpoil(spoil)
		a = m.must(http.StatusGatewayTimeout, "POST", "/v1/zones/example.com./rollback", `{"serial": 1}`)
		if !strings.Contains(string(a.body), "outcome-unknown") || a.json(t)["change_id"] == nil {
			t.Errorf("roll-back: %s", a.body)
		}
		first.setSpoil(nil)
		second.setSpoil(nil)
		if name == "after" {
			serial++
			got := m.must(http.StatusOK, "GET", "/v1/changes/"+a.json(t)["change_id"].(string)+"?wait=60s", "").json(t)
			if got["status"] != "applied" || got["serial"] != serial {
				t.Errorf("roll-back: %v", got)
			}
		}
	}
	// In the middle of an answer: the client must not take it for whole.
	m.must(http.StatusCreated, "PUT", "/v1/zones/long.example./file", strings.Join(zoneText("long.example.", 1, 500), ""))
	for _, peer := range []*member{first, second} {
		peer.setSpoil(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(r)
			if err == nil {
				resp.Body = cutBody{io.LimitReader(resp.Body, 9000), resp.Body}
			}
			return resp, err
		})
	}
	if a, err := m.try("GET", "/v1/zones/long.example./file", nil); err == nil {
		t.Errorf("cut, and yet %d %s", a.status, a.body)
	}
}

// cutBody breaks at its end.
type cutBody struct {
	io.Reader
	io.Closer
}

func (b cutBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		err = errWire
	}
	return n, err
}

// TestAPeerIsLostDuringAnImport: what was sent in part was not done; what was sent whole may have been.
func TestAPeerIsLostDuringAnImport(t *testing.T) {
	g := newRegion(t, func(_ *member, o *Options) { o.Limits.Body = 16 << 10 }, nil, []int32{0, 1, 2}, []int32{0, 1, 2})
	m, holder, spare := g.members[0], g.members[1], g.members[2]
	text := strings.Join(zoneText("big.example.", 1, 9000), "")
	spoil := func(read int64) func(http.RoundTripper, *http.Request) (*http.Response, error) {
		return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodHead {
				return next.RoundTrip(r)
			}
			defer r.Body.Close()
			_, err := io.Copy(io.Discard, io.LimitReader(r.Body, read))
			return nil, errors.Join(err, errWire)
		}
	}
	holder.setSpoil(spoil(64 << 10))
	if a, err := m.try("PUT", "/v1/zones/big.example./file", strings.NewReader(text)); err == nil && (a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "nothing was changed")) {
		t.Errorf("in part: %d %s", a.status, a.body)
	}
	holder.setSpoil(spoil(1 << 30))
	if a := m.must(http.StatusGatewayTimeout, "PUT", "/v1/zones/big.example./file", text); a.json(t)["change_id"] == nil {
		t.Errorf("whole: %s", a.body)
	}
	if asked := spare.takeAsked(); len(asked) > 0 {
		t.Errorf("the rest of a file was sent to another: %q", asked)
	}
	// A short file can be sent again.
	m.must(http.StatusCreated, "PUT", "/v1/zones/big.example./file", text[:8<<10][:strings.LastIndex(text[:8<<10], "\n")+1])
}

// TestAPeerIsLostWhileItsClientPauses: the client is told at once, and of what it was.
func TestAPeerIsLostWhileItsClientPauses(t *testing.T) {
	g := newRegion(t, func(_ *member, o *Options) { o.Limits.Body = 16 << 10 }, nil, []int32{0, 1, 2})
	m, holder := g.members[0], g.members[1]
	holder.setSpoil(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodHead {
			return next.RoundTrip(r)
		}
		_, err := io.CopyN(io.Discard, r.Body, 20<<10)
		go func() { // as a transport's writer goes on for a while
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}()
		return nil, errors.Join(err, errWire)
	})
	pausing, unpause := io.Pipe()
	defer unpause.Close()
	text := strings.Join(zoneText("big.example.", 1, 1000), "")
	a, err := m.try("PUT", "/v1/zones/big.example./file", io.MultiReader(strings.NewReader(text), pausing))
	if err != nil || a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "nothing was changed") {
		t.Errorf("%v: %d %s\n%s\n%s\nthe holder was asked %q", err, a.status, a.body, m.log, holder.log, holder.takeAsked())
	}
}

// TestASlowPeerIsGivenUp: one that takes the connection and says nothing.
func TestASlowPeerIsGivenUp(t *testing.T) {
	t.Parallel() // it waits most of the time
	g := newRegion(t, func(_ *member, o *Options) { o.Limits.PeerWait = time.Second }, nil, []int32{0, 1, 2}, []int32{0, 1, 2})
	m, first, second := g.members[0], g.members[1], g.members[2]
	m.makeZone("example.com.")
	first.setSpoil(func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	// The second is asked while it still has time, and may then take as long as it needs.
	second.setSpoil(func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		return next.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
	})
	for _, path := range []string{"/v1/zones/example.com.", "/v1/zones/example.com./file", "/v1/zones"} {
		m.must(http.StatusOK, "GET", path, "")
	}
	if got := string(m.must(http.StatusOK, "POST", "/v1/lookup", `{"queries": [{"zone": "example.com.", "name": "@", "type": "NS"}]}`).body); !strings.Contains(got, `"found"`) {
		t.Errorf("%s", got)
	}
}

// TestWritesWithoutTheLog: whichever way a change comes in, and whoever publishes it, its client is told that nothing was changed.
func TestWritesWithoutTheLog(t *testing.T) {
	g := newRegion(t, nil, nil, []int32{0, 1, 2})
	empty, holder := g.members[0], g.members[1]
	empty.makeZone("example.com.")
	empty.must(http.StatusOK, "PUT", "/v1/zones/example.com./rrsets/www/A", `{"ttl": 60, "records": ["192.0.2.1"]}`)
	away := func(context.Context, *zones.ChangeSet) (store.Position, error) {
		return store.Position{}, fmt.Errorf("publish: %w: no broker answers", mutationlog.ErrRefused)
	}
	for _, m := range g.members {
		m.faults.set(away, nil)
	}
	const zone = "/v1/zones/example.com."
	before := empty.state()
	nobody := func() { holder.hold(nil, nil) }
	back := func() { holder.hold([]int32{0, 1, 2}, []int32{0, 1, 2}) }
	for _, write := range [][3]string{
		{"POST", "/v1/zones", `{"name": "example.net.", "nameservers": ["ns1.test."]}`},
		{"PATCH", zone, `{"serial_policy": "unixtime"}`},
		{"DELETE", zone, ""},
		{"PUT", zone + "/file", strings.Join(zoneText("example.com.", 9, 3), "")},
		{"PUT", "/v1/zones/big.example./file", strings.Join(zoneText("big.example.", 9, 5000), "")},
		{"PUT", zone + "/rrsets", `{"rrsets": [{"owner": "a", "type": "A", "ttl": 60, "records": ["192.0.2.1"]}]}`},
		{"PUT", zone + "/rrsets/a/A", `{"ttl": 60, "records": ["192.0.2.1"]}`},
		{"DELETE", zone + "/rrsets/www/A", ""},
		{"POST", zone + "/changes", `{"operations": [{"op": "delete_name", "owner": "www"}]}`},
		{"POST", zone + "/rollback", `{"serial": 1}`},
	} {
		told := func(what string, a reply) {
			if a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "log-unavailable") || !strings.Contains(string(a.body), "nothing was changed") {
				t.Errorf("%s %s %s: %v %s", what, write[0], write[1], a.header, a.body)
			}
		}
		told("at the holder", holder.must(http.StatusServiceUnavailable, write[0], write[1], write[2]))
		told("passed on", empty.must(http.StatusServiceUnavailable, write[0], write[1], write[2]))
		nobody()
		a := empty.must(http.StatusServiceUnavailable, write[0], write[1], write[2])
		if !strings.HasSuffix(write[1], "/file") && !strings.HasSuffix(write[1], "/rollback") {
			told("with no holder", a)
		}
		back()
	}
	if after := empty.state(); after != before {
		t.Errorf("changed:\n%sto\n%s", before, after)
	}
}

// TestWaitingForOthersIsPassedOn: the names of those that lack a change come back.
func TestWaitingForOthersIsPassedOn(t *testing.T) {
	g := newRegion(t, func(_ *member, o *Options) { o.Groups = &groupsOf{} }, nil, []int32{0, 1, 2})
	empty, holder := g.members[0], g.members[1]
	empty.makeZone("example.com.")
	holder.faults.setScoped(func(ctx context.Context, at store.Position, scope replication.Scope) (store.Outcome, error) {
		outcome, err := g.node.Wait(context.WithoutCancel(ctx), at, replication.ThisNode)
		if err != nil || scope != replication.Everywhere {
			return outcome, err
		}
		<-ctx.Done()
		return outcome, &replication.MissingError{Position: at, Missing: []replication.Reach{behind}}
	})
	a := empty.must(http.StatusAccepted, "PUT", "/v1/zones/example.com./rrsets/www/A?wait=everywhere&timeout=300ms", `{"ttl": 60, "records": ["192.0.2.1"]}`)
	if got := a.json(t); got["status"] != "applied" || !strings.Contains(string(a.body), `"missing":[{"region":"far","group":"b"`) {
		t.Errorf("%s", a.body)
	}
}

// TestWhatNodesPassOn: the handler for other nodes takes what is about zones, on behalf of somebody; headers of nodes mean nothing
// when clients send them.
func TestWhatNodesPassOn(t *testing.T) {
	g := newRegion(t, nil, []int32{0, 1, 2})
	m := g.members[0]
	m.makeZone("example.com.")
	pass := func(method, path, body string, header http.Header) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header = header
		w := httptest.NewRecorder()
		m.server.Relayed().ServeHTTP(w, r)
		return w
	}
	by := func(author string) http.Header {
		return http.Header{relayedHeader: {"n9"}, authorHeader: {author}, "Content-Type": {"application/json"}}
	}
	if w := pass("PUT", "/v1/zones/example.com./rrsets/www/A", `{"ttl": 60, "records": ["192.0.2.1"]}`, by("j%C3%B6rg%0A")); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := string(m.must(http.StatusOK, "GET", "/v1/zones/example.com./history", "").body); !strings.Contains(got, `"author":"jörg\n"`) {
		t.Errorf("%s", got)
	}
	for _, header := range []http.Header{
		{},
		{relayedHeader: {"n9"}},
		{authorHeader: {"a"}},
		{relayedHeader: {"n9"}, authorHeader: {"%zz"}},
		{relayedHeader: {strings.Repeat("n", 300)}, authorHeader: {"a"}},
		{relayedHeader: {"n9"}, authorHeader: {"a"}, changeHeader: {"12"}},
		{"Authorization": {"Bearer " + secret}},
	} {
		if w := pass("GET", "/v1/zones/example.com.", "", header); w.Code != http.StatusBadRequest {
			t.Errorf("%v: %d %s", header, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/v1/node/drain", "/v1/node", "/v1/cluster", "/v1/groups", "/metrics", "/healthz"} {
		if w := pass("POST", path, "", by("a")); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	m.must(http.StatusUnauthorized, "GET", "/v1/zones", "", "Authorization: none", relayedHeader+": n9", authorHeader+": a")
	m.hold(nil, nil)
	m.must(http.StatusAccepted, "DELETE", "/v1/zones/example.com.", "", relayedHeader+": n9", authorHeader+": a", changeHeader+": "+strings.Repeat("ab", 16))
	m.hold([]int32{0, 1, 2}, nil)
	m.must(http.StatusNotFound, "GET", "/v1/changes/"+strings.Repeat("ab", 16), "")
}
