package mutationlog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// backend is a kind of log that all that is said of logs must hold for.
type backend struct {
	// options returns the options of a node of a namespace, which has a cache of its own.
	options func(t *testing.T, namespace, node string) Options
	// patience is how long reaching the brokers for the first time may take.
	patience time.Duration
}

func (b backend) open(t *testing.T, namespace, node string) *Log {
	t.Helper()
	return b.openWith(t, b.options(t, namespace, node))
}

func (b backend) openWith(t *testing.T, opts Options) *Log {
	t.Helper()
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	select {
	case <-l.Established():
	case <-time.After(b.patience):
		t.Fatalf("not established: %+v", l.Status())
	}
	return l
}

// shared is what holds for brokers that many nodes use: the fake ones, whose faults can be chosen, and real ones.
var shared = map[string]func(*testing.T, backend){
	"Catalog":              testCatalog,
	"CatalogReplaced":      testCatalogReplaced,
	"CatalogOfOlder":       testCatalogOfOlderNamespace,
	"Freeze":               testFreeze,
	"Groups":               testGroups,
	"GroupsWithMembers":    testGroupsWithMembers,
	"Progress":             testProgress,
	"ProgressOfManyGroups": testProgressOfManyGroups,
}

func runShared(t *testing.T, b backend) {
	// Brokers that have never been asked for a group make a topic first, and have no coordinator until then.
	l := b.open(t, "coordinator", "node")
	await(t, l, "a coordinator of groups", func() bool {
		_, err := l.Members(deadline(t), "any", "any")
		return err == nil
	})
	for name, test := range shared {
		t.Run(name, func(t *testing.T) { test(t, b) })
	}
}

func fakeBackend(t *testing.T) backend {
	c := newCluster(t)
	return backend{patience: patience, options: func(t *testing.T, namespace, node string) Options {
		opts := c.options(t, node)
		opts.Namespace = namespace
		return opts
	}}
}

func TestFakeBrokers(t *testing.T) { runShared(t, fakeBackend(t)) }

func testCatalog(t *testing.T, b backend) {
	one, two := b.open(t, "catalog", "one"), b.open(t, "catalog", "two")
	if id := one.CatalogID(); id == ([16]byte{}) || id != two.CatalogID() {
		t.Fatalf("ids %x and %x", id, two.CatalogID())
	}
	s, err := two.ConsumeCatalog(0)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if offset, err := one.PublishCatalog(deadline(t), []byte("a."), []byte("1")); err != nil || offset != 0 {
		t.Fatalf("offset %d, %v", offset, err)
	}
	if offset, err := one.PublishCatalog(deadline(t), []byte("a."), nil); err != nil || offset != 1 {
		t.Fatalf("offset %d, %v", offset, err)
	}
	var many []CatalogRecord
	for i := range 2*catalogChunk + 7 {
		many = append(many, CatalogRecord{fmt.Appendf(nil, "zone%d.", i), fmt.Appendf(nil, "%d", i)})
	}
	if err := one.PublishCatalogAll(deadline(t), many); err != nil {
		t.Fatal(err)
	}
	got := read(t, s, len(many)+2)
	if string(got[0].Value) != "1" || got[1].Value != nil || string(got[1].Key) != "a." {
		t.Fatalf("got %+v", got[:2])
	}
	for i, r := range got[2:] {
		if r.Offset != int64(i+2) || !bytes.Equal(r.Key, many[i].Key) || !bytes.Equal(r.Value, many[i].Value) {
			t.Fatalf("record %d is %+v", i, r)
		}
	}
	if bounds, err := one.CatalogBounds(deadline(t)); err != nil || bounds != (Bounds{0, int64(len(got))}) {
		t.Fatalf("bounds %v, %v", bounds, err)
	}
	// It is no partition of the log.
	if one.Partitions() != two.Partitions() {
		t.Fatal("the catalog counts as a partition")
	}
	// One that fails is told of, wherever it is among those that do not.
	some := []CatalogRecord{{Key: []byte("k"), Value: []byte("v")}, {Value: make([]byte, maxBatchBytes)}, {Key: []byte("k"), Value: []byte("v")}}
	for range 2 {
		if err := one.PublishCatalogAll(deadline(t), some); !errors.Is(err, ErrTooLarge) {
			t.Fatalf("too large: %v", err)
		}
		some = some[1:]
	}
	if err := one.PublishCatalogAll(deadline(t), nil); err != nil {
		t.Fatalf("nothing: %v", err)
	}
}

// A catalog topic that was deleted is made again, and one that was replaced is read from its beginning; nothing else stops.
func testCatalogReplaced(t *testing.T, b backend) {
	l := b.open(t, "replaced", "node")
	before := l.CatalogID()
	s, err := l.ConsumeCatalog(0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := l.PublishCatalog(deadline(t), []byte("k"), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	read(t, s, 5)
	if done, err := l.admin.DeleteTopics(deadline(t), l.catalogs); err != nil || done.Error() != nil {
		t.Fatal(err, done.Error())
	}
	ctx := deadline(t)
	for !errors.Is(err, ErrReplaced) {
		if _, err = s.Next(ctx); ctx.Err() != nil {
			t.Fatalf("the stream gives %v", err)
		}
	}
	s.Close()
	after := l.CatalogID()
	if after == before || after == ([16]byte{}) {
		t.Fatalf("id %x, was %x", after, before)
	}
	for {
		_, err := l.PublishCatalog(deadline(t), []byte("k"), []byte("new"))
		if err == nil {
			break
		}
		t.Logf("publish: %v", err)
		if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
			t.Fatal("nothing can be published any more")
		}
	}
	if s, err = l.ConsumeCatalog(0); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		batch, err := s.Next(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the new topic can't be read: %v", err)
		}
		if len(batch.Records) > 0 {
			if r := batch.Records[0]; r.Offset != 0 || string(r.Value) != "new" {
				t.Fatalf("got %+v", r)
			}
			break
		}
	}
	publish(t, l, 0, "still")
	if s := l.Status(); s.Fault != nil || !s.Established {
		t.Fatalf("status %+v", s)
	}
}

// A namespace from before there was a catalog gets one at the next start.
func testCatalogOfOlderNamespace(t *testing.T, b backend) {
	opts := b.options(t, "older", "node")
	l := b.openWith(t, opts)
	topic := l.TopicID()
	if done, err := l.admin.DeleteTopics(deadline(t), l.catalogs); err != nil || done.Error() != nil {
		t.Fatal(err, done.Error())
	}
	l.Close()
	l = b.openWith(t, opts)
	for ctx := deadline(t); l.CatalogID() == ([16]byte{}); {
		if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
			t.Fatalf("no catalog: %+v", l.Status())
		}
	}
	if l.TopicID() != topic {
		t.Fatal("another namespace")
	}
	for ctx := deadline(t); ; {
		if _, err := l.PublishCatalog(ctx, []byte("k"), []byte("v")); err == nil {
			return
		} else if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func testFreeze(t *testing.T, b backend) {
	opts := b.options(t, "freeze", "one")
	one, two := b.openWith(t, opts), b.open(t, "freeze", "two")
	publish(t, one, 0, "before")
	if f, frozen := one.Frozen(); frozen {
		t.Fatalf("frozen from the start: %v", f)
	}
	if err := one.Freeze(deadline(t), "elsewhere", "it moves"); err != nil {
		t.Fatal(err)
	}
	await(t, two, "the other node to know", func() bool { _, frozen := two.Frozen(); return frozen })
	one.Close()
	one = b.openWith(t, opts)
	for _, l := range []*Log{one, two} {
		_, err := l.Publish(deadline(t), 0, []byte("k"), []byte("x"))
		if !errors.Is(err, ErrRefused) || !errors.Is(err, ErrFrozen) || !strings.Contains(err.Error(), "elsewhere") || !strings.Contains(err.Error(), "it moves") {
			t.Fatalf("publish: %v", err)
		}
	}
	since, _ := one.Frozen()
	if err := two.Freeze(deadline(t), "elsewhere", "again"); err != nil {
		t.Fatal(err)
	}
	if again, _ := two.Frozen(); again != since || time.Since(again.Since).Abs() > time.Hour {
		t.Fatalf("frozen again: %v, was %v", again, since)
	}
	if err := two.Freeze(deadline(t), "a third place", ""); !errors.Is(err, ErrFrozen) {
		t.Fatalf("frozen for another place: %v", err)
	}
	if err := two.Freeze(deadline(t), strings.Repeat("x", maxFreezeText+1), ""); !errors.Is(err, ErrRefused) {
		t.Fatalf("a long place: %v", err)
	}
	if err := two.Thaw(deadline(t)); err != nil {
		t.Fatal(err)
	}
	await(t, one, "a thaw", func() bool { _, frozen := one.Frozen(); return !frozen })
	if offset := publish(t, one, 0, "after"); offset != 1 {
		t.Fatalf("offset %d: what was refused is in the log", offset)
	}
	// What a newer program says is not understood, so nothing is risked.
	if err := one.PutControl(deadline(t), frozenKey, []byte(`{"v":2}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Publish(deadline(t), 0, nil, []byte("x")); !errors.Is(err, ErrFrozen) {
		t.Fatalf("publish: %v", err)
	}
	if err := one.Thaw(deadline(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, one, 0, "and on")
}

func groupNames(l *Log) string {
	var names []string
	for _, g := range l.Groups() {
		names = append(names, g.Region+"/"+g.Group)
	}
	return strings.Join(names, " ")
}

func testGroups(t *testing.T, b backend) {
	one, two := b.open(t, "groups", "one"), b.open(t, "groups", "two")
	if got := one.GroupName("eu-west", "main.a"); got != "groups.eu-west.main.a" {
		t.Fatalf("the group's name is %s", got)
	}
	for _, g := range [][2]string{{"us", "main"}, {"eu-west", "main.a"}, {"eu-west", "b"}} {
		if err := one.RegisterGroup(deadline(t), g[0], g[1]); err != nil {
			t.Fatal(err)
		}
	}
	if got := groupNames(one); got != "eu-west/b eu-west/main.a us/main" {
		t.Fatalf("groups %s", got)
	}
	if g := one.Groups()[0]; time.Since(g.Registered).Abs() > time.Hour {
		t.Fatalf("registered %v", g.Registered)
	}
	// Registering again writes nothing.
	at := one.control.position()
	if err := one.RegisterGroup(deadline(t), "us", "main"); err != nil || one.control.position() != at {
		t.Fatalf("%v, and the topic went on to %d from %d", err, one.control.position(), at)
	}
	await(t, two, "the other node's groups", func() bool { return slices.Equal(one.Groups(), two.Groups()) })
	if err := two.RetireGroup(deadline(t), "us", "main"); err != nil {
		t.Fatal(err)
	}
	if got := groupNames(two); got != "eu-west/b eu-west/main.a" {
		t.Fatalf("groups %s", got)
	}
	if err := two.RetireGroup(deadline(t), "us", "main"); err != nil {
		t.Fatalf("retired twice: %v", err)
	}
	if err := two.RetireGroup(deadline(t), "us", "other"); !errors.Is(err, ErrNoGroup) {
		t.Fatalf("a group that never was: %v", err)
	}
	// A node of a retired group that starts makes it count again.
	if err := two.RegisterGroup(deadline(t), "us", "main"); err != nil || !strings.Contains(groupNames(two), "us/main") {
		t.Fatalf("%v, groups %s", err, groupNames(two))
	}
	for _, bad := range [][2]string{{"", "a"}, {"a", ""}, {"a.b", "c"}, {"a", "b/c"}, {strings.Repeat("x", 65), "a"}} {
		if err := two.RegisterGroup(deadline(t), bad[0], bad[1]); !errors.Is(err, ErrRefused) {
			t.Errorf("region %q, group %q: %v", bad[0], bad[1], err)
		}
	}
	// What a newer program wrote is neither used nor written over.
	newer := []byte(`{"v":2,"region":"new","group":"g"}`)
	if err := one.PutControl(deadline(t), "group/new/g", newer); err != nil {
		t.Fatal(err)
	}
	if err := one.RegisterGroup(deadline(t), "new", "g"); !errors.Is(err, ErrRefused) || strings.Contains(groupNames(one), "new/g") {
		t.Fatalf("%v, groups %s", err, groupNames(one))
	}
}

// join makes a member of a replica group.
func join(t *testing.T, l *Log, region, group, instance string, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts := append(l.ClientOptions(), kgo.ConsumerGroup(l.GroupName(region, group)), kgo.ConsumeTopics(l.mutations), kgo.InstanceID(instance))
	client, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func testGroupsWithMembers(t *testing.T, b backend) {
	l := b.open(t, "members", "node")
	for group, protocol := range map[string][]kgo.Opt{
		"classic":  {kgo.Balancers(kgo.CooperativeStickyBalancer())},
		"consumer": {kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer()},
	} {
		if err := l.RegisterGroup(deadline(t), "here", group); err != nil {
			t.Fatal(err)
		}
		if members, err := l.Members(deadline(t), "here", group); err != nil || len(members) != 0 {
			t.Fatalf("%s: members %v, %v", group, members, err)
		}
		client := join(t, l, "here", group, "node-1", protocol...)
		var members []Member
		await(t, l, group+"'s member", func() bool {
			var err error
			members, err = l.Members(deadline(t), "here", group)
			if err != nil {
				t.Logf("%s: %v", group, err)
			}
			return len(members) == 1
		})
		if members[0].ID != "node-1" || members[0].Host == "" {
			t.Errorf("%s: member %+v", group, members[0])
		}
		err := l.RetireGroup(deadline(t), "here", group)
		if !errors.Is(err, ErrGroupInUse) || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "node-1") {
			t.Fatalf("%s: retired with a member: %v", group, err)
		}
		// A static member does not leave by itself.
		instance, builder := "node-1", kadm.LeaveGroup(l.GroupName("here", group))
		client.Close()
		if group == "classic" {
			if _, err := l.admin.LeaveGroup(deadline(t), builder.Reason("gone").InstanceIDs(instance)); err != nil {
				t.Fatal(err)
			}
			await(t, l, "an empty group", func() bool { return l.RetireGroup(deadline(t), "here", group) == nil })
		}
	}
}

func commit(t *testing.T, l *Log, group string, all ...Progress) {
	t.Helper()
	var offsets kadm.Offsets
	for _, p := range all {
		offsets.Add(kadm.Offset{Topic: l.mutations, Partition: p.Partition, At: p.Next, LeaderEpoch: p.Epoch, Metadata: p.Metadata()})
	}
	await(t, l, "a commit", func() bool {
		done, err := l.admin.CommitOffsets(deadline(t), group, offsets)
		return err == nil && done.Error() == nil
	})
}

// testProgress: what is committed is fetched, for a group without members too.
func testProgress(t *testing.T, b backend) {
	l := b.open(t, "progress", "node")
	now := time.UnixMilli(1790000000123).UTC()
	want := []Progress{
		{Partition: 0, Next: 17, Epoch: 3, Time: now, Node: "node-1", Caught: now.Add(-time.Second), Catalog: 99},
		{Partition: 2, Next: 0, Epoch: -1, Time: now, Node: "node-2", Catalog: -1},
	}
	there, never := Group{Region: "r", Group: "there"}, Group{Region: "r", Group: "never"}
	commit(t, l, l.GroupName("r", "there"), want...)
	got, err := l.FetchProgress(deadline(t), []Group{there, never})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[there], want) {
		t.Fatalf("got %+v, want %+v", got[there], want)
	}
	if none, ok := got[never]; !ok || len(none) != 0 {
		t.Fatalf("a group that committed nothing: %v, %v", none, ok)
	}
}

func testProgressOfManyGroups(t *testing.T, b backend) {
	l := b.open(t, "many", "node")
	var groups []Group
	for i := range 20 {
		g := Group{Region: "r", Group: fmt.Sprint("g", i)}
		groups = append(groups, g)
		commit(t, l, l.GroupName(g.Region, g.Group), Progress{Partition: 1, Next: int64(i), Catalog: -1})
	}
	got, err := l.FetchProgress(deadline(t), groups)
	if err != nil || len(got) != len(groups) {
		t.Fatalf("%d groups, %v", len(got), err)
	}
	for i, g := range groups {
		if len(got[g]) != 1 || got[g][0].Next != int64(i) {
			t.Errorf("group %v: %+v", g, got[g])
		}
	}
}

// await polls for what no event tells of.
func await(t *testing.T, l *Log, what string, done func() bool) {
	t.Helper()
	for ctx := deadline(t); !done(); {
		if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
			t.Fatalf("waited in vain for %s: %+v", what, l.Status())
		}
	}
}
