package assignment

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// patient is a session that does not end because the machine is busy.
const patient = 45 * time.Second

// fake starts a broker in memory, whose members may be silent for as long as a session.
func fake(t *testing.T, protocol string, session time.Duration) (*backend, *kfake.Cluster) {
	t.Helper()
	network := new(kfake.VirtualNetwork)
	l := &line{next: network.DialContext}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(network.Listen),
		kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.BrokerConfigs(map[string]string{
			"group.consumer.session.timeout.ms":    strconv.FormatInt(session.Milliseconds(), 10),
			"group.consumer.heartbeat.interval.ms": "200",
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &backend{
		client:   []kgo.Opt{kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(l.dial)},
		dial:     l.dial,
		stop:     func() { l.cut(true) },
		start:    func() { l.cut(false) },
		protocol: protocol, session: session, patience: time.Minute,
	}, cluster
}

func TestFakeBrokers(t *testing.T) {
	for _, protocol := range []string{Classic, Consumer} {
		t.Run(protocol, func(t *testing.T) {
			for name, test := range suiteOf(protocol) {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					session := patient
					if name == "MemberGone" {
						session = 3 * time.Second // which is waited for
					}
					b, _ := fake(t, protocol, session)
					test(t, b)
				})
			}
		})
	}
}

func TestOptions(t *testing.T) {
	whole := Options{Topic: "t", Group: "g", Instance: "i", Client: []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}}
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no topic":         {func(o *Options) { o.Topic = "" }, "needed"},
		"no group":         {func(o *Options) { o.Group = "" }, "needed"},
		"no id":            {func(o *Options) { o.Instance = "" }, "needed"},
		"another protocol": {func(o *Options) { o.Protocol = "eager" }, "want classic or consumer"},
		"a client's":       {func(o *Options) { o.Client = append(o.Client, kgo.DialTLS(), kgo.Dialer(new(net.Dialer).DialContext)) }, "assignment: "},
	} {
		o := whole
		c.change(&o)
		if a, err := Open(o); err == nil {
			a.Close()
			t.Errorf("%s: opened", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Nobody answers: what the file says is there at once, and closing does not wait for brokers.
func TestWithoutBrokers(t *testing.T) {
	for _, protocol := range []string{Classic, Consumer} {
		file := filepath.Join(t.TempDir(), "assignment.json")
		if err := writeFile(file, [16]byte{7}, "group", []int32{4, 2}); err != nil {
			t.Fatal(err)
		}
		a, err := Open(Options{
			Client: []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}, Topic: "t", TopicID: [16]byte{7}, Group: "group", Instance: "i",
			Protocol: protocol, File: file, Logger: zerolog.Nop(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, fresh := a.Current(); fresh || !slices.Equal(got, []int32{2, 4}) {
			t.Errorf("%v, %v", got, fresh)
		}
		if s := a.Status(); s.Joined || s.Fault != nil {
			t.Errorf("%+v", s)
		}
		if err := a.Commit(t.Context(), []Committed{{Partition: 2, Next: 1}}); !errors.Is(err, ErrNotGiven) {
			t.Errorf("commit without the group: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got, _ := a.Current(); !slices.Equal(got, []int32{2, 4}) {
			t.Errorf("after closing: %v", got)
		}
	}
}

// Two processes with one id: the first is put out, says so, and does not come back at once.
func TestTwoWithOneID(t *testing.T) {
	b, cluster := fake(t, Classic, patient)
	topic := b.topic(t)
	var joins atomic.Int32
	cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		joins.Add(1)
		cluster.KeepControl()
		return nil, nil, false
	})
	first := b.join(t, topic, "one")
	b.spread(t, first)
	second := b.join(t, topic, "one")
	b.spread(t, second)
	b.await(t, "the first says what is wrong", func() bool { return first.Status().Fault != nil }, first, second)
	s := first.Status()
	if s.Joined || !strings.Contains(s.Fault.Error(), "two nodes have one id") || !strings.Contains(s.Fault.Error(), "give each node a node-id of its own") {
		t.Fatalf("%+v", s)
	}
	// It keeps what it has: it may be the one that is right.
	if got, fresh := first.Current(); fresh || len(got) != partitions {
		t.Fatalf("%v, %v", got, fresh)
	}
	b.await(t, "the first is out of the group", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.client == nil
	}, first, second)
	// For as long as the second has gone on being in the group, nobody has joined again.
	before := joins.Load()
	beats := make(chan struct{}, 1)
	var n atomic.Int32
	cluster.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if n.Add(1) == 3 {
			beats <- struct{}{}
		}
		return nil, nil, false
	})
	select {
	case <-beats:
	case <-b.deadline(t).Done():
		t.Fatal("the second does not say that it lives")
	}
	if after := joins.Load(); after != before || after > 8 {
		t.Fatalf("%d joins, then %d", before, after)
	}
	if s := second.Status(); !s.Joined || s.Fault != nil {
		t.Fatalf("%+v", s)
	}
}

// Whoever was put out of the group comes back after a while, and then it is the other's turn to say so.
func TestFencedComesBack(t *testing.T) {
	b, _ := fake(t, Classic, patient)
	topic := b.topic(t)
	first := b.joinWith(t, topic, "one", func(o *Options) { o.fencedWait = 500 * time.Millisecond })
	b.spread(t, first)
	second := b.join(t, topic, "one")
	b.await(t, "the second is told that the first came back", func() bool {
		return second.Status().Fault != nil && first.Status().Joined && first.Status().Fault == nil
	}, first, second)
}

// A group that is of another protocol says so, and what to do.
func TestAnotherProtocolIsAFault(t *testing.T) {
	b, _ := fake(t, Classic, patient)
	topic := b.topic(t)
	client, err := kgo.NewClient(append(slices.Clone(b.client), kgo.ConsumerGroup(b.group(topic)), kgo.ConsumeTopics(topic),
		kgo.Balancers(kgo.RangeBalancer()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	b.await(t, "another member", func() bool { _, generation := client.GroupMetadata(); return generation > 0 })
	a := b.join(t, topic, "one")
	b.await(t, "a fault", func() bool { return a.Status().Fault != nil }, a)
	if text := a.Status().Fault.Error(); !strings.Contains(text, b.group(topic)) || !strings.Contains(text, "the same kafka.group-protocol") {
		t.Fatal(text)
	}
	client.Close()
	b.spread(t, a)
	if s := a.Status(); !s.Joined || s.Fault != nil || s.Trying != nil {
		t.Fatalf("%+v", s)
	}
}

// Brokers without KIP-848 are spoken to by the classic protocol.
func TestOlderBrokers(t *testing.T) {
	b, cluster := fake(t, Consumer, patient)
	cluster.ControlKey(int16(kmsg.ConsumerGroupHeartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := r.ResponseKind().(*kmsg.ConsumerGroupHeartbeatResponse)
		response.ErrorCode = 35 // UNSUPPORTED_VERSION
		return response, nil, true
	})
	topic := b.topic(t)
	all := []*Assignment{b.join(t, topic, "one"), b.join(t, topic, "two")}
	b.spread(t, all...)
	if info := cluster.GroupInfo(b.group(topic)); info == nil || len(info.Members) != 2 {
		t.Fatalf("%+v", info)
	}
}

// Nothing is ever fetched.
func TestNothingIsFetched(t *testing.T) {
	b, cluster := fake(t, Classic, patient)
	topic := b.topic(t)
	var fetched atomic.Int32
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.ListOffsets} {
		cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			fetched.Add(1)
			cluster.KeepControl()
			return nil, nil, false
		})
	}
	client := b.admin(t)
	for p := range int32(partitions) {
		if err := client.ProduceSync(b.deadline(t), &kgo.Record{Topic: topic, Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	one := b.join(t, topic, "one")
	b.spread(t, one)
	two := b.join(t, topic, "two")
	b.spread(t, one, two)
	if n := fetched.Load(); n != 0 {
		t.Fatalf("%d requests for records", n)
	}
}

func describe(all []*Assignment) string {
	var text []string
	for _, a := range all {
		given, fresh := a.Current()
		text = append(text, fmt.Sprintf("%s: %v, %v, %+v", a.opts.Instance, given, fresh, a.Status()))
	}
	return strings.Join(text, "; ")
}

func (b *backend) admin(t *testing.T) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(slices.Clone(b.client), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// topic makes the test's topic.
func (b *backend) topic(t *testing.T) string {
	t.Helper()
	name := strings.NewReplacer("/", "-", "#", "-").Replace(t.Name())
	admin := kadm.NewClient(b.admin(t))
	var last error
	b.await(t, "a topic", func() bool {
		made, err := admin.CreateTopic(b.deadline(t), partitions, 1, nil, name)
		if err == nil {
			b.topicID = made.ID
		}
		last = err
		return err == nil
	})
	if last != nil {
		t.Fatal(last)
	}
	return name
}
