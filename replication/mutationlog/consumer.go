package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// A stream that holds its share of windowTotal is not fetched for, until it holds half of that. With what one fetch
	// brings, that bounds the memory of partitions that are applied slowly. A share is large when few partitions are
	// consumed: fetching for one again begins when the fetch under way for the others ends, up to fetchWait later.
	windowTotal = 64 << 20
	windowMin   = 1 << 20
	windowMax   = 8 << 20
	// fetchWait is how long a broker holds a fetch that finds nothing.
	fetchWait = 500 * time.Millisecond
	// maxBatchRecords bounds what Next returns at once.
	maxBatchRecords = 1000
	// recordOverhead is what a record costs beside its key and value, roughly.
	recordOverhead = 128
)

// Record is a record of the log. Its bytes belong to whoever got it.
type Record struct {
	Partition   int32
	Offset      int64
	LeaderEpoch int32
	Time        time.Time
	Key, Value  []byte
	// After is the offset of the record before it. What is between is the brokers' own: the ends of transactions.
	// For the first of a stream it is the offset before the one that was asked for.
	After int64
}

// Batch is what a stream had ready: consecutive records of one partition. There are none when the log went on with nothing
// but records of the brokers' own.
type Batch struct {
	Records []Record
	// Next is the offset that reading has come to.
	Next int64
	// End is the offset after the partition's last record, as the broker said with the newest of these records.
	End int64
}

// Stream gives the records of one partition, from an exact offset on. One goroutine reads it.
type Stream struct {
	consumer  *consumer
	topic     string
	partition int32

	mu      sync.Mutex
	ready   chan struct{} // capacity 1: something changed
	records []Record
	size    int
	next    int64 // the lowest offset that may come
	last    int64 // of the last record that is not the brokers' own
	given   int64 // Next of the last batch
	end     int64
	paused  bool
	trouble error // passing; given once
	failure error // for good; given when the records are used up
}

// Next waits for records and returns them. An error that is a *OutOfRangeError, *DivergedError, *MismatchError, or marked
// ErrClosed, ErrReplaced or ErrCorrupt is the end of the stream; records before it have been given. The context's error leaves the stream as
// it is. Any other error is the brokers' and may pass: calling again goes on where the stream was.
func (s *Stream) Next(ctx context.Context) (Batch, error) {
	for {
		batch, resume, err := s.take()
		if resume {
			s.consumer.client.ResumeFetchPartitions(map[string][]int32{s.topic: {s.partition}})
		}
		if err != nil || batch.Next > 0 {
			return batch, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		}
	}
}

func (s *Stream) take() (batch Batch, resume bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) == 0 {
		err, s.trouble = s.trouble, nil
		if s.failure != nil {
			err = s.failure
		}
		if err == nil && s.next > s.given {
			s.given = s.next
			return Batch{Next: s.next, End: s.end}, false, nil
		}
		return Batch{}, false, err
	}
	n := min(len(s.records), maxBatchRecords)
	batch = Batch{Records: s.records[:n:n], Next: s.records[n-1].Offset + 1, End: s.end}
	s.given = batch.Next
	s.records = s.records[n:]
	for _, r := range batch.Records {
		s.size -= recordSize(r)
	}
	if s.paused && s.size < s.consumer.window()/2 {
		s.paused, resume = false, true
	}
	return batch, resume, nil
}

func recordSize(r Record) int { return len(r.Key) + len(r.Value) + recordOverhead }

// Close ends the stream. The partition can be consumed again after it has returned.
func (s *Stream) Close() { s.consumer.remove(s, ErrClosed) }

// add hands records over, and reports whether fetching must pause.
func (s *Stream) add(records []*kgo.Record, end int64) (pause bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil {
		return false
	}
	for _, r := range records {
		if r.Offset < s.next {
			s.failure = &DivergedError{Partition: s.partition, Offset: s.next, Lost: r.Offset}
			break
		}
		if r.Offset > s.next {
			s.last = r.Offset - 1 // something is missing, and not made up for
		}
		s.next = r.Offset + 1
		if r.Attrs.IsControl() {
			continue
		}
		record := Record{
			Partition: r.Partition, Offset: r.Offset, LeaderEpoch: r.LeaderEpoch,
			Time: r.Timestamp, Key: r.Key, Value: r.Value, After: s.last,
		}
		s.last = r.Offset
		s.records = append(s.records, record)
		s.size += recordSize(record)
	}
	s.end = end
	if s.size > s.consumer.window() && !s.paused {
		s.paused, pause = true, true
	}
	s.signal()
	return pause
}

// stop ends the stream with a failure.
func (s *Stream) stop(failure error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == nil {
		s.failure = failure
	}
	if errors.Is(failure, ErrClosed) {
		s.records, s.size = nil, 0
	}
	s.signal()
}

func (s *Stream) stopOutOfRange(start, end int64) {
	s.mu.Lock()
	next := s.next
	s.mu.Unlock()
	s.stop(&OutOfRangeError{Partition: s.partition, Offset: next, Start: start, End: end})
}

func (s *Stream) upset(trouble error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = trouble
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

type topicPartition struct {
	topic     string
	partition int32
}

// consumer hands what one client fetches to the streams of its partitions.
type consumer struct {
	client *kgo.Client

	count atomic.Int64 // len(streams)

	mu        sync.Mutex
	streams   map[topicPartition]*Stream
	failure   error
	round     uint64        // how often the client was polled
	turned    chan struct{} // closed when round goes up
	interrupt context.CancelFunc
	stopped   bool
}

func newConsumer(client *kgo.Client) *consumer {
	return &consumer{
		client:  client,
		streams: make(map[topicPartition]*Stream), turned: make(chan struct{}), interrupt: func() {},
	}
}

// open begins a stream at an exact offset. A leader epoch of -1 means that none is known; with one, a log that was truncated
// below the offset is found out.
func (c *consumer) open(topic string, partition int32, offset int64, leaderEpoch int32) (*Stream, error) {
	key := topicPartition{topic, partition}
	s := &Stream{consumer: c, topic: topic, partition: partition, ready: make(chan struct{}, 1), next: offset, last: offset - 1, given: offset, end: -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return nil, c.failure
	}
	if c.streams[key] != nil {
		return nil, fmt.Errorf("partition %d of topic %s is being consumed", partition, topic)
	}
	c.streams[key] = s
	c.count.Store(int64(len(c.streams)))
	at := kgo.NoResetOffset().At(offset)
	if leaderEpoch >= 0 {
		at = at.WithEpoch(leaderEpoch)
	}
	c.client.ResumeFetchPartitions(map[string][]int32{topic: {partition}})
	c.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: at}})
	return s, nil
}

// remove ends a stream, and returns when nothing that was fetched for it can arrive any more: a stream that is opened
// next must not get the leftovers of this one.
func (c *consumer) remove(s *Stream, why error) {
	key := topicPartition{s.topic, s.partition}
	s.stop(why)
	c.mu.Lock()
	if c.streams[key] != s {
		c.mu.Unlock()
		return
	}
	if errors.Is(c.failure, ErrClosed) { // the client is being closed, or is: it takes care of all, and must not be disturbed
		delete(c.streams, key)
		c.mu.Unlock()
		return
	}
	c.client.RemoveConsumePartitions(map[string][]int32{s.topic: {s.partition}})
	for from := c.round; c.round == from && !c.stopped; {
		c.interrupt()
		turned := c.turned
		c.mu.Unlock()
		<-turned
		c.mu.Lock()
	}
	delete(c.streams, key)
	c.count.Store(int64(len(c.streams)))
	c.mu.Unlock()
}

// fail ends all streams, those to come too.
func (c *consumer) fail(failure error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil || errors.Is(failure, ErrClosed) {
		c.failure = failure
	}
	for _, s := range c.streams {
		s.stop(failure)
	}
}

// release has the client consume nothing, after fail: otherwise metadata that comes while it is being closed makes it begin to fetch for
// partitions that it was given just before, beside its own closing of the sessions.
func (c *consumer) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string][]int32)
	for key := range c.streams {
		all[key.topic] = append(all[key.topic], key.partition)
	}
	if len(all) > 0 {
		c.client.RemoveConsumePartitions(all)
	}
}

// failTopic ends the streams of a topic; new ones can be opened.
func (c *consumer) failTopic(topic string, failure error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, s := range c.streams {
		if key.topic == topic {
			s.stop(failure)
		}
	}
}

// window is how many octets a stream may hold.
func (c *consumer) window() int {
	return min(max(windowTotal/max(1, int(c.count.Load())), windowMin), windowMax)
}

// run polls the client until it is closed.
func (c *consumer) run() {
	for {
		ctx, cancel := context.WithCancel(context.Background())
		c.mu.Lock()
		c.turn()
		c.interrupt = cancel
		c.mu.Unlock()
		fetches := c.client.PollRecords(ctx, -1)
		cancel()
		if fetches.IsClientClosed() {
			c.mu.Lock()
			c.stopped = true
			c.turn()
			c.mu.Unlock()
			c.fail(ErrClosed)
			return
		}
		if errors.Is(fetches.Err0(), context.Canceled) {
			continue
		}
		// Errors first: after a loss the client resumes elsewhere by itself, and what it found there may be in the
		// same fetch, before the error.
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if p.Err != nil {
				c.dispatchError(p.Topic, p.FetchPartition)
			}
		})
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			s := c.stream(p.Topic, p.Partition)
			if s != nil && len(p.Records) > 0 && s.add(p.Records, p.HighWatermark) {
				c.client.PauseFetchPartitions(map[string][]int32{p.Topic: {p.Partition}})
			}
		})
	}
}

// turn begins a round; c.mu is held.
func (c *consumer) turn() {
	c.round++
	close(c.turned)
	c.turned = make(chan struct{})
}

func (c *consumer) stream(topic string, partition int32) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[topicPartition{topic, partition}]
}

// dispatchError tells a stream what went wrong with its partition, and no other.
func (c *consumer) dispatchError(topic string, p kgo.FetchPartition) {
	if p.Partition < 0 || topic == "" { // said of a whole topic, or of everything
		c.mu.Lock()
		defer c.mu.Unlock()
		for key, s := range c.streams {
			if topic == "" || key.topic == topic {
				s.upset(p.Err)
			}
		}
		return
	}
	s := c.stream(topic, p.Partition)
	if s == nil {
		return
	}
	var lost *kgo.ErrDataLoss
	switch {
	case errors.As(p.Err, &lost):
		s.stop(&DivergedError{Partition: p.Partition, Offset: lost.ConsumedTo, Lost: lost.ResetTo})
	case errors.Is(p.Err, kerr.OffsetOutOfRange):
		s.stopOutOfRange(p.LogStartOffset, p.HighWatermark)
	default:
		s.upset(fmt.Errorf("fetch partition %d: %w", p.Partition, p.Err))
	}
}
