package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

const secret = "a secret of some length"

// rig is a server before a real node with the embedded log.
type rig struct {
	t      *testing.T
	node   *replication.Node
	faults *faults
	server *Server
	base   string
	client *http.Client
	log    *syncBuffer
}

// faults stands between the server and the node, and lets a test spoil what goes through.
type faults struct {
	Publisher
	mu      sync.Mutex
	publish func(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) // nil: the node's
	wait    func(ctx context.Context, at store.Position) (store.Outcome, error)    // nil: the node's
	scoped  func(ctx context.Context, at store.Position, scope replication.Scope) (store.Outcome, error)
	lost    bool // the zone's partition is not here
	count   int  // published
}

func (f *faults) set(publish func(context.Context, *zones.ChangeSet) (store.Position, error), wait func(context.Context, store.Position) (store.Outcome, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.publish, f.wait = publish, wait
}

// setScoped spoils Wait, whatever it waits for; nil lets it be.
func (f *faults) setScoped(wait func(context.Context, store.Position, replication.Scope) (store.Outcome, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.scoped = wait
}

func (f *faults) published() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

func (f *faults) Publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
	f.mu.Lock()
	publish := f.publish
	f.count++
	f.mu.Unlock()
	if publish != nil {
		return publish(ctx, cs)
	}
	return f.Publisher.Publish(ctx, cs)
}

func (f *faults) PartitionOf(apex zones.Name) (int32, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost {
		return 99, true
	}
	return f.Publisher.PartitionOf(apex)
}

func (f *faults) Wait(ctx context.Context, at store.Position, scope replication.Scope) (store.Outcome, error) {
	f.mu.Lock()
	wait, scoped := f.wait, f.scoped
	f.mu.Unlock()
	if scoped != nil {
		return scoped(ctx, at, scope)
	}
	if wait != nil {
		return wait(ctx, at)
	}
	return f.Publisher.Wait(ctx, at, scope)
}

// syncBuffer is a log that tests can read.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newRig(t *testing.T, adapt func(*Options)) *rig {
	t.Helper()
	return newRigOver(t, startNode(t), adapt)
}

// startNode starts a node with the embedded log, and waits until it is ready.
func startNode(t *testing.T) *replication.Node {
	t.Helper()
	dir := t.TempDir()
	opts := replication.Options{Dir: dir, Store: storetest.Options(t, dir), Logger: zerolog.Nop()}
	opts.Log = mutationlog.Options{Namespace: "test", Partitions: 3}
	opts.Store.Logger = zerolog.Nop()
	node, err := replication.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	// Ready speaks of the partitions that were taken so far; a test may be about any.
	await(t, "the node is ready", func() bool { ready, _ := node.Ready(); return ready && node.HoldsAll() })
	return node
}

// await waits until something holds that nothing tells of.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(2 * time.Minute)
	defer late.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// newRigOver is newRig before a node that there is already.
func newRigOver(t *testing.T, node *replication.Node, adapt func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, node: node, faults: &faults{Publisher: node}, client: &http.Client{}, log: &syncBuffer{}}
	o := Options{
		Listen: "127.0.0.1:0", Reader: node.Store(), Publisher: r.faults, Ready: node.Ready,
		Token: NewToken("tester", secret), TempDir: t.TempDir(), Version: "test",
		Logger: zerolog.New(r.log).Level(zerolog.DebugLevel),
	}
	if adapt != nil {
		adapt(&o)
	}
	// No test is about the defaults of these, and a machine with much to do can be slower.
	orDefault(&o.Limits.Wait, time.Minute)
	orDefault(&o.Limits.PublishTimeout, time.Minute)
	orDefault(&o.Limits.PeerWait, time.Minute)
	var err error
	if r.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err := r.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := r.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if strings.Contains(r.log.String(), secret) {
			t.Error("the token is in the log")
		}
	})
	r.base = "http://" + r.server.Addr().String()
	return r
}

// reply is an answer, whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (a reply) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// call makes a request with the token, and holds it and its answer against openapi.json. headers are "Name: value";
// "Authorization: none" leaves the token out.
func (r *rig) call(method, path, body string, headers ...string) reply {
	r.t.Helper()
	a, err := r.try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	if err := theDocument.check(method, path, body, a); err != nil {
		r.t.Errorf("%s %s: %d %s\nagainst openapi.json: %v", method, path, a.status, a.body, err)
	}
	return a
}

func (r *rig) try(method, path string, body io.Reader, headers ...string) (reply, error) {
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, body)
	if err != nil {
		return reply{}, err
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	if s, ok := body.(*strings.Reader); ok && s.Len() > 0 {
		first, _ := s.ReadByte()
		_ = s.UnreadByte()
		req.Header.Set("Content-Type", "text/dns")
		if first == '{' {
			req.Header.Set("Content-Type", "application/json")
		}
	} else if !ok {
		req.Header.Set("Content-Type", "text/dns")
	}
	for _, h := range headers {
		name, v, _ := strings.Cut(h, ": ")
		req.Header.Set(name, v)
		if h == "Authorization: none" {
			req.Header.Del("Authorization")
		}
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, content}, err
}

// must demands a status.
func (r *rig) must(status int, method, path, body string, headers ...string) reply {
	r.t.Helper()
	a := r.call(method, path, body, headers...)
	if a.status != status {
		r.t.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

// state is all zones and what is in them, by digest.
func (r *rig) state() string {
	r.t.Helper()
	page, err := r.node.Store().Zones("", "", 1000)
	if err != nil {
		r.t.Fatal(err)
	}
	var b strings.Builder
	for _, z := range page.Zones {
		fmt.Fprintf(&b, "%s %d %s %s\n", z.Apex, z.Serial, z.Settings.SerialPolicy, z.Digest)
	}
	return b.String()
}

// makeZone creates a zone with two name servers.
func (r *rig) makeZone(name string) {
	r.t.Helper()
	r.must(http.StatusCreated, "POST", "/v1/zones", `{"name": "`+name+`", "nameservers": ["ns1.test.", "ns2.test."]}`)
}
