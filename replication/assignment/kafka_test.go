//go:build kafka

package assignment

import (
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"balefire/replication/kafkatest"
)

// The suite on Apache Kafka, by both protocols at once: most of it waits for sessions to end.
func TestKafkaClassic(t *testing.T) {
	t.Parallel()
	b := onKafka(t, Classic)
	t.Run("Mixed", func(t *testing.T) { testMixed(t, b) })
}

func TestKafkaConsumer(t *testing.T) {
	t.Parallel()
	b := onKafka(t, Consumer)
	t.Run("TwoWithOneID", func(t *testing.T) { testConsumerTwoWithOneID(t, b) })
}

// onKafka runs the suite on a broker of its own, which it returns.
func onKafka(t *testing.T, protocol string) backend {
	broker := kafkatest.Start(t)
	b := backend{
		client: []kgo.Opt{kgo.SeedBrokers(broker.Address())}, dial: new(net.Dialer).DialContext, stop: broker.Kill, start: broker.Restart,
		protocol: protocol, session: 6 * time.Second, patience: 2 * time.Minute,
	}
	admin := kadm.NewClient(b.admin(t))
	b.await(t, "a broker", func() bool { _, err := admin.ListTopics(b.deadline(t)); return err == nil })
	for name, test := range suiteOf(protocol) {
		t.Run(name, func(t *testing.T) {
			b := b
			test(t, &b)
		})
	}
	return b
}

// While the setting is being changed, node by node, a group has members of both protocols, and each partition once.
func testMixed(t *testing.T, b backend) {
	topic := b.topic(t)
	classic := b.join(t, topic, "one")
	b.spread(t, classic)
	b.protocol = Consumer
	consumer := b.join(t, topic, "two")
	b.spread(t, classic, consumer)
	third := b.join(t, topic, "three")
	b.spread(t, classic, consumer, third)
	for _, a := range []*Assignment{classic, consumer, third} {
		if s := a.Status(); !s.Joined || s.Fault != nil || s.Trying != nil {
			t.Errorf("%s: %+v", a.opts.Instance, s)
		}
	}
	classic.Close()
	changed := b.join(t, topic, "one")
	b.spread(t, changed, consumer, third)
}

// By the broker's protocol it is the second that is kept out.
func testConsumerTwoWithOneID(t *testing.T, b backend) {
	topic := b.topic(t)
	first := b.join(t, topic, "one")
	b.spread(t, first)
	second := b.join(t, topic, "one")
	b.await(t, "the second says what is wrong", func() bool { return second.Status().Fault != nil }, first, second)
	if got, fresh := second.Current(); fresh || len(got) != 0 {
		t.Fatalf("%v, %v", got, fresh)
	}
	if s := first.Status(); !s.Joined || s.Fault != nil {
		t.Fatalf("%+v", s)
	}
	first.Close()
	b.spread(t, second)
	if s := second.Status(); !s.Joined || s.Fault != nil || s.Trying != nil {
		t.Fatalf("%+v", s)
	}
}
