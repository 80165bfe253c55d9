package replication

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

const patience = 60 * time.Second

func options(t *testing.T, dir string) Options {
	t.Helper()
	o := Options{Dir: dir, Store: storetest.Options(t, dir), Logger: zerolog.Nop()}
	o.Store.Logger = zerolog.Nop()
	o.Log = mutationlog.Options{Namespace: "test", Partitions: 3}
	return o
}

func start(t *testing.T, o Options) *Node {
	t.Helper()
	n, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until something holds.
func eventually(t *testing.T, n *Node, what string, holds func() bool) {
	t.Helper()
	for ctx := deadline(t); !holds(); {
		if !n.sleep(ctx, 5*time.Millisecond) {
			_, reasons := n.Ready()
			t.Fatalf("waited in vain: %s; unready: %v; alarms: %v; log: %+v", what, reasons, n.Alarms(), n.Log().Status())
		}
	}
}

func ready(t *testing.T, n *Node) *Node {
	t.Helper()
	eventually(t, n, "ready", func() bool { ok, _ := n.Ready(); return ok })
	return n
}

func newID(cs *zones.ChangeSet) *zones.ChangeSet {
	rand.Read(cs.ID[:])
	return cs
}

// do publishes a change set and waits for its outcome.
func do(t *testing.T, n *Node, cs *zones.ChangeSet) store.Outcome {
	t.Helper()
	pos := published(t, n, cs)
	o, err := n.Wait(deadline(t), pos, ThisNode)
	if err != nil {
		t.Fatal(err)
	}
	if o.Position != pos || o.ID != cs.ID {
		t.Fatalf("outcome %+v of another change set than %s at %s", o, cs.ID, pos)
	}
	return o
}

// published publishes a change set. A node that was started just now may refuse it, until its copy is known to be of this log.
func published(t *testing.T, n *Node, cs *zones.ChangeSet) store.Position {
	t.Helper()
	newID(cs)
	for ctx := deadline(t); ; {
		pos, err := n.Publish(ctx, cs)
		if err == nil {
			return pos
		}
		if !errors.Is(err, mutationlog.ErrRefused) || !n.sleep(ctx, 20*time.Millisecond) {
			t.Fatal(err)
		}
	}
}

func serves(t *testing.T, n *Node, name string) bool {
	t.Helper()
	h := n.Store().Find(zones.MustParseName(name), zones.TypeA)
	defer h.Release()
	if h.Status != store.Here {
		return false
	}
	var at zones.Location
	if err := h.View.Find(zones.MustParseName(name), &at); err != nil {
		t.Fatal(err)
	}
	return at.Exact
}

func TestChangeIsAppliedAndAnswered(t *testing.T) {
	o := options(t, t.TempDir())
	registry := prometheus.NewRegistry()
	o.Metrics = registry
	n := ready(t, start(t, o))
	if o := do(t, n, storetest.Create("example.", storetest.Set("www.example.", 300, zones.TypeA, "192.0.2.1"))); o.Status != store.StatusApplied {
		t.Fatalf("outcome %+v", o)
	}
	if !serves(t, n, "www.example.") || serves(t, n, "no.example.") {
		t.Fatal("what was applied is not what is answered from")
	}
	// A rejection is an outcome.
	rejected := do(t, n, storetest.Create("example."))
	if rejected.Status != store.StatusRejected || rejected.Rejection == nil {
		t.Fatalf("outcome %+v", rejected)
	}
	// Outcomes of the past can be asked for, and nobody waits for what is beyond the limits.
	if again, err := n.Wait(deadline(t), rejected.Position, Everywhere); err != nil || again.Status != store.StatusRejected {
		t.Fatalf("%+v, %v", again, err)
	}
	short, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := n.Wait(short, store.Position{Partition: 0, Offset: 1000}, ThisNode); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if _, err := n.Wait(deadline(t), store.Position{Partition: 3}, ThisNode); !errors.Is(err, ErrNotOpen) {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(families)
	for _, name := range []string{"balefire_partition_applied_offset", "balefire_records_applied_total", "balefire_publish_seconds", "balefire_log_reachable"} {
		if !strings.Contains(text, name) {
			t.Errorf("no metric %s", name)
		}
	}
}

func TestManyWritersManyZones(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			apex := fmt.Sprintf("zone%d.example.", w)
			if o := do(t, n, storetest.Create(apex)); o.Status != store.StatusApplied {
				t.Errorf("%s: %+v", apex, o)
				return
			}
			last := zones.Serial(1)
			for i := range 10 {
				set := storetest.Set(fmt.Sprintf("n%d.%s", i, apex), 60, zones.TypeA, "192.0.2.1")
				o := do(t, n, storetest.Put(apex, set))
				if o.Status != store.StatusApplied || o.Serial <= last {
					t.Errorf("%s: %+v after serial %d", apex, o, last)
				}
				last = o.Serial
			}
		})
	}
	wg.Wait()
	for _, p := range n.Store().Partitions() {
		if err := p.Scrub(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n.Store().Hosted() != 32 {
		t.Fatalf("%d zones", n.Store().Hosted())
	}
	for r := range n.replicas() {
		if r.waiters.count != 0 || len(r.waiters.at) != 0 {
			t.Fatalf("%d still wait", r.waiters.count)
		}
	}
}

func TestRestartGoesOnWhereItWas(t *testing.T) {
	dir := t.TempDir()
	n := ready(t, start(t, options(t, dir)))
	do(t, n, storetest.Create("example."))
	for i := range 20 {
		do(t, n, storetest.Put("example.", storetest.Set(fmt.Sprintf("n%d.example.", i), 60, zones.TypeA, "192.0.2.1")))
	}
	before := digestsOf(n)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Publish(deadline(t), storetest.Create("late.")); !errors.Is(err, mutationlog.ErrRefused) {
		t.Fatalf("publishing on a closed node: %v", err)
	}
	n = ready(t, start(t, options(t, dir)))
	eventually(t, n, "established", func() bool { return n.Log().Status().Established }) // ready before that, from what it holds
	if after := digestsOf(n); after != before {
		t.Fatalf("digests %s, were %s", after, before)
	}
	if o := do(t, n, storetest.Put("example.", storetest.Set("more.example.", 60, zones.TypeA, "192.0.2.1"))); o.Status != store.StatusApplied {
		t.Fatalf("%+v", o)
	}
	// A second node in the same directory is refused.
	if other, err := Start(options(t, dir)); err == nil {
		other.Close()
		t.Fatal("two nodes have the same directory")
	}
}

func digestsOf(n *Node) string {
	var all []string
	for _, p := range n.Store().Partitions() {
		digest, offset := p.Digest()
		all = append(all, fmt.Sprintf("%d@%d %x", p.Number(), offset, digest))
	}
	return strings.Join(all, ", ")
}

// A copy whose files were deleted is made again from the log, and is the same.
func TestReplayGivesTheSame(t *testing.T) {
	dir := t.TempDir()
	n := ready(t, start(t, options(t, dir)))
	for i := range 6 {
		apex := fmt.Sprintf("z%d.example.", i)
		do(t, n, storetest.Create(apex))
		do(t, n, storetest.Create(apex)) // rejected
		do(t, n, storetest.Put(apex, storetest.Set("a."+apex, 60, zones.TypeA, "192.0.2.1")))
	}
	before := digestsOf(n)
	n.Close()
	if err := os.RemoveAll(filepath.Join(dir, "partitions")); err != nil {
		t.Fatal(err)
	}
	n = ready(t, start(t, options(t, dir)))
	if after := digestsOf(n); after != before {
		t.Fatalf("digests %s, were %s", after, before)
	}
}

func TestAnotherHistoryStopsApplyingNotAnswering(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	n := ready(t, start(t, options(t, dir)))
	apex := zoneIn(t, n, 0)
	do(t, n, storetest.Create(apex))
	do(t, n, storetest.Put(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")))
	n.Close()
	// The same topic, with other records: the log's files as another node's would be.
	copyTree(t, filepath.Join(dir, "log"), filepath.Join(other, "log"))
	if err := os.RemoveAll(filepath.Join(dir, "log", "broker", "partitions", "test.mutations-0")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "log", "broker", "partitions", "test.mutations-0", "snapshot.json")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func(n *Node){
		"the log is shorter": func(*Node) {},
		"another record at the same offset": func(n *Node) {
			for range 3 {
				if _, err := n.log.Publish(deadline(t), 0, []byte(apex), []byte("something else")); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			copied := t.TempDir()
			copyTree(t, dir, copied)
			n := start(t, options(t, copied))
			eventually(t, n, "established", func() bool { return n.Log().Status().Established })
			r := n.replica(0)
			if name != "the log is shorter" {
				// Halted already, since the log was shorter: write more, and start again.
				prepare(n)
				n.Close()
				n = start(t, options(t, copied))
				r = n.replica(0)
			}
			eventually(t, n, "halted", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.halted != nil })
			if !errors.Is(r.halted, errHistory) {
				t.Fatalf("halted by %v", r.halted)
			}
			if !serves(t, n, "www."+apex) {
				t.Fatal("no answers any more")
			}
			ready(t, n)
			if len(n.Alarms()) == 0 {
				t.Fatal("no alarm")
			}
			if _, err := n.Wait(deadline(t), store.Position{Partition: 0, Offset: 50}, ThisNode); !errors.Is(err, ErrHalted) {
				t.Fatalf("waiting gives %v", err)
			}
			// What the copy has at a position is not the outcome of what the log has there, and nothing is written there.
			if o, err := n.Wait(deadline(t), store.Position{Partition: 0, Offset: 0}, ThisNode); !errors.Is(err, ErrHalted) {
				t.Fatalf("waiting for a position of the copy gives %+v, %v", o, err)
			}
			if at, err := n.Publish(deadline(t), newID(storetest.Put(apex, storetest.Set("w."+apex, 60, zones.TypeA, "192.0.2.1")))); !errors.Is(err, mutationlog.ErrRefused) {
				t.Fatalf("published at %s, %v", at, err)
			}
			// Other partitions go on.
			if o := do(t, n, storetest.Create(zoneIn(t, n, 1))); o.Status != store.StatusApplied {
				t.Fatalf("%+v", o)
			}
		})
	}
}

// A partition whose copy and log are both gone is no empty partition: what it held is unknown, not absent.
func TestCopyAndLogBothLost(t *testing.T) {
	dir := t.TempDir()
	n := ready(t, start(t, options(t, dir)))
	apex := zoneIn(t, n, 0)
	do(t, n, storetest.Create(apex))
	if err := n.Close(); err != nil { // it remembers how far it was
		t.Fatal(err)
	}
	for _, lost := range []string{filepath.Join("log", "broker", "partitions", "test.mutations-0"), filepath.Join("partitions", "000")} {
		if err := os.RemoveAll(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	n = start(t, options(t, dir))
	r := n.replica(0)
	eventually(t, n, "halted", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return errors.Is(r.halted, errHistory) })
	if ok, _ := n.Ready(); ok || n.Holds(0) || n.HoldsAll() {
		t.Fatal("an empty copy was taken for a whole one")
	}
	eventually(t, n, "the other partitions", func() bool { return n.Holds(1) && n.Holds(2) })
}

// zoneIn returns an apex whose partition is the one given.
func zoneIn(t *testing.T, n *Node, partition int32) string {
	t.Helper()
	for i := range 1000 {
		apex := fmt.Sprintf("zone%d.example.", i)
		if p, ok := n.PartitionOf(zones.MustParseName(apex)); ok && p == partition {
			return apex
		}
	}
	t.Fatal("no such zone")
	return ""
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestServesWithoutTheLog(t *testing.T) {
	network := new(kfake.VirtualNetwork)
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(network.Listen))
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	dir := t.TempDir()
	o := options(t, dir)
	o.Log.Brokers = []string{"127.0.0.1:9092"}
	reach := o
	reach.Log.Client = []kgo.Opt{kgo.Dialer(network.DialContext)}
	away := o
	away.Log.Client = []kgo.Opt{kgo.Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("out of reach") })}

	// A node that has never seen the log is not ready.
	fresh := away
	fresh.Dir = t.TempDir()
	n := start(t, fresh)
	if ok, reasons := n.Ready(); ok || len(reasons) != 1 || !strings.Contains(reasons[0], "never been reached") {
		t.Fatalf("ready %v, %v", ok, reasons)
	}
	n.Close()

	n = ready(t, start(t, reach))
	apex := zoneIn(t, n, 2)
	do(t, n, storetest.Create(apex))
	if _, err := n.Wait(deadline(t), store.Position{Partition: 2}, Everywhere); !errors.Is(err, ErrScope) {
		t.Fatalf("everywhere: %v", err)
	}
	n.Close()

	n = ready(t, start(t, away))
	if !serves(t, n, apex) {
		t.Fatal("what is held is not answered from")
	}
	if _, err := n.Publish(deadline(t), storetest.Create("new.")); !errors.Is(err, mutationlog.ErrRefused) {
		t.Fatalf("publish: %v", err)
	}
	n.Close()

	// A copy that is not as far as it was is not trusted without the log.
	if err := os.RemoveAll(filepath.Join(dir, "partitions", "002")); err != nil {
		t.Fatal(err)
	}
	n = start(t, away)
	eventually(t, n, "only partition 2 is unready", func() bool {
		ok, reasons := n.Ready()
		return !ok && len(reasons) == 1 && strings.Contains(reasons[0], "partition 2 has not seen how far the log goes")
	})
	n.Close()
	if n = ready(t, start(t, reach)); !serves(t, n, apex) {
		t.Fatal("not made again from the log")
	}
}

func TestLogIsTrimmedBelowTwoSnapshots(t *testing.T) {
	dir := t.TempDir()
	o := options(t, dir)
	o.Log.Partitions = 1
	o.TrimAbove, o.TrimInterval = 1, 10*time.Millisecond
	n := ready(t, start(t, o))
	do(t, n, storetest.Create("example."))
	r := n.replica(0)
	change := func(i int) {
		do(t, n, storetest.Put("example.", storetest.Set(fmt.Sprintf("n%d.example.", i), 60, zones.TypeA, "192.0.2.1")))
	}
	start0 := func() int64 {
		bounds, err := n.log.Bounds(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		return bounds[0].Start
	}
	i := 0
	eventually(t, n, "trimmed", func() bool {
		change(i)
		i++
		begin := start0()
		kept, err := r.snapshots()
		if err != nil {
			t.Fatal(err)
		}
		if begin > 0 && (len(kept) < keptSnapshots || begin > kept[keptSnapshots-1]) {
			t.Fatalf("the log begins at %d, the snapshots are at %v", begin, kept)
		}
		return begin > 0
	})
	n.Close()
	kept, err := r.snapshots()
	if err != nil || len(kept) < keptSnapshots {
		t.Fatal(kept, err)
	}

	// A lost copy comes back from a snapshot and the rest of the log.
	o.TrimInterval = time.Hour
	n = ready(t, start(t, o))
	eventually(t, n, "the log is there", func() bool { return n.Log().Status().Established })
	if begin := start0(); begin > kept[1] {
		t.Fatalf("the log begins at %d, the snapshots are at %v", begin, kept)
	}
	before := digestsOf(n)
	n.Close()
	if err := os.RemoveAll(filepath.Join(dir, "partitions")); err != nil {
		t.Fatal(err)
	}
	n = ready(t, start(t, o))
	if after := digestsOf(n); after != before {
		t.Fatalf("digests %s, were %s", after, before)
	}
	n.Close()

	// Also when the newest snapshot is damaged.
	if err := os.RemoveAll(filepath.Join(dir, "partitions")); err != nil {
		t.Fatal(err)
	}
	newest := r.snapshotFile(kept[0])
	data, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(newest, data, 0o600); err != nil {
		t.Fatal(err)
	}
	n = ready(t, start(t, o))
	if after := digestsOf(n); after != before {
		t.Fatalf("digests %s, were %s", after, before)
	}
	if len(n.Alarms()) == 0 {
		t.Fatal("nobody was told of the damaged snapshot")
	}
	n.Close()

	// Without any, the partition is unavailable, and says so.
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "partitions")), os.RemoveAll(filepath.Join(dir, "snapshots"))); err != nil {
		t.Fatal(err)
	}
	n = start(t, o)
	eventually(t, n, "unready with the reason", func() bool {
		ok, reasons := n.Ready()
		return !ok && strings.Contains(strings.Join(reasons, " "), "what was between is gone")
	})
}

func TestDiskReserveOnlyPauses(t *testing.T) {
	o := options(t, t.TempDir())
	var mu sync.Mutex
	free := uint64(1 << 40)
	o.Store.DiskFree = func(string) (uint64, uint64, error) {
		mu.Lock()
		defer mu.Unlock()
		return free, 1 << 41, nil
	}
	o.Store.Reserve = 1 << 30
	n := ready(t, start(t, o))
	do(t, n, storetest.Create("example."))
	set := func(v uint64) { mu.Lock(); free = v; mu.Unlock() }
	set(1 << 29)
	pos, err := n.Publish(deadline(t), newID(storetest.Put("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1"))))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, n, "an alarm", func() bool { return len(n.Alarms()) > 0 })
	if err := n.Alarms()[0].Err; !errors.Is(err, store.ErrDiskReserve) {
		t.Fatal(err)
	}
	if serves(t, n, "www.example.") || !serves(t, n, "example.") {
		t.Fatal("applied, or no answers")
	}
	if ok, reasons := n.Ready(); !ok {
		t.Fatal(reasons)
	}
	// The log is on the same disk: it grows by no more than what showed the lack of space.
	if _, err := n.Publish(deadline(t), newID(storetest.Create("example."))); !errors.Is(err, mutationlog.ErrRefused) || !errors.Is(err, store.ErrDiskReserve) {
		t.Fatalf("published to a full disk: %v", err)
	}
	set(1 << 40)
	if o, err := n.Wait(deadline(t), pos, ThisNode); err != nil || o.Status != store.StatusApplied {
		t.Fatalf("%+v, %v", o, err)
	}
}

func TestFailedCommitIsTriedAgain(t *testing.T) {
	o := options(t, t.TempDir())
	var mu sync.Mutex
	fail := 0
	o.Store.FailCommit = func() error {
		mu.Lock()
		defer mu.Unlock()
		if fail > 0 {
			fail--
			return errors.New("the disk said no")
		}
		return nil
	}
	n := ready(t, start(t, o))
	do(t, n, storetest.Create("example."))
	partition, _ := n.PartitionOf(zones.MustParseName("example."))
	r := n.replica(partition)
	mu.Lock()
	fail = 2
	mu.Unlock()
	pos, err := n.Publish(deadline(t), newID(storetest.Put("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1"))))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, n, "applied", func() bool { return r.applied().Offset >= pos.Offset })
	if !serves(t, n, "www.example.") {
		t.Fatal("not answered from")
	}
	// A disk that goes on saying no stops the partition.
	mu.Lock()
	fail = 1000
	mu.Unlock()
	if _, err := n.Publish(deadline(t), newID(storetest.Put("example.", storetest.Set("x.example.", 60, zones.TypeA, "192.0.2.1")))); err != nil {
		t.Fatal(err)
	}
	eventually(t, n, "halted", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.halted != nil })
	if !serves(t, n, "www.example.") {
		t.Fatal("no answers any more")
	}
}

func TestPanicStopsOnePartition(t *testing.T) {
	o := options(t, t.TempDir())
	var mu sync.Mutex
	armed := false
	o.Store.CrashPoint = func(point string) {
		mu.Lock()
		defer mu.Unlock()
		if armed && point == store.CrashApplyRecord {
			armed = false
			panic("a bug")
		}
	}
	n := ready(t, start(t, o))
	apex := zoneIn(t, n, 1)
	do(t, n, storetest.Create(apex))
	mu.Lock()
	armed = true
	mu.Unlock()
	pos, err := n.Publish(deadline(t), newID(storetest.Put(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Wait(deadline(t), pos, ThisNode); !errors.Is(err, ErrHalted) {
		t.Fatalf("waiting gives %v", err)
	}
	if !serves(t, n, apex) || len(n.Alarms()) == 0 {
		t.Fatal("no answers, or no alarm")
	}
	if o := do(t, n, storetest.Create(zoneIn(t, n, 0))); o.Status != store.StatusApplied {
		t.Fatalf("%+v", o)
	}
}

// Records that no node wrote: each is an outcome, and stops nothing.
func TestStrangeRecordsStopNothing(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	apex := zoneIn(t, n, 0)
	strangers := [][2][]byte{
		{nil, nil},
		{nil, []byte("x")},
		{[]byte(apex), nil},
		{[]byte(apex), []byte{0xff, 0xff, 0xff}},
		{[]byte(zoneIn(t, n, 1)), []byte{8, 1}},
		{make([]byte, 5000), make([]byte, 900_000)},
	}
	for i, s := range strangers {
		offset, err := n.log.Publish(deadline(t), 0, s[0], s[1])
		if err != nil {
			t.Fatal(err)
		}
		o, err := n.Wait(deadline(t), store.Position{Partition: 0, Offset: offset}, ThisNode)
		if err != nil || o.Status != store.StatusRejected {
			t.Fatalf("stranger %d: %+v, %v", i, o, err)
		}
	}
	if o := do(t, n, storetest.Create(apex)); o.Status != store.StatusApplied {
		t.Fatalf("%+v", o)
	}
}

// The log is left alone where the snapshots to trim it by would take more than it does, and never until it is too large for the broker.
func TestLogBesideLargePartitions(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct{ tables, want int64 }{{0, 0}, {40 * mib, 10 * mib}, {400 * mib, 100 * mib}, {4000 * mib, 128 * mib}} {
		if got := logBeside(test.tables); got != test.want {
			t.Errorf("beside %d MiB: %d, not %d", test.tables/mib, got, test.want)
		}
	}
}
