package replication

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/gossip"
	"balefire/replication/objectstore"
)

// A trouble is logged when it is new, and once more when it is over; what comes and goes is one, and there is a bound.
func TestTroublesAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	s := newSaid(zerolog.New(&out))
	now := time.Unix(0, 0)
	look := func(after time.Duration, troubles ...string) string {
		now = now.Add(after)
		out.Reset()
		s.look(troubles, now)
		return out.String()
	}
	for _, step := range []struct {
		after    time.Duration
		troubles []string
		want     string // in the log's only line; "" for none
	}{
		{0, nil, ""},
		{time.Second, []string{"a"}, `"level":"warn","trouble":"a"`},
		{time.Second, []string{"a"}, ""},
		{2 * overAfter, []string{"a"}, ""},
		{time.Second, []string{"a", "b"}, `"trouble":"b"`},
		{time.Second, []string{"b"}, ""},
		{time.Second, []string{"a", "b"}, ""},
		{time.Second, []string{"b"}, ""},
		{overAfter - 2*time.Second, []string{"b"}, ""},
		{time.Second, []string{"b"}, `"level":"info","trouble":"a"`},
		{time.Second, []string{"a", "b"}, `"level":"warn","trouble":"a"`},
	} {
		got := look(step.after, step.troubles...)
		if step.want == "" && got != "" || step.want != "" && (strings.Count(got, "\n") != 1 || !strings.Contains(got, step.want)) {
			t.Errorf("at %s, with %q: %q, want %q", now.UTC().Format(time.TimeOnly), step.troubles, got, step.want)
		}
	}
	for i := range 2 * maxSaid {
		look(0, fmt.Sprint(i))
	}
	if len(s.seen) > maxSaid {
		t.Errorf("%d are remembered", len(s.seen))
	}
}

// troubled waits until a node has a trouble that says all of some things.
func troubled(t *testing.T, n *Node, wanted ...string) {
	t.Helper()
	eventually(t, n, fmt.Sprintf("a trouble says %q, in %q", wanted, n.Troubles()), func() bool { return saysAll(n.Troubles(), wanted) })
}

func saysAll(troubles, wanted []string) bool {
	return slices.ContainsFunc(troubles, func(text string) bool {
		return !slices.ContainsFunc(wanted, func(w string) bool { return !strings.Contains(text, w) })
	})
}

func (g *testRegion) looking(id, group string) Options {
	o := g.options(id, group)
	o.LookInterval = 50 * time.Millisecond
	return o
}

// One region's name in two places: the nodes there share a group, and no gossip.
func TestRegionInTwoPlaces(t *testing.T) {
	t.Parallel()
	g := newRegion(t)
	a := ready(t, g.start(g.looking("a", "main")))
	b := ready(t, g.start(g.looking("b", "main")))
	eventually(t, a, "both have a half", func() bool { return len(g.holding(a)) == regionPartitions/2 && len(g.holding(b)) == regionPartitions/2 })
	for range 3 { // some looks
		if !a.sleep(deadline(t), a.opts.LookInterval) {
			t.Fatal("closed")
		}
	}
	eventually(t, a, "in one place there is no trouble", func() bool { return len(a.Troubles()) == 0 })
	g.gossip = nil // the next one is somewhere else
	c := g.start(g.looking("c", "main"))
	eventually(t, c, "its own partitions are there, and those of nobody that it knows are missed", func() bool {
		_, reasons := c.Ready()
		return len(g.holding(c)) > 0 && len(reasons) > 0 && strings.Contains(reasons[0], "nobody in the region has it yet")
	})
	troubled(t, a, "c in group near/main, but unknown to gossip", "is the region's name used in two places")
	troubled(t, b, "c in group near/main")
	troubled(t, c, "a, b in group near/main")
	if ok, reasons := a.Ready(); !ok {
		t.Errorf("not ready: %v", reasons)
	}
	if err := c.LeaveGroup(deadline(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, a, "no trouble", func() bool { return len(a.Troubles()) == 0 })
}

// Two nodes of one id in two groups, which are in different regions, so that nothing else can tell.
func TestNamesakes(t *testing.T) {
	t.Parallel()
	g := newRegion(t)
	near := ready(t, g.start(g.looking("n1", "main")))
	o := g.looking("n1", "main")
	o.Region, o.Peers.Join = "far", nil
	far := ready(t, start(t, o))
	troubled(t, near, `another node is called "n1", in group far/main`, "give each node of the namespace a node-id of its own")
	troubled(t, far, `another node is called "n1", in group near/main`)
	if err := far.LeaveGroup(deadline(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, near, "no trouble", func() bool { return len(near.Troubles()) == 0 })
}

// A node whose clock is an hour ahead.
func TestClocksDiffer(t *testing.T) {
	t.Parallel()
	g := newRegion(t)
	a := ready(t, g.start(g.options("a", "main")))
	ahead, err := gossip.Start(gossip.Options{
		Member:    gossip.Member{ID: "b", Region: "near", Group: "main", Version: "test"},
		Namespace: "test", Listen: "127.0.0.1:0", Join: g.gossip,
		Now: func() time.Time { return time.Now().Add(time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ahead.Close()
	troubled(t, a, `the clock of node "b" is 1h0m0s ahead of this node's`, "do both keep time by NTP?")
	eventually(t, a, "the cluster's status has it", func() bool {
		return saysAll(a.ClusterStatus(deadline(t)).Troubles, []string{"NTP"})
	})
}

// An object store that can't be read is a trouble while that is so, and so is a backup that can't be made.
func TestObjectStoreInTrouble(t *testing.T) {
	t.Parallel()
	objects := &away{Store: objectstore.NewMemory()}
	objects.down.Store(true)
	o := options(t, t.TempDir())
	o.Log.Partitions, o.Backup = 1, BackupOptions{Objects: objects, Restore: true, Interval: time.Hour}
	n := ready(t, start(t, o))
	troubled(t, n, "backups: list test/: out of reach")
	objects.down.Store(false)
	eventually(t, n, "no trouble", func() bool { return len(n.Troubles()) == 0 })

	n.replica(0).noteNoBackup(fmt.Errorf("it is full"))
	if list := n.Troubles(); !slices.Equal(list, []string{"no backup of partition 0: it is full"}) {
		t.Errorf("%q", list)
	}
	n.replica(0).noteNoBackup(nil)
	if list := n.Troubles(); len(list) > 0 {
		t.Errorf("%q", list)
	}
}
