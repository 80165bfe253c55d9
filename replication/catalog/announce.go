package catalog

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"sync"
	"time"

	"balefire/zones"
)

// Every replica group has an owner of each partition, and all of them apply the same creation of a zone. One is enough to say so:
// the first by rank does it at once, and the next only when the entry has not come by after a while.
const (
	rankWait    = 150 * time.Millisecond
	rankWaitMax = time.Second
	// maxPending is how many entries may wait to be written; who has more to say waits.
	maxPending = 100_000
	// maxPublish is how many are written at once.
	maxPublish = 2000
)

// pending is an entry that may have to be written.
type pending struct {
	partition int32
	Entry
	due time.Time
}

// queue is what waits to be said.
type queue struct {
	mu      sync.Mutex
	waiting map[zones.Name]pending
	wake    chan struct{} // capacity 1: something is there
	room    chan struct{} // closed and replaced when something was taken out
}

func (q *queue) init() {
	q.waiting = make(map[zones.Name]pending)
	q.wake, q.room = make(chan struct{}, 1), make(chan struct{})
}

// put adds an entry, waiting for room.
func (q *queue) put(ctx context.Context, apex zones.Name, p pending) error {
	for {
		q.mu.Lock()
		old, there := q.waiting[apex]
		if there || len(q.waiting) < maxPending {
			if !there || newer(p.Entry, old.Entry) {
				q.waiting[apex] = p
			}
			q.mu.Unlock()
			select {
			case q.wake <- struct{}{}:
			default:
			}
			return nil
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// due returns entries whose time has come, and when the next one's comes; they stay until done is called.
func (q *queue) due(now time.Time) (due map[zones.Name]pending, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	due, next = make(map[zones.Name]pending), time.Hour
	for apex, p := range q.waiting {
		if wait := p.due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if due[apex] = p; len(due) == maxPublish {
			return due, 0
		}
	}
	return due, next
}

// done takes out what was said, unless there is something newer to say.
func (q *queue) done(said map[zones.Name]pending) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for apex, p := range said {
		if q.waiting[apex] == p {
			delete(q.waiting, apex)
		}
	}
	close(q.room)
	q.room = make(chan struct{})
}

// Announce has it said that a zone is hosted, or not any more, as of an offset of its partition, which this node owns. It waits only
// while much is to be said already; the error is ctx's.
func (c *Catalog) Announce(ctx context.Context, partition int32, apex zones.Name, hosted bool, offset int64) error {
	wait := min(time.Duration(c.opts.Rank(apex))*rankWait, rankWaitMax)
	return c.queue.put(ctx, apex, pending{partition, Entry{hosted, offset}, time.Now().Add(wait)})
}

// announce writes what is to be said, until ctx ends.
func (c *Catalog) announce(ctx context.Context) {
	for {
		due, next := c.queue.due(time.Now())
		if len(due) > 0 {
			if err := c.say(ctx, due); err != nil {
				c.log.Debug().Err(err).Msg("the catalog can't be written just now")
				if !sleep(ctx, retryWait) {
					return
				}
				continue
			}
			c.queue.done(due)
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-c.queue.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// say writes those entries that nobody has said.
func (c *Catalog) say(ctx context.Context, due map[zones.Name]pending) error {
	var records []Record
	for apex, p := range due {
		known, ok, err := c.Get(apex)
		if err != nil {
			return err
		}
		if !ok || newer(p.Entry, known) {
			records = append(records, appendRecord(apex, p.partition, p.Entry))
		}
	}
	if len(records) == 0 {
		return nil
	}
	return c.opts.Publisher.PublishAll(ctx, records)
}

// Reconcile compares what is said of a partition with what it has, as of its offset applied, and has said what is missing or
// wrong: after the partition was restored, or entries were lost.
func (c *Catalog) Reconcile(ctx context.Context, partition int32, hosted iter.Seq2[zones.Name, error], applied int64) error {
	seed := maphash.MakeSeed()
	said := make(map[uint64]bool) // by hash of the apex: two that clash cost one deletion that isn't said
	for apex, err := range c.Hosted(ctx, partition) {
		if err != nil {
			return fmt.Errorf("catalog of partition %d: %w", partition, err)
		}
		said[maphash.String(seed, string(apex))] = true
	}
	for apex, err := range hosted {
		if err != nil {
			return fmt.Errorf("zones of partition %d: %w", partition, err)
		}
		hash := maphash.String(seed, string(apex))
		if said[hash] {
			delete(said, hash)
			continue
		}
		if err := c.Announce(ctx, partition, apex, true, applied); err != nil {
			return err
		}
	}
	if len(said) == 0 {
		return nil
	}
	for apex, err := range c.Hosted(ctx, partition) {
		if err != nil {
			return fmt.Errorf("catalog of partition %d: %w", partition, err)
		}
		if !said[maphash.String(seed, string(apex))] {
			continue
		}
		// What was said later than what the partition has applied may be right; Get says so when it is written.
		if err := c.Announce(ctx, partition, apex, false, applied); err != nil {
			return err
		}
	}
	return nil
}
