// Package admin is all that speaks HTTP: the API by which zones are read and changed, described in
// openapi.json, and health and metrics. It parses and checks what comes, turns it into change sets, publishes
// them, and says what became of them. It does not know how changes travel, or how zones are stored.
//
// What holds:
//   - Nothing but /healthz, /readyz, /metrics and /openapi.json is answered without a token, and tokens are never logged.
//   - A change is refused at the door for what is wrong with it by itself, naming the field; what depends on the zone
//     is decided where it is applied, and its outcome is the answer.
//   - What is about a partition that this node does not hold is answered by a node that does, one hop away; a change that is sent
//     to two of them is made once.
//   - A write that may or may not have happened says so, and which id to ask for.
//   - Every body, page, wait and the number of requests under way are bounded.
package admin

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
)

// Publisher is how changes get into the log. *replication.Node satisfies it.
type Publisher interface {
	// Publish appends a change set to the log. An error marked mutationlog.ErrRefused, or a *zones.Rejection,
	// means that it certainly isn't there; any other, that it may be.
	Publish(ctx context.Context, cs *zones.ChangeSet) (store.Position, error)
	// Wait waits until the record at a position is applied or rejected, on all that the scope names. When ctx ends
	// before all have it, a *replication.MissingError comes with the outcome of this node, if it is there.
	Wait(ctx context.Context, position store.Position, scope replication.Scope) (store.Outcome, error)
	// PartitionOf returns the partition of a zone; ok is false while the log is not known.
	PartitionOf(apex zones.Name) (partition int32, ok bool)
}

// Reader is what is read of the node's zones. *store.Store satisfies it.
type Reader interface {
	ZonesIn(partitions []int32, prefix string, after zones.Name, limit int) (store.ZonePage, error)
	Read(apex zones.Name) (*store.Reading, error)
	History(apex zones.Name, before int64, limit int) ([]store.HistoryEntry, error)
	HistoryAt(position store.Position) (zones.Name, store.HistoryEntry, error)
	Rollback(apex zones.Name, to zones.Serial) (ops []zones.Op, current zones.Serial, err error)
	Partition(number int32) *store.Partition
	Partitions() []*store.Partition
}

var (
	_ Publisher = (*replication.Node)(nil)
	_ Reader    = (*store.Store)(nil)
)

// Options of a Server. Listen, Reader, Publisher and Token are needed.
type Options struct {
	// Listen is HOST:PORT. Port 0 takes a free one.
	Listen    string
	Reader    Reader
	Publisher Publisher
	// Ready says whether the node can be sent queries, and why not. Nil: always ready.
	Ready func() (ready bool, reasons []string)
	// Troubles are what people should know of and put right, whether the node is ready or not. Nil: there are none.
	Troubles func() []string
	// Draining is set while the node is drained: it answers, but is not ready. Nil: the server's own.
	Draining *atomic.Bool
	// Leave takes the node out of its replica group for good. Nil: it is in none.
	Leave func(context.Context) error
	// Node is the node's name.
	Node string
	// Peers are the other nodes of the region, which hold what this one does not. Nil: it is by itself. Node is needed with them.
	Peers Peers
	// Backups makes backups of this node's partitions. Nil: there are none.
	Backups Backups
	// Status is what is known of the cluster. Nil: nothing.
	Status func(context.Context) (replication.ClusterStatus, error)
	// Groups is what is known of replica groups. Nil: nothing, and no change can be waited for but on this node.
	Groups Groups
	// Freezer makes the namespace refuse changes. Nil: it can't be told to.
	Freezer Freezer
	// CheckRemote says why a server may not be one that zones come from, or that is told of changes. Nil: any may be.
	CheckRemote func(zones.Remote) error
	// Keyring is the namespace's TSIG keys and ACLs. Nil: there are none.
	Keyring Keyring
	// Transfers is what is known of zones among other servers. Nil: nothing.
	Transfers Transfers
	// Catalogs is what is known of catalog zones. Nil: nothing.
	Catalogs Catalogs
	// LogEnd returns the offset after the last record of a partition; an error means that it is not known now. Nil: never known.
	LogEnd func(ctx context.Context, partition int32) (int64, error)
	// Registry is what /metrics shows; the server's own metrics are registered in it. Nil: a new one.
	Registry *prometheus.Registry
	Token    Token
	Limits   Limits
	// TempDir is where imports that outgrow their memory are sorted. Default: os.TempDir().
	TempDir string
	// Version is the program's, shown in /healthz.
	Version string
	// Logger is used at edges, and per request at debug level only.
	Logger zerolog.Logger
}

// Server serves the API. Its methods may be used by many goroutines at once.
type Server struct {
	opts    Options
	log     zerolog.Logger
	mux     *http.ServeMux // of clients
	passed  *http.ServeMux // of other nodes
	metrics *metrics
	http    *http.Server
	slots   chan struct{} // requests under way
	imports importSlots

	mu       sync.Mutex // guards what follows
	listener net.Listener
	serving  chan struct{} // closed when serving has ended
	failure  error         // why, when not by Shutdown
}

// New makes a server, which does not listen yet.
func New(opts Options) (*Server, error) {
	if opts.Reader == nil || opts.Publisher == nil {
		return nil, errors.New("admin: Reader and Publisher are needed")
	}
	if opts.Token.isZero() {
		return nil, errors.New("admin: a token is needed")
	}
	if opts.Peers != nil && opts.Node == "" {
		return nil, errors.New("admin: Peers need to be told who passes requests on: Node")
	}
	opts.Limits.setDefaults()
	if opts.TempDir == "" {
		opts.TempDir = os.TempDir()
	}
	if opts.Registry == nil {
		opts.Registry = prometheus.NewRegistry()
	}
	if opts.Ready == nil {
		opts.Ready = func() (bool, []string) { return true, nil }
	}
	if opts.Troubles == nil {
		opts.Troubles = func() []string { return nil }
	}
	if opts.Draining == nil {
		opts.Draining = new(atomic.Bool)
	}
	s := &Server{
		opts: opts, log: opts.Logger, mux: http.NewServeMux(), passed: http.NewServeMux(), metrics: newMetrics(),
		slots:   make(chan struct{}, opts.Limits.Requests),
		imports: newImportSlots(opts.Limits.Imports),
	}
	if err := opts.Registry.Register(s.metrics); err != nil {
		return nil, fmt.Errorf("metrics of the API: %w", err)
	}
	for r := range s.routes() {
		s.mux.Handle(r.pattern, s.enter(r, s.authorize))
		if r.subject != ofNode {
			s.passed.Handle(r.pattern, s.enter(r, identify))
		}
	}
	l := &opts.Limits
	s.http = &http.Server{
		Handler:           s.door(s.mux, s.authorize),
		ReadHeaderTimeout: l.HeaderTimeout,
		ReadTimeout:       l.BodyTimeout,
		WriteTimeout:      l.answerTimeout(),
		IdleTimeout:       l.IdleTimeout,
		MaxHeaderBytes:    32 << 10,
		// net/http tells of broken connections here, which anyone can make.
		ErrorLog: log.New(debugWriter{s.log}, "", 0),
	}
	return s, nil
}

// Start listens, and serves until Shutdown. The error says that the address can't be had.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return errors.New("admin: started already")
	}
	ln, err := net.Listen("tcp", s.opts.Listen)
	if err != nil {
		return fmt.Errorf("listen for HTTP on %s: %w", s.opts.Listen, err)
	}
	s.listener, s.serving = ln, make(chan struct{})
	go func() {
		defer close(s.serving)
		err := s.http.Serve(netutil.LimitListener(ln, s.opts.Limits.Connections))
		if !errors.Is(err, http.ErrServerClosed) {
			s.log.Error().Err(err).Msg("serving HTTP ended")
			s.mu.Lock()
			s.failure = err
			s.mu.Unlock()
		}
	}()
	return nil
}

// Addr returns the address that the server listens on; nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Shutdown takes no new requests, waits for those under way until ctx ends, and then cuts them. It returns what
// ended serving before, if anything did.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	s.mu.Lock()
	serving := s.serving
	s.mu.Unlock()
	if serving != nil {
		<-serving
	}
	s.opts.Registry.Unregister(s.metrics)
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.failure)
}

// route is one row of the API: every one is in openapi.json, and the other way round.
type route struct {
	pattern string // as http.ServeMux takes it
	open    bool   // without a token
	subject subject
	serve   func(w http.ResponseWriter, r *http.Request) error
}

func (s *Server) routes() iter.Seq[route] {
	return func(yield func(route) bool) {
		for _, r := range []route{
			{"GET /healthz", true, ofNode, s.getHealth},
			{"GET /readyz", true, ofNode, s.getReady},
			{"GET /metrics", true, ofNode, s.getMetrics},
			{"GET /openapi.json", true, ofNode, s.getOpenAPI},

			{"GET /v1/zones", false, ofRegion, s.getZones},
			{"POST /v1/zones", false, ofBody, s.postZones},
			{"GET /v1/zones/{zone}", false, ofZone, s.getZone},
			{"PATCH /v1/zones/{zone}", false, ofZone, s.patchZone},
			{"DELETE /v1/zones/{zone}", false, ofZone, s.deleteZone},
			{"GET /v1/zones/{zone}/file", false, ofZone, s.getFile},
			{"PUT /v1/zones/{zone}/file", false, ofFile, s.putFile},
			{"GET /v1/zones/{zone}/rrsets", false, ofZone, s.getRRsets},
			{"PUT /v1/zones/{zone}/rrsets", false, ofZone, s.putRRsets},
			{"GET /v1/zones/{zone}/rrsets/{owner}/{type}", false, ofZone, s.getRRset},
			{"PUT /v1/zones/{zone}/rrsets/{owner}/{type}", false, ofZone, s.putRRset},
			{"DELETE /v1/zones/{zone}/rrsets/{owner}/{type}", false, ofZone, s.deleteRRset},
			{"POST /v1/zones/{zone}/changes", false, ofZone, s.postChanges},
			{"GET /v1/zones/{zone}/history", false, ofZone, s.getHistory},
			{"POST /v1/zones/{zone}/rollback", false, ofZone, s.postRollback},
			{"GET /v1/zones/{zone}/transfers", false, ofDuty, s.getTransfers},
			{"POST /v1/zones/{zone}/refresh", false, ofDuty, s.postRefresh},
			{"POST /v1/zones/{zone}/retransfer", false, ofDuty, s.postRetransfer},
			{"GET /v1/catalogs", false, ofRegion, s.getCatalogs},
			{"POST /v1/catalogs", false, ofBody, s.postCatalogs},
			{"GET /v1/catalogs/{zone}", false, ofZone, s.getCatalog},
			{"PATCH /v1/catalogs/{zone}", false, ofZone, s.patchCatalog},
			{"DELETE /v1/catalogs/{zone}", false, ofZone, s.deleteCatalog},
			{"GET /v1/changes/{id}", false, ofRegion, s.getChange},
			{"POST /v1/imports", false, ofRegion, s.postImports},
			{"POST /v1/lookup", false, ofRegion, s.postLookup},
			{"POST /v1/backups", false, ofRegion, s.postBackups},

			{"GET /v1/cluster", false, ofNode, s.getCluster},
			{"GET /v1/groups", false, ofNode, s.getGroups},
			{"DELETE /v1/groups/{region}/{group}", false, ofNode, s.deleteGroup},
			{"GET /v1/node", false, ofNode, s.getNode},
			{"POST /v1/node/drain", false, ofNode, s.postDrain},
			{"DELETE /v1/node/drain", false, ofNode, s.deleteDrain},
			{"POST /v1/namespace/freeze", false, ofNode, s.postFreeze},
			{"DELETE /v1/namespace/freeze", false, ofNode, s.deleteFreeze},

			{"GET /v1/tsig-keys", false, ofNode, s.getKeys},
			{"POST /v1/tsig-keys", false, ofNode, s.postKeys},
			{"GET /v1/tsig-keys/{key}", false, ofNode, s.getKey},
			{"DELETE /v1/tsig-keys/{key}", false, ofNode, s.deleteKey},
			{"GET /v1/acls", false, ofNode, s.getACLs},
			{"GET /v1/acls/{acl}", false, ofNode, s.getACL},
			{"PUT /v1/acls/{acl}", false, ofNode, s.putACL},
			{"DELETE /v1/acls/{acl}", false, ofNode, s.deleteACL},
		} {
			if !yield(r) {
				return
			}
		}
	}
}

// debugWriter is where net/http's own messages go.
type debugWriter struct{ log zerolog.Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.log.Debug().Bytes("message", p).Msg("HTTP")
	return len(p), nil
}

// Limits bound what clients can ask for. Zero fields take their defaults.
type Limits struct {
	Connections int // at once; 1,024
	Requests    int // under way at once; 512
	Imports     int // under way at once; 4. Others wait for ImportQueue, 1 minute
	ImportQueue time.Duration
	BulkZones   int // zones of one bulk import, all of them under way at once; 1,000

	Body          int64 // octets of a JSON body; 2 MiB
	ImportBody    int64 // octets of a zone file; 8 GiB
	ImportRecords int64 // records of a zone file; 100 million
	SortMemory    int   // octets of records that an import keeps in memory; 8 MiB

	RecordsPerRRset int // that may be written; 100
	TypesPerName    int // that may be written; 100
	Page            int // entries of a page; 1,000
	PageOctets      int // of RRsets in a page or a look-up, after which it ends; 4 MiB
	Lookups         int // questions of one look-up; 1,000

	Wait    time.Duration // until a change is applied, when the client says nothing; 10 s
	MaxWait time.Duration // when it does; 60 s
	// PublishTimeout is how long the log may take to acknowledge; 15 s.
	PublishTimeout time.Duration
	HeaderTimeout  time.Duration // to read a request's header; 5 s
	BodyTimeout    time.Duration // to read all of it, but for zone files; 30 s
	IdleTimeout    time.Duration // of a connection between requests; 60 s
	// StallTimeout is how long a zone file may stay behind MinRate, in either direction; 30 s.
	StallTimeout time.Duration
	MinRate      int64 // octets a second of a zone file; 16 KiB

	// PeerWait is how long another node may take until it begins to answer, where it has only to read; 10 s.
	PeerWait time.Duration
	// LongWait is how long backups may take, and another node with an import; 1 hour.
	LongWait time.Duration

	// KeepKeys is for how long an Idempotency-Key is remembered; 24 hours.
	KeepKeys time.Duration
}

func (l *Limits) setDefaults() {
	orDefault(&l.Connections, 1024)
	orDefault(&l.Requests, 512)
	orDefault(&l.Imports, 4)
	orDefault(&l.ImportQueue, time.Minute)
	orDefault(&l.BulkZones, 1000)
	orDefault(&l.Body, 2<<20)
	orDefault(&l.ImportBody, 8<<30)
	orDefault(&l.ImportRecords, 100_000_000)
	orDefault(&l.SortMemory, 8<<20)
	orDefault(&l.RecordsPerRRset, 100)
	orDefault(&l.TypesPerName, 100)
	orDefault(&l.Page, 1000)
	orDefault(&l.PageOctets, 4<<20)
	orDefault(&l.Lookups, 1000)
	orDefault(&l.Wait, 10*time.Second)
	orDefault(&l.MaxWait, time.Minute)
	orDefault(&l.PublishTimeout, 15*time.Second)
	orDefault(&l.HeaderTimeout, 5*time.Second)
	orDefault(&l.BodyTimeout, 30*time.Second)
	orDefault(&l.IdleTimeout, time.Minute)
	orDefault(&l.StallTimeout, 30*time.Second)
	orDefault(&l.MinRate, 16<<10)
	orDefault(&l.PeerWait, 10*time.Second)
	orDefault(&l.LongWait, time.Hour)
	orDefault(&l.KeepKeys, 24*time.Hour)
}

// answerTimeout bounds a request with a short body, from its header to the end of its answer.
func (l *Limits) answerTimeout() time.Duration { return l.MaxWait + l.PublishTimeout + l.BodyTimeout }

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
