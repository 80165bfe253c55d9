package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
)

// fillPattern makes a path of a route.
func fillPattern(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.NewReplacer("{zone}", "example.com.", "{owner}", "www", "{type}", "A", "{id}", "0@0").Replace(path)
}

// TestAuthorization goes through every route with every kind of token.
func TestAuthorization(t *testing.T) {
	r := newRig(t, nil)
	r.makeZone("example.com.")
	before, published := r.state(), r.faults.published()
	tokens := map[string]bool{
		"none": false, "Bearer": false, "Bearer ": false, "Bearer wrong": false, "Bearer " + secret + "x": false,
		"Bearer " + secret[:len(secret)-1]: false, "Basic " + secret: false, secret: false, "Bearer " + secret + " " + secret: false,
		"Bearer " + secret: true, "bearer  " + secret: true,
	}
	paths := []string{"GET /v1/nothing", "GET /debug/pprof/", "PUT /healthz"}
	open := map[string]bool{}
	for route := range r.server.routes() {
		paths = append(paths, route.pattern)
		open[route.pattern] = route.open
	}
	for token, valid := range tokens {
		for _, pattern := range paths {
			method, path := fillPattern(pattern)
			if valid && method != "GET" {
				continue // the scripts do these
			}
			a := r.call(method, path, "", "Authorization: "+token)
			if got, want := a.status != http.StatusUnauthorized, valid || open[pattern]; got != want {
				t.Errorf("%s with %q: status %d", pattern, token, a.status)
			}
			if a.status == http.StatusUnauthorized && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: WWW-Authenticate %q", pattern, a.header.Get("WWW-Authenticate"))
			}
		}
	}
	if after := r.state(); after != before || r.faults.published() != published {
		t.Errorf("changed without a token:\n%sto\n%s", before, after)
	}
}

func TestHealthReadinessAndMetrics(t *testing.T) {
	reasons := []string{"partition 2 is not open"}
	r := newRig(t, func(o *Options) { o.Ready = func() (bool, []string) { return len(reasons) == 0, reasons } })
	a := r.must(http.StatusServiceUnavailable, "GET", "/readyz", "", "Authorization: none")
	if got := a.json(t); fmt.Sprint(got["reasons"]) != "[partition 2 is not open]" {
		t.Errorf("reasons: %v", got)
	}
	reasons = nil
	r.must(http.StatusOK, "GET", "/readyz", "", "Authorization: none")
	if v := r.must(http.StatusOK, "GET", "/healthz", "", "Authorization: none").json(t)["version"]; v != "test" {
		t.Errorf("version %v", v)
	}
	r.makeZone("example.com.")
	m := string(r.must(http.StatusOK, "GET", "/metrics", "", "Authorization: none").body)
	for _, want := range []string{
		`balefire_admin_requests_total{route="POST /v1/zones",status="2xx"} 1`, `balefire_admin_requests_total{route="GET /readyz",status="5xx"} 1`,
		`balefire_admin_changes_total{result="applied"} 1`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("metrics lack %s in\n%s", want, m)
		}
	}
	if strings.Contains(m, "example.com") {
		t.Error("a zone is in the metrics")
	}
	if string(r.must(http.StatusOK, "GET", "/openapi.json", "", "Authorization: none").body) != string(openAPI) {
		t.Error("not the document")
	}
}

// TestWhatTheLogSays: each way in which publishing and waiting can end.
func TestWhatTheLogSays(t *testing.T) {
	r := newRig(t, nil)
	r.makeZone("example.com.")
	before := r.state()
	put := func() reply {
		return r.call("PUT", "/v1/zones/example.com./rrsets/www/A?wait=200ms", `{"ttl": 60, "records": ["192.0.2.1"]}`)
	}
	fail := func(err error) {
		r.faults.set(func(context.Context, *zones.ChangeSet) (store.Position, error) { return store.Position{}, err }, nil)
	}

	fail(fmt.Errorf("publish: %w: no broker", mutationlog.ErrRefused))
	if a := put(); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "nothing was changed") {
		t.Errorf("refused: %d %v %s", a.status, a.header, a.body)
	}
	fail(fmt.Errorf("publish: %w", mutationlog.ErrTooLarge))
	if a := put(); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d %s", a.status, a.body)
	}
	for _, err := range []error{mutationlog.ErrUnknown, context.DeadlineExceeded, errors.New("anything else")} {
		fail(err)
		a := put()
		id, _ := a.json(t)["change_id"].(string)
		if a.status != http.StatusGatewayTimeout || len(id) != 32 || !strings.Contains(string(a.body), "/v1/changes/"+id) {
			t.Errorf("%v: %d %s", err, a.status, a.body)
		}
		// It did not come; had it, this is where it would be found.
		r.must(http.StatusNotFound, "GET", "/v1/changes/"+id+"?wait=60ms", "")
	}
	// Unknown, and in the log all the same.
	r.faults.set(func(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
		_, err := r.node.Publish(ctx, cs)
		return store.Position{}, errors.Join(err, mutationlog.ErrUnknown)
	}, nil)
	if after := r.state(); after != before {
		t.Errorf("changed:\n%sto\n%s", before, after)
	}
	a := put()
	id, _ := a.json(t)["change_id"].(string)
	if got := r.must(http.StatusOK, "GET", "/v1/changes/"+id+"?wait=60s", "").json(t); got["status"] != "applied" || got["change_id"] != id {
		t.Errorf("unknown, and applied: %v", got)
	}
	r.faults.set(nil, nil)

	// The log has lost records that the copy has: at the position that was given again, the copy has another change.
	r.faults.set(nil, func(_ context.Context, at store.Position) (store.Outcome, error) {
		return store.Outcome{Position: at, ID: zones.ChangeID{1}, Status: store.StatusApplied}, nil
	})
	if a := put(); a.status != http.StatusGatewayTimeout || strings.Contains(string(a.body), `"applied"`) {
		t.Errorf("another change's outcome: %d %s", a.status, a.body)
	}
	r.faults.set(nil, nil)

	// In the log, and not applied in time.
	r.faults.set(nil, func(ctx context.Context, _ store.Position) (store.Outcome, error) {
		<-ctx.Done()
		return store.Outcome{}, ctx.Err()
	})
	a = r.call("PUT", "/v1/zones/example.com./rrsets/slow/A?wait=20ms", `{"ttl": 60, "records": ["192.0.2.1"]}`)
	got := a.json(t)
	if a.status != http.StatusAccepted || got["status"] != "pending" || a.header.Get("Location") != fmt.Sprint("/v1/changes/", got["id"]) {
		t.Errorf("not in time: %d %v %s", a.status, a.header, a.body)
	}
	r.faults.set(nil, nil)
	if got := r.must(http.StatusOK, "GET", a.header.Get("Location")+"?wait=60s", "").json(t); got["status"] != "applied" {
		t.Errorf("later: %v", got)
	}
	// In the log, and this node has stopped.
	r.faults.set(nil, func(context.Context, store.Position) (store.Outcome, error) {
		return store.Outcome{}, fmt.Errorf("wait: %w", replication.ErrHalted)
	})
	if a := put(); a.status != http.StatusServiceUnavailable || a.json(t)["id"] == nil {
		t.Errorf("halted: %d %s", a.status, a.body)
	}
}

func TestPanicsEndTheirRequestOnly(t *testing.T) {
	r := newRig(t, nil)
	r.makeZone("example.com.")
	r.faults.set(func(context.Context, *zones.ChangeSet) (store.Position, error) { panic("for the test") }, nil)
	a := r.must(http.StatusInternalServerError, "DELETE", "/v1/zones/example.com.", "", "X-Request-Id: find-me")
	if a.json(t)["request_id"] != "find-me" || strings.Contains(string(a.body), "for the test") {
		t.Errorf("%s", a.body)
	}
	if log := r.log.String(); !strings.Contains(log, "for the test") || !strings.Contains(log, "find-me") {
		t.Errorf("log: %s", log)
	}
	r.must(http.StatusOK, "GET", "/v1/zones/example.com.", "")
}

func TestLimits(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Limits = Limits{Body: 4000, ImportBody: 3000, ImportRecords: 40, RecordsPerRRset: 3, TypesPerName: 3, Requests: 2, PageOctets: 200, Lookups: 4}
	})
	r.makeZone("example.com.")
	refused := func(status int, method, path, body, field string) {
		t.Helper()
		before := r.state()
		a := r.must(status, method, path, body)
		if field != "" && fieldOfReply(t, a) != field {
			t.Errorf("%s %s: %s, want field %s", method, path, a.body, field)
		}
		if after := r.state(); after != before {
			t.Errorf("%s %s: changed\n%sto\n%s", method, path, before, after)
		}
	}
	put := func(owner, rtype string, records ...string) string {
		return fmt.Sprintf(`{"op": "add_records", "owner": %q, "type": %q, "ttl": 60, "records": ["%s"]}`, owner, rtype, strings.Join(records, `", "`))
	}
	changes := func(ops ...string) string { return `{"operations": [` + strings.Join(ops, ", ") + `]}` }
	const url = "/v1/zones/example.com."
	refused(http.StatusUnprocessableEntity, "PUT", url+"/rrsets/a/A", `{"ttl": 1, "records": ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"]}`, "/records")
	r.must(http.StatusOK, "POST", url+"/changes", changes(put("a", "A", "192.0.2.1", "192.0.2.2")))
	refused(http.StatusUnprocessableEntity, "POST", url+"/changes", changes(put("b", "A", "192.0.2.1"), put("a", "A", "192.0.2.3", "192.0.2.4")), "/operations/1")
	r.must(http.StatusOK, "POST", url+"/changes", changes(put("a", "A", "192.0.2.2", "192.0.2.3")))
	r.must(http.StatusOK, "POST", url+"/changes", changes(put("a", "TXT", "x"), put("a", "AAAA", "::1")))
	refused(http.StatusUnprocessableEntity, "PUT", url+"/rrsets/a/MX", `{"ttl": 1, "records": ["1 a"]}`, "/")
	// One goes, one comes.
	r.must(http.StatusOK, "POST", url+"/changes", changes(`{"op": "delete_rrset", "owner": "a", "type": "TXT"}`, put("a", "MX", "1 a")))
	refused(http.StatusUnprocessableEntity, "POST", "/v1/zones", `{"name": "x.", "nameservers": ["a.", "b.", "c.", "d."]}`, "/nameservers")
	refused(http.StatusRequestEntityTooLarge, "PUT", url+"/rrsets/a/TXT", `{"ttl": 1, "records": ["`+strings.Repeat("x", 4000)+`"]}`, "")
	refused(http.StatusUnprocessableEntity, "POST", "/v1/lookup", `{"queries": [1, 2, 3, 4, 5]}`, "/queries")

	const head = "@ 60 SOA a. b. 1 1 1 1 1\n@ 60 NS a.\n"
	refused(http.StatusRequestEntityTooLarge, "PUT", url+"/file", head+strings.Repeat("; a comment\n", 300), "")
	refused(http.StatusRequestEntityTooLarge, "PUT", url+"/file", head+strings.Repeat("a 60 A 192.0.2.1\n", 40), "")
	refused(http.StatusUnprocessableEntity, "PUT", url+"/file", head+"a 60 A 192.0.2.1\na 60 A 192.0.2.2\na 60 A 192.0.2.3\na 60 A 192.0.2.4\n", "example.com.zone:6:1")
	refused(http.StatusUnprocessableEntity, "PUT", url+"/file", head+"a 60 A 192.0.2.1\na 60 TXT x\na 60 AAAA ::1\na 60 MX 1 a\n", "example.com.zone:5:1")
	r.must(http.StatusOK, "PUT", url+"/file", head+strings.Repeat("a 60 A 192.0.2.1\n", 30)+"a 60 A 192.0.2.2\na 60 A 192.0.2.3\n")

	// A page ends when it has enough octets, and goes on in the next.
	text := `"` + strings.Repeat("x", 150) + `"`
	r.must(http.StatusOK, "PUT", url+"/rrsets", fmt.Sprintf(`{"rrsets": [{"owner": "t1", "type": "TXT", "ttl": 1, "records": [%q]}, {"owner": "t2", "type": "TXT", "ttl": 1, "records": [%[1]q]}, {"owner": "t3", "type": "TXT", "ttl": 1, "records": [%[1]q]}]}`, text))
	first := r.must(http.StatusOK, "GET", url+"/rrsets", "").json(t)
	if first["next"] == nil {
		t.Errorf("one page: %v", first)
	}
	r.must(http.StatusOK, "GET", url+"/rrsets?after="+fmt.Sprint(first["next"]), "")
	if a := r.call("POST", "/v1/lookup", `{"queries": [{"zone": "example.com.", "name": "t1", "type": "TXT"}, {"zone": "example.com.", "name": "t2", "type": "TXT"}]}`); a.status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", a.status, a.body)
	}

	// Requests under way.
	hold := make(chan struct{})
	entered := make(chan struct{}, 2)
	r.faults.set(nil, func(ctx context.Context, _ store.Position) (store.Outcome, error) {
		entered <- struct{}{}
		<-hold
		return store.Outcome{}, errors.New("held")
	})
	var done sync.WaitGroup
	for range 2 {
		done.Go(func() {
			if a, err := r.try("DELETE", url+"/rrsets/a/A", nil); err != nil || a.status != http.StatusAccepted {
				t.Errorf("%v %d %s", err, a.status, a.body)
			}
		})
	}
	<-entered
	<-entered
	if a := r.call("GET", url, ""); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a third request: %d %s", a.status, a.body)
	}
	r.must(http.StatusOK, "GET", "/readyz", "")
	close(hold)
	done.Wait()
}

func fieldOfReply(t *testing.T, a reply) string {
	t.Helper()
	list, _ := a.json(t)["errors"].([]any)
	if len(list) == 0 {
		return ""
	}
	first, _ := list[0].(map[string]any)
	return fmt.Sprint(first["field"])
}

// TestSlowClients are cut, whatever they are slow with, and the server goes on.
func TestSlowClients(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Limits = Limits{
			HeaderTimeout: 100 * time.Millisecond, BodyTimeout: 200 * time.Millisecond, StallTimeout: 200 * time.Millisecond,
			IdleTimeout: 100 * time.Millisecond, Connections: 4,
		}
	})
	auth := "Authorization: Bearer " + secret + "\r\nHost: x\r\n"
	for name, text := range map[string]string{
		"nothing at all":  "",
		"half a header":   "GET /v1/zones HTTP/1.1\r\nHost: x\r\n",
		"half a body":     "POST /v1/zones HTTP/1.1\r\n" + auth + "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"name\":",
		"half a zone":     "PUT /v1/zones/slow.example./file HTTP/1.1\r\n" + auth + "Content-Type: text/dns\r\nContent-Length: 1000\r\n\r\n@ 60 NS a.\n",
		"only keep-alive": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", r.server.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("still open; got %q", answer)
			}
		})
	}
	if state := r.state(); state != "" {
		t.Errorf("zones: %s", state)
	}
	// More connections than are taken: the ones that do nothing go, and leave room.
	var idle []net.Conn
	for range 8 {
		conn, err := net.Dial("tcp", r.server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	await(t, "there is room", func() bool { // one whose header comes late is cut as well
		a, err := r.try("GET", "/healthz", strings.NewReader(""))
		return err == nil && a.status == http.StatusOK
	})
	if len(idle) != 8 {
		t.Fatal()
	}
}

// TestWaitingIsLongerThanReading: the time limit for reading a request does not end its waiting.
func TestWaitingIsLongerThanReading(t *testing.T) {
	t.Parallel() // it waits most of the time
	r := newRig(t, func(o *Options) {
		o.Limits = Limits{BodyTimeout: 5 * time.Second, StallTimeout: 5 * time.Second}
	})
	r.makeZone("example.com.")
	r.must(http.StatusOK, "PUT", "/v1/zones/example.com./rrsets/b/A", `{"ttl": 1, "records": ["192.0.2.1"]}`)
	waited := make(chan error, 3)
	r.faults.set(nil, func(ctx context.Context, at store.Position) (store.Outcome, error) {
		select {
		case <-ctx.Done():
			waited <- ctx.Err()
			return store.Outcome{}, ctx.Err()
		case <-time.After(6 * time.Second):
			waited <- nil
			return r.node.Wait(ctx, at, replication.ThisNode)
		}
	})
	var writes sync.WaitGroup
	for _, write := range []struct {
		status             int
		method, path, body string
	}{
		{http.StatusOK, "PUT", "/v1/zones/example.com./rrsets/a/A", `{"ttl": 1, "records": ["192.0.2.1"]}`},
		{http.StatusOK, "DELETE", "/v1/zones/example.com./rrsets/b/A", ""},
		{http.StatusCreated, "PUT", "/v1/zones/example.net./file", "@ 1 SOA a. b. 1 1 1 1 1\n@ 1 NS a.\n"},
	} {
		writes.Go(func() {
			a, err := r.try(write.method, write.path, strings.NewReader(write.body))
			if err == nil {
				err = theDocument.check(write.method, write.path, write.body, a)
			}
			if err != nil || a.status != write.status {
				t.Errorf("%s %s: %d, want %d: %s %v", write.method, write.path, a.status, write.status, a.body, err)
			}
		})
	}
	writes.Wait()
	if len(waited) != 3 {
		t.Fatalf("%d of 3 have waited", len(waited))
	}
	for range 3 {
		if err := <-waited; err != nil {
			t.Errorf("the wait was cut: %v", err)
		}
	}
}

// TestShutdownWaitsForRequests: what is under way is answered.
func TestShutdownWaitsForRequests(t *testing.T) {
	r := newRig(t, nil)
	r.makeZone("example.com.")
	entered, hold := make(chan struct{}), make(chan struct{})
	r.faults.set(nil, func(ctx context.Context, at store.Position) (store.Outcome, error) {
		close(entered)
		<-hold
		return r.node.Wait(ctx, at, replication.ThisNode)
	})
	answered := make(chan reply, 1)
	go func() {
		a, err := r.try("DELETE", "/v1/zones/example.com.", nil)
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- r.server.Shutdown(context.Background()) }()
	await(t, "no more connections are taken", func() bool {
		conn, err := net.Dial("tcp", r.server.Addr().String())
		if err != nil {
			return true
		}
		conn.Close()
		return false
	})
	close(hold)
	if a := <-answered; a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestToken(t *testing.T) {
	dir := t.TempDir()
	first, path, err := LoadOrCreateToken(dir, "")
	if err != nil || path != filepath.Join(dir, "admin.token") || len(first) < 32 {
		t.Fatalf("%q %q %v", first, path, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again, made, err := LoadOrCreateToken(dir, ""); err != nil || again != first || made != "" {
		t.Errorf("again: %q %q %v", again, made, err)
	}
	if given, made, err := LoadOrCreateToken(dir, "from the environment"); err != nil || given != "from the environment" || made != "" {
		t.Errorf("given: %q %q %v", given, made, err)
	}
	if other, _, err := LoadOrCreateToken(t.TempDir(), ""); err != nil || other == first {
		t.Errorf("another directory: %q %v", other, err)
	}
	if _, _, err := LoadOrCreateToken(dir, "short"); err == nil {
		t.Error("a short token was taken")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrCreateToken(dir, ""); err == nil {
		t.Error("a token that others can read was taken")
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte(" \n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadOrCreateToken(dir, ""); err == nil {
		t.Error("an empty token was taken")
	}
	if _, _, err := LoadOrCreateToken(filepath.Join(dir, "absent"), ""); err == nil {
		t.Error("made a token in a directory that is not there")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	var none sync.Map
	var starts sync.WaitGroup
	shared := t.TempDir()
	for range 8 {
		starts.Go(func() {
			s, _, err := LoadOrCreateToken(shared, "")
			if err != nil {
				t.Error(err)
			}
			none.Store(s, true)
		})
	}
	starts.Wait()
	count := 0
	none.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d starts at once made %d tokens", 8, count)
	}
}

// TestPagesAreStable: what is there all the time is on exactly one page, whatever comes and goes meanwhile.
func TestPagesAreStable(t *testing.T) {
	r := newRig(t, nil)
	r.makeZone("example.com.")
	var sets []string
	for i := range 60 {
		sets = append(sets, fmt.Sprintf(`{"owner": "stay%02d", "type": "A", "ttl": 1, "records": ["192.0.2.1"]}`, i),
			fmt.Sprintf(`{"owner": "stay%02d", "type": "TXT", "ttl": 1, "records": ["x"]}`, i))
	}
	r.must(http.StatusOK, "PUT", "/v1/zones/example.com./rrsets", `{"rrsets": [`+strings.Join(sets, ",")+`]}`)
	for i := range 30 {
		r.makeZone(fmt.Sprintf("stay%02d.example.", i))
	}
	seen := map[string]int{}
	next := ""
	for page := 0; page == 0 || next != ""; page++ {
		path := "/v1/zones/example.com./rrsets?limit=7"
		if page > 0 {
			path += "&after=" + next
		}
		got := r.must(http.StatusOK, "GET", path, "").json(t)
		for _, item := range got["rrsets"].([]any) {
			set := item.(map[string]any)
			seen[fmt.Sprint(set["owner"], set["type"])]++
		}
		next, _ = got["next"].(string)
		// Before, at and after where the page ended.
		owner, _, _ := strings.Cut(next, ".")
		if owner == "" || owner == "example" {
			continue
		}
		r.must(http.StatusOK, "PUT", "/v1/zones/example.com./rrsets", fmt.Sprintf(`{"rrsets": [{"owner": "a%d", "type": "A", "ttl": 1, "records": ["192.0.2.1"]}, {"owner": "%s", "type": "AAAA", "ttl": 1, "records": ["::1"]}, {"owner": "%sx", "type": "A", "ttl": 1, "records": ["192.0.2.1"]}]}`, page, owner, owner))
		r.must(http.StatusOK, "DELETE", fmt.Sprintf("/v1/zones/example.com./rrsets/%sx/A", owner), "")
	}
	for i := range 60 {
		for _, rtype := range []string{"A", "TXT"} {
			if n := seen[fmt.Sprintf("stay%02d.example.com.%s", i, rtype)]; n != 1 {
				t.Errorf("stay%02d %s was seen %d times", i, rtype, n)
			}
		}
	}
	clear(seen)
	for page := 0; page == 0 || next != ""; page++ {
		path := "/v1/zones?limit=4"
		if page > 0 {
			path += "&after=" + next
		}
		got := r.must(http.StatusOK, "GET", path, "").json(t)
		for _, item := range got["zones"].([]any) {
			seen[fmt.Sprint(item.(map[string]any)["name"])]++
		}
		last := next
		if next, _ = got["next"].(string); next != "" && page < 6 {
			r.makeZone("x" + next)
			if strings.HasPrefix(last, "x") {
				r.must(http.StatusOK, "DELETE", "/v1/zones/"+last, "")
			}
		}
	}
	for i := range 30 {
		if n := seen[fmt.Sprintf("stay%02d.example.", i)]; n != 1 {
			t.Errorf("zone stay%02d was seen %d times", i, n)
		}
	}
}

// TestAbsenceIsProven: without the partition nobody knows whether a zone is there, and nobody says that it isn't.
func TestAbsenceIsProven(t *testing.T) {
	r := newRig(t, nil)
	r.faults.mu.Lock()
	r.faults.lost = true
	r.faults.mu.Unlock()
	before := r.faults.published()
	for _, c := range [][3]string{
		{"GET", "/v1/zones/example.com.", ""},
		{"GET", "/v1/zones/example.com./file", ""},
		{"GET", "/v1/zones/example.com./rrsets", ""},
		{"GET", "/v1/zones/example.com./rrsets/www/A", ""},
		{"GET", "/v1/zones/example.com./history", ""},
		{"PUT", "/v1/zones/example.com./file", "@ 1 SOA a. b. 1 1 1 1 1\n@ 1 NS a.\n"},
		{"PUT", "/v1/zones/example.com./rrsets/www/A", `{"ttl": 1, "records": ["192.0.2.1"]}`},
		{"POST", "/v1/zones/example.com./rollback", `{"serial": 1}`},
	} {
		if a := r.call(c[0], c[1], c[2]); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("%s %s: %d %s", c[0], c[1], a.status, a.body)
		}
	}
	got := string(r.must(http.StatusOK, "POST", "/v1/lookup", `{"queries": [{"zone": "example.com.", "name": "www", "type": "A"}]}`).body)
	if !strings.Contains(got, `"unavailable"`) {
		t.Errorf("look-up: %s", got)
	}
	if r.faults.published() != before {
		t.Error("something was published")
	}
	if a, err := r.try("HEAD", "/healthz", nil); err != nil || a.status != http.StatusOK {
		t.Errorf("HEAD: %d %v", a.status, err)
	}
}
