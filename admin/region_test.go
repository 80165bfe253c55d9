package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
)

// region is some servers that hold different partitions of one namespace, and reach each other as nodes do. All of them read one
// store, each only its own part.
type region struct {
	t       *testing.T
	node    *replication.Node
	members []*member
}

// member is one server of a region.
type member struct {
	*rig
	id     string
	region *region
	relay  *httptest.Server // what the others reach

	mu    sync.Mutex
	held  map[int32]bool
	duty  map[int32]string                                               // who it believes is on duty; "": itself
	said  map[int32]bool                                                 // what the others believe that it holds
	spoil func(http.RoundTripper, *http.Request) (*http.Response, error) // of what the others send it; nil: nothing
	asked []string                                                       // what the others have sent it
}

// newRegion starts a server for each list of partitions.
func newRegion(t *testing.T, adapt func(*member, *Options), parts ...[]int32) *region {
	t.Helper()
	g := &region{t: t, node: startNode(t)}
	for i, part := range parts {
		m := &member{id: fmt.Sprintf("n%d", i), region: g, held: map[int32]bool{}, said: map[int32]bool{}, duty: map[int32]string{}}
		for _, p := range part {
			m.held[p], m.said[p] = true, true
		}
		m.rig = newRigOver(t, g.node, func(o *Options) {
			o.Node, o.Peers, o.Reader = m.id, m, partReader{g.node.Store(), m}
			if adapt != nil {
				adapt(m, o)
			}
		})
		m.faults.mu.Lock()
		m.faults.Publisher = partPublisher{g.node, m}
		m.faults.mu.Unlock()
		m.relay = httptest.NewServer(m.server.Relayed())
		t.Cleanup(m.relay.Close)
		g.members = append(g.members, m)
	}
	return g
}

// partition is the one of a zone.
func (g *region) partition(zone string) int32 {
	g.t.Helper()
	p, ok := g.node.PartitionOf(zones.MustParseName(zone))
	if !ok {
		g.t.Fatal("the number of partitions is not known")
	}
	return p
}

// zoneIn returns the name of the nth zone that falls in a partition.
func (g *region) zoneIn(partition int32, n int) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("z%d.example.", i)
		if g.partition(name) == partition {
			if n == 0 {
				return name
			}
			n--
		}
	}
}

func (m *member) Partitions() int32 { return 3 }

func (m *member) Holds(p int32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[p]
}

func (m *member) Duty(p int32) (Peer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Peer{ID: m.duty[p]}, m.duty[p] != ""
}

func (m *member) Holders(p int32) (holders []Peer) {
	for _, other := range m.region.members {
		if other == m {
			continue
		}
		other.mu.Lock()
		if other.said[p] {
			holders = append(holders, Peer{ID: other.id})
		}
		other.mu.Unlock()
	}
	return holders
}

func (m *member) Transport(peer Peer) http.RoundTripper {
	i := slices.IndexFunc(m.region.members, func(other *member) bool { return other.id == peer.ID })
	return wire{m.region.members[i]}
}

// hold sets what it holds, and what others believe.
func (m *member) hold(held, said []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.held)
	clear(m.said)
	for _, p := range held {
		m.held[p] = true
	}
	for _, p := range said {
		m.said[p] = true
	}
}

// setSpoil lets a test spoil what others send to it.
func (m *member) setSpoil(spoil func(http.RoundTripper, *http.Request) (*http.Response, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.spoil = spoil
}

// takeAsked returns what the others have sent to it since it was called last.
func (m *member) takeAsked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked = nil
	return asked
}

// wire carries requests to a member.
type wire struct{ to *member }

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.to.mu.Lock()
	w.to.asked = append(w.to.asked, r.Method+" "+r.URL.Path)
	spoil := w.to.spoil
	w.to.mu.Unlock()
	next := w.to.relay.Client().Transport.(*http.Transport).Clone()
	next.DisableKeepAlives = true
	next.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, w.to.relay.Listener.Addr().String())
	}
	// What nodes use wants https, which it makes sure of by itself.
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("scheme %q", r.URL.Scheme)
	}
	r = r.Clone(r.Context())
	r.URL.Scheme = "http"
	if spoil != nil {
		return spoil(next, r)
	}
	return next.RoundTrip(r)
}

// partReader reads only the partitions that a member holds.
type partReader struct {
	*store.Store
	m *member
}

func (p partReader) here(apex zones.Name) error {
	if n, ok := p.m.region.node.PartitionOf(apex); !ok || !p.m.Holds(n) {
		return store.ErrNotOpen
	}
	return nil
}

func (p partReader) ZonesIn(partitions []int32, prefix string, after zones.Name, limit int) (store.ZonePage, error) {
	for _, n := range partitions {
		if !p.m.Holds(n) {
			return store.ZonePage{}, store.ErrNotOpen
		}
	}
	return p.Store.ZonesIn(partitions, prefix, after, limit)
}

func (p partReader) Read(apex zones.Name) (*store.Reading, error) {
	if err := p.here(apex); err != nil {
		return nil, err
	}
	return p.Store.Read(apex)
}

func (p partReader) History(apex zones.Name, before int64, limit int) ([]store.HistoryEntry, error) {
	if err := p.here(apex); err != nil {
		return nil, err
	}
	return p.Store.History(apex, before, limit)
}

func (p partReader) HistoryAt(position store.Position) (zones.Name, store.HistoryEntry, error) {
	if !p.m.Holds(position.Partition) {
		return "", store.HistoryEntry{}, store.ErrNotOpen
	}
	return p.Store.HistoryAt(position)
}

func (p partReader) Rollback(apex zones.Name, to zones.Serial) ([]zones.Op, zones.Serial, error) {
	if err := p.here(apex); err != nil {
		return nil, 0, err
	}
	return p.Store.Rollback(apex, to)
}

func (p partReader) Partition(n int32) *store.Partition {
	if !p.m.Holds(n) {
		return nil
	}
	return p.Store.Partition(n)
}

func (p partReader) Partitions() []*store.Partition {
	return slices.DeleteFunc(slices.Clone(p.Store.Partitions()), func(q *store.Partition) bool { return !p.m.Holds(q.Number()) })
}

// partPublisher publishes to all partitions, and sees what becomes of it only in those that a member holds.
type partPublisher struct {
	*replication.Node
	m *member
}

func (p partPublisher) Wait(ctx context.Context, at store.Position, scope replication.Scope) (store.Outcome, error) {
	if !p.m.Holds(at.Partition) {
		return store.Outcome{}, fmt.Errorf("wait for %s: %w", at, replication.ErrNotOpen)
	}
	return p.Node.Wait(ctx, at, scope)
}

var errWire = errors.New("the connection broke")
