package assignment

import (
	"context"
	"errors"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 7

// backend is a kind of brokers that all of the suite must hold for.
type backend struct {
	client      []kgo.Opt
	dial        func(ctx context.Context, network, address string) (net.Conn, error)
	stop, start func() // no broker answers; they do again, with what they knew
	protocol    string
	session     time.Duration // how soon a member is taken for gone
	patience    time.Duration
	topicID     [16]byte
}

var suite = map[string]func(*testing.T, *backend){
	"Join":        testJoin,
	"Restart":     testRestart,
	"BrokersGone": testBrokersGone,
	"Leave":       testLeave,
	"MemberGone":  testMemberGone,
	"Commit":      testCommit,
}

// byClaims is what holds only where members say what they had: by the other protocol the group alone decides, and forgets.
var byClaims = map[string]func(*testing.T, *backend){
	"RefusedClaim": testRefusedClaim,
}

func suiteOf(protocol string) map[string]func(*testing.T, *backend) {
	all := maps.Clone(suite)
	if protocol == Classic {
		maps.Copy(all, byClaims)
	}
	return all
}

func (b *backend) deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), b.patience)
	t.Cleanup(cancel)
	return ctx
}

func (b *backend) group(topic string) string { return topic + ".group" }

func (b *backend) join(t *testing.T, topic, instance string) *Assignment {
	t.Helper()
	return b.joinWith(t, topic, instance, func(*Options) {})
}

func (b *backend) joinWith(t *testing.T, topic, instance string, change func(*Options)) *Assignment {
	t.Helper()
	opts := Options{
		Client: b.client, Topic: topic, TopicID: b.topicID, Group: b.group(topic), Instance: instance, Protocol: b.protocol,
		Logger: zerolog.Nop(),
	}
	change(&opts)
	a, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func (b *backend) await(t *testing.T, what string, holds func() bool, all ...*Assignment) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := b.deadline(t); !holds(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s; %s", what, describe(all))
		}
	}
}

// spread waits until these members, and no others, have each partition once, and about as many each.
func (b *backend) spread(t *testing.T, all ...*Assignment) {
	t.Helper()
	b.await(t, "spread", func() bool {
		var union []int32
		for _, a := range all {
			given, fresh := a.Current()
			if !fresh || len(given) < partitions/len(all) {
				return false
			}
			union = append(union, given...)
		}
		slices.Sort(union)
		return slices.Equal(union, []int32{0, 1, 2, 3, 4, 5, 6})
	}, all...)
}

// line is a way to the brokers that can be cut.
type line struct {
	next func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut {
		return nil, errors.New("out of reach")
	}
	conn, err := l.next(ctx, network, address)
	if err == nil {
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

func (l *line) cut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = cut
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}

// watch records all that is given, until it is told to stop.
func watch(a *Assignment) (stop func() [][]int32) {
	var seen [][]int32
	end, ended := make(chan struct{}), make(chan struct{})
	first, _ := a.Current()
	seen = append(seen, first)
	go func() {
		defer close(ended)
		for {
			changed := a.Changed()
			if now, _ := a.Current(); !slices.Equal(now, seen[len(seen)-1]) {
				seen = append(seen, now)
			}
			select {
			case <-changed:
			case <-end:
				return
			}
		}
	}()
	return func() [][]int32 {
		close(end)
		<-ended
		return seen
	}
}

func currents(all []*Assignment) (now [][]int32) {
	for _, a := range all {
		given, _ := a.Current()
		now = append(now, given)
	}
	return now
}

func testJoin(t *testing.T, b *backend) {
	topic := b.topic(t)
	var all []*Assignment
	for _, instance := range []string{"one", "two", "three"} {
		all = append(all, b.join(t, topic, instance))
		b.spread(t, all...)
		for _, a := range all {
			if s := a.Status(); !s.Joined || s.Fault != nil || s.Trying != nil {
				t.Fatalf("%+v", s)
			}
		}
	}
}

// A process that ends and begins again has what it had, the others too, and nothing moves in between.
func testRestart(t *testing.T, b *backend) {
	topic := b.topic(t)
	folder := t.TempDir()
	open := func(instance string) *Assignment {
		return b.joinWith(t, topic, instance, func(o *Options) { o.File = filepath.Join(folder, instance) })
	}
	var all []*Assignment
	for _, instance := range []string{"one", "two", "three"} {
		all = append(all, open(instance))
		b.spread(t, all...)
	}
	before := currents(all)
	for i, a := range all { // the leader too
		var stops []func() [][]int32
		for j, other := range all {
			if j != i {
				stops = append(stops, watch(other))
			}
		}
		a.Close()
		if got, _ := a.Current(); !slices.Equal(got, before[i]) {
			t.Fatalf("closing took %v away: %v", before[i], got)
		}
		all[i] = open(a.opts.Instance)
		if got, _ := all[i].Current(); !slices.Equal(got, before[i]) {
			t.Fatalf("the file says %v, want %v", got, before[i])
		}
		stops = append(stops, watch(all[i]))
		b.spread(t, all...)
		for _, stop := range stops {
			if seen := stop(); len(seen) != 1 {
				t.Fatalf("restart of %s moved %v", a.opts.Instance, seen)
			}
		}
	}
	if after := currents(all); !slices.EqualFunc(before, after, slices.Equal[[]int32]) {
		t.Fatalf("%v, then %v", before, after)
	}
}

// Who claims more than its part gives up the rest, so that the others get it.
func testRefusedClaim(t *testing.T, b *backend) {
	topic := b.topic(t)
	l := &line{next: b.dial}
	client := func(o *Options) { o.Client = append(slices.Clone(o.Client), kgo.Dialer(l.dial)) }
	one, two := b.joinWith(t, topic, "one", client), b.joinWith(t, topic, "two", client)
	b.spread(t, one, two)
	l.cut(true)
	b.await(t, "both are out", func() bool { return !one.Status().Joined && !two.Status().Joined }, one, two)
	everything := make(map[int32]bool)
	for p := range int32(partitions) {
		everything[p] = true
	}
	for a, given := range map[*Assignment]map[int32]bool{one: everything, two: {}} {
		a.mu.Lock()
		a.given = given
		a.mu.Unlock()
	}
	l.cut(false)
	b.spread(t, one, two)
}

// Without brokers everybody keeps what they have, and when those are back nothing has moved.
func testBrokersGone(t *testing.T, b *backend) {
	topic := b.topic(t)
	var all []*Assignment
	for _, instance := range []string{"three", "one", "two"} {
		all = append(all, b.join(t, topic, instance))
		b.spread(t, all...)
	}
	before := currents(all)
	var stops []func() [][]int32
	for _, a := range all {
		stops = append(stops, watch(a))
	}
	b.stop()
	if b.protocol == Classic {
		b.await(t, "the brokers are missed", func() bool {
			return !slices.ContainsFunc(all, func(a *Assignment) bool { s := a.Status(); return s.Joined || s.Trying == nil || s.Fault != nil })
		}, all...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	if err := all[0].Commit(ctx, []Committed{{Partition: before[0][0], Next: 1}}); err == nil {
		t.Fatal("committed without brokers")
	}
	cancel()
	if after := currents(all); !slices.EqualFunc(before, after, slices.Equal[[]int32]) {
		t.Fatalf("without brokers: %v, then %v", before, after)
	}
	b.start()
	b.await(t, "joined again", func() bool {
		return !slices.ContainsFunc(all, func(a *Assignment) bool { s := a.Status(); return !s.Joined || s.Trying != nil })
	}, all...)
	b.spread(t, all...)
	if after := currents(all); !slices.EqualFunc(before, after, slices.Equal[[]int32]) {
		t.Fatalf("the brokers are back: %v, then %v", before, after)
	}
	b.await(t, "commits again", func() bool {
		return all[0].Commit(b.deadline(t), []Committed{{Partition: before[0][0], Next: 1}}) == nil
	}, all...)
	for i, stop := range stops {
		if seen := stop(); len(seen) != 1 {
			t.Errorf("%s: %v", all[i].opts.Instance, seen)
		}
	}
}

// Who does not come back loses its partitions when its session ends.
func testMemberGone(t *testing.T, b *backend) {
	line := &line{next: b.dial}
	topic := b.topic(t)
	all := []*Assignment{
		b.join(t, topic, "one"), b.join(t, topic, "two"),
		b.joinWith(t, topic, "three", func(o *Options) {
			o.SessionTimeout = b.session
			o.Client = append(slices.Clone(o.Client), kgo.Dialer(line.dial))
		}),
	}
	b.spread(t, all...)
	had, _ := all[2].Current()
	line.cut(true)
	b.spread(t, all[:2]...)
	// Itself it does not know, until it hears of the group again.
	if got, _ := all[2].Current(); !slices.Equal(got, had) {
		t.Fatalf("%v, was %v", got, had)
	}
	line.cut(false)
	b.spread(t, all...)
}

// Leaving is not closing: the others get the partitions without waiting for a session to end.
func testLeave(t *testing.T, b *backend) {
	topic := b.topic(t)
	one := b.joinWith(t, topic, "one", func(o *Options) { o.SessionTimeout = 5 * time.Minute })
	two := b.joinWith(t, topic, "two", func(o *Options) { o.SessionTimeout = 5 * time.Minute })
	b.spread(t, one, two)
	if err := one.Leave(b.deadline(t)); err != nil {
		t.Fatal(err)
	}
	b.spread(t, two)
	// Once more changes nothing.
	if err := one.Leave(b.deadline(t)); err != nil {
		t.Fatal(err)
	}
}

// What is committed is for everyone to read, and only of what is given.
func testCommit(t *testing.T, b *backend) {
	topic := b.topic(t)
	one, two := b.join(t, topic, "one"), b.join(t, topic, "two")
	b.spread(t, one, two)
	given, _ := one.Current()
	others, _ := two.Current()
	all := []Committed{
		{Partition: given[0], Next: 17, LeaderEpoch: 0, Metadata: `{"v":1}`},
		{Partition: given[1], Next: 4711, LeaderEpoch: -1},
	}
	if err := one.Commit(b.deadline(t), nil); err != nil {
		t.Fatal(err)
	}
	b.await(t, "a commit", func() bool { return one.Commit(b.deadline(t), all) == nil }, one, two)
	both := []Committed{{Partition: given[0], Next: 99}, {Partition: others[0], Next: 5}}
	if err := one.Commit(b.deadline(t), both); !errors.Is(err, ErrNotGiven) {
		t.Fatalf("of another's: %v", err)
	}
	got, err := kadm.NewClient(b.admin(t)).FetchOffsets(b.deadline(t), b.group(topic))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(got.Offsets().Sorted()); n != 2 {
		t.Fatalf("%d are committed", n)
	}
	for _, want := range all {
		o, ok := got.Lookup(topic, want.Partition)
		if !ok || o.Err != nil || o.At != want.Next || o.Metadata != want.Metadata || o.LeaderEpoch != want.LeaderEpoch {
			t.Errorf("%+v, want %+v", o, want)
		}
	}
}
