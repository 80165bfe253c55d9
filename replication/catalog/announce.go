package catalog

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"balefire/zones"
)

// Every replica group has an owner of each partition, and all of them apply the same creation of a zone. One is enough to say so:
// the first by rank does it at once, and the next only when the entry has not come by after a while.
const (
	rankWait    = 150 * time.Millisecond
	rankWaitMax = time.Second
	// maxPending is how many entries may wait to be written. What is announced beyond is found by comparing the partition later.
	maxPending = 100_000
	// maxCompared is how many of them may come from such a comparison, which waits.
	maxCompared = maxPending / 2
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
	missed  map[int32]bool // partitions of which something did not fit
	next    time.Time      // when something is looked for
	wake    chan struct{}  // capacity 1: something is there before next
	room    chan struct{}  // closed and replaced when something was taken out
}

func (q *queue) init() {
	q.waiting, q.missed = make(map[zones.Name]pending), make(map[int32]bool)
	q.wake, q.room = make(chan struct{}, 1), make(chan struct{})
}

// put adds an entry if fewer than limit wait; else it returns a channel that is closed when that may have changed.
func (q *queue) put(apex zones.Name, p pending, limit int) (full <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	old, there := q.waiting[apex]
	if !there && len(q.waiting) >= limit {
		return q.room
	}
	if there && !newer(p.Entry, old.Entry) {
		return nil
	}
	q.waiting[apex] = p
	q.wakeAt(p.due)
	return nil
}

// wakeAt has the writer look at a time, or before; mu is held.
func (q *queue) wakeAt(due time.Time) {
	if due.Before(q.next) {
		q.next = due
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// miss notes that something of a partition did not fit.
func (q *queue) miss(partition int32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.missed[partition] = true
}

// due returns entries whose time has come, which stay until done is called, and when the next one's comes. When nothing waits
// it takes out the partitions of which something was missed.
func (q *queue) due(now time.Time) (due map[zones.Name]pending, next time.Duration, missed []int32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		missed = slices.Collect(maps.Keys(q.missed))
		clear(q.missed)
	}
	due, next = make(map[zones.Name]pending), time.Hour
	for apex, p := range q.waiting {
		if wait := p.due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if due[apex] = p; len(due) == maxPublish {
			next = 0
			break
		}
	}
	q.next = now.Add(next)
	return due, next, missed
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

// Announce has it said that a zone is hosted, or not any more, as of an offset of its partition, which this node owns. It doesn't
// wait: what is too much at once comes back as a doubt.
func (c *Catalog) Announce(partition int32, apex zones.Name, hosted bool, offset int64) {
	due := time.Now().Add(min(time.Duration(c.opts.Rank(apex))*rankWait, rankWaitMax))
	if c.queue.put(apex, pending{partition, Entry{hosted, offset}, due}, maxPending) != nil {
		c.queue.miss(partition)
	}
}

// announce writes what is to be said, until ctx ends.
func (c *Catalog) announce(ctx context.Context) {
	failing := false
	for {
		due, next, missed := c.queue.due(time.Now())
		for _, partition := range missed {
			c.log.Warn().Int32("partition", partition).Msg("more zones came or went than could be said at once; the catalog is compared with the partition")
			c.opts.Doubt(partition)
		}
		if len(due) > 0 {
			if err := c.say(ctx, due); err != nil {
				if !failing && ctx.Err() == nil {
					c.log.Warn().Err(err).Msg("the catalog can't be written just now")
				}
				failing = true
				if !sleep(ctx, retryWait) {
					return
				}
				continue
			}
			failing = false
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

// say writes those entries that the topic does not have.
func (c *Catalog) say(ctx context.Context, due map[zones.Name]pending) error {
	var records []Record
	reading := c.progress().reading
	for apex, p := range due {
		k, ok, err := c.get(apex)
		if err != nil {
			return err
		}
		switch {
		case !ok || newer(p.Entry, k.Entry):
			records = append(records, appendRecord(apex, p.partition, p.Entry))
		case k.reading != reading: // only an earlier topic has said it
			records = append(records, appendRecord(apex, p.partition, k.Entry))
		}
	}
	if len(records) == 0 {
		return nil
	}
	return c.opts.Publisher.PublishAll(ctx, records)
}
