package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Past reads what the brokers still have of a namespace's mutations, for a tool, and leaves no trace: no topic is made, no group
// joined, nothing published. Its methods may be used from many goroutines.
type Past struct {
	log     *Log // a client and names; never established, so nothing can be published
	topic   topic
	stopped chan struct{}
	close   sync.Once
}

// OpenPast finds the mutations topic of a namespace. Of the options, Namespace, Brokers, Client and Logger are used. The error
// says that no broker answers in time, or that there is no such topic.
func OpenPast(ctx context.Context, opts Options) (*Past, error) {
	if !namespacePattern.MatchString(opts.Namespace) || len(opts.Brokers) == 0 {
		return nil, errors.New("reading the log takes a namespace and brokers")
	}
	opts.DeliveryTimeout = defaultDelivery
	l := &Log{
		opts: opts, log: opts.Logger, sends: new(sendCounter), reach: []kgo.Opt{kgo.SeedBrokers(opts.Brokers...)},
		mutations: opts.Namespace + ".mutations", controls: opts.Namespace + ".control", catalogs: opts.Namespace + ".catalog",
	}
	client, err := l.newClient()
	if err != nil {
		return nil, err
	}
	l.client, l.admin, l.consumer = client, kadm.NewClient(client), newConsumer(client)
	found, err := l.describeTopics(ctx)
	if err == nil && !found.mutations.exists {
		err = fmt.Errorf("there is no topic %s", l.mutations)
	}
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("the log of namespace %s on %v: %w", opts.Namespace, opts.Brokers, explain(err))
	}
	p := &Past{log: l, topic: found.mutations, stopped: make(chan struct{})}
	go func() {
		defer close(p.stopped)
		l.consumer.run()
	}()
	return p, nil
}

// TopicID is the mutations topic's, by which backups of it are known.
func (p *Past) TopicID() [16]byte { return p.topic.id }

// Partitions is how many the topic has.
func (p *Past) Partitions() int32 { return p.topic.partitions }

// Bounds is Log.Bounds.
func (p *Past) Bounds(ctx context.Context) (map[int32]Bounds, error) {
	return p.log.bounds(ctx, p.log.mutations)
}

// Consume begins to read a partition at an offset, as Log.Consume does.
func (p *Past) Consume(partition int32, offset int64) (*Stream, error) {
	return p.log.consumer.open(p.log.mutations, partition, offset, -1)
}

// Close ends all streams.
func (p *Past) Close() {
	p.close.Do(func() {
		p.log.client.Close()
		<-p.stopped
	})
}
