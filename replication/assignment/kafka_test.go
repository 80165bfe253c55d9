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

// TestKafka runs the suite on Apache Kafka, by both protocols.
func TestKafka(t *testing.T) {
	broker := kafkatest.Start(t)
	b := backend{
		client: []kgo.Opt{kgo.SeedBrokers(broker.Address())}, dial: new(net.Dialer).DialContext, stop: broker.Kill, start: broker.Restart,
		protocol: Classic, session: 6 * time.Second, patience: 2 * time.Minute,
	}
	admin := kadm.NewClient(b.admin(t))
	b.await(t, "a broker", func() bool { _, err := admin.ListTopics(b.deadline(t)); return err == nil })
	for _, protocol := range []string{Classic, Consumer} {
		t.Run(protocol, func(t *testing.T) {
			for name, test := range suiteOf(protocol) {
				t.Run(name, func(t *testing.T) {
					b := b
					b.protocol = protocol
					test(t, &b)
				})
			}
		})
	}
	t.Run("Mixed", func(t *testing.T) { testMixed(t, b) })
	t.Run("ConsumerTwoWithOneID", func(t *testing.T) { testConsumerTwoWithOneID(t, b) })
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
	b.protocol = Consumer
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
