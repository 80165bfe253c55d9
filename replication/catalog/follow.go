package catalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"balefire/zones"
)

const (
	// retryWait is how long it is waited before what may pass is tried again.
	retryWait = time.Second
	// maxBatch and maxBatchOctets bound what is taken over in one transaction, which may have 13,107 entries or 1.26 MB with the
	// memtable that there is.
	maxBatch       = 10_000
	maxBatchOctets = 600_000
)

// errOwnFiles marks errors of the copy on disk.
var errOwnFiles = errors.New("the copy of the catalog")

// Run gives the index what is on disk, follows the topic, and says in it what Announce and Reconcile are told, until ctx ends.
func (c *Catalog) Run(ctx context.Context) {
	if err := c.load(ctx); err != nil && ctx.Err() == nil {
		c.log.Error().Err(err).Msg("the copy of the catalog can't be read; the topic is read anew")
		c.forget()
	}
	var work sync.WaitGroup
	work.Go(func() { c.announce(ctx) })
	defer work.Wait()
	for ctx.Err() == nil {
		switch err := c.follow(ctx); {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errDisk):
			c.log.Error().Err(err).Msg("the copy of the catalog is damaged; the topic is read anew")
			c.forget()
		case errors.Is(err, errOwnFiles):
			c.log.Error().Err(err).Msg("the copy of the catalog can't be read or written")
		case errors.Is(err, ErrAnew):
			c.log.Warn().Err(err).Msg("reading the catalog from its start")
			if err := c.beginAnew(c.progress().topic); err != nil {
				c.log.Error().Err(err).Msg("the copy of the catalog can't be written")
			}
		default:
			c.log.Debug().Err(err).Msg("the catalog can't be read just now")
		}
		sleep(ctx, retryWait)
	}
}

// load gives the index everything that is hosted.
func (c *Catalog) load(ctx context.Context) error {
	for k, err := range c.all(ctx, []byte{kindEntry}) {
		if err != nil {
			return err
		}
		if k.Hosted {
			c.opts.Index.PutElsewhere(k.apex, k.partition)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.indexed = c.state.whole
	c.tell()
	return nil
}

// follow reads the topic until something is in the way.
func (c *Catalog) follow(ctx context.Context) error {
	topic := c.opts.Source.TopicID()
	if topic == ([16]byte{}) {
		return errors.New("the catalog topic is not known yet")
	}
	if known := c.progress().topic; known != topic {
		if known != ([16]byte{}) {
			c.log.Warn().Msg("the catalog topic was replaced; it is read, and filled again by the owners of partitions")
		}
		if err := c.beginAnew(topic); err != nil {
			return err
		}
	}
	start, end, err := c.opts.Source.Bounds(ctx)
	if err != nil {
		return err
	}
	// What was removed from the topic's start was replaced by later records, or the owners' doubt, at their next start, brings it back.
	from := max(c.Position(), start)
	if from > end {
		return fmt.Errorf("%w: it ends at %d, and was read to %d", ErrAnew, end, from)
	}
	if err := c.reached(from, end); err != nil {
		return err
	}
	reader, err := c.opts.Source.Open(from)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		records, next, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		if err := c.apply(records, next); err != nil {
			return err
		}
		if err := c.reached(next, end); err != nil {
			return err
		}
	}
}

// beginAnew has a topic read from its start. What is known stays, since positions say what is newer; but it does not count as
// said until it is read again.
func (c *Catalog) beginAnew(topic [16]byte) error {
	state := c.progress()
	state.topic, state.next = topic, 0
	state.reading++
	state.refill = state.reading > 1
	if err := c.update(func(txn *badger.Txn) error { return setProgress(txn, state) }); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	c.unread()
	c.tell()
	return nil
}

// forget begins again with new files, after damage. The topic has everything; the index keeps what it has.
func (c *Catalog) forget() {
	if err := c.renew(); err != nil {
		c.log.Error().Err(err).Msg("the copy of the catalog can't be made anew")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread()
}

// unread notes that it isn't known what the topic says; c.mu is held.
func (c *Catalog) unread() {
	select {
	case <-c.read:
		c.read = make(chan struct{})
	default:
	}
}

// reached notes that the topic was read to an offset, which may be the end that it had.
func (c *Catalog) reached(next, end int64) error {
	if next < end {
		return nil
	}
	c.mu.Lock()
	state, read := c.state, c.read
	c.mu.Unlock()
	select {
	case <-read:
		return nil
	default:
	}
	refill := state.refill
	if !state.whole || refill {
		state.whole, state.refill = true, false
		if err := c.update(func(txn *badger.Txn) error { return setProgress(txn, state) }); err != nil {
			return err
		}
	}
	c.mu.Lock()
	c.state, c.indexed = state, true
	close(c.read)
	c.tell()
	c.mu.Unlock()
	if refill {
		c.opts.Doubt(AllPartitions)
	}
	return nil
}

// awaitRead waits until the topic was read to the end that it had: until then it is not known what it says.
func (c *Catalog) awaitRead(ctx context.Context) error {
	c.mu.Lock()
	read := c.read
	c.mu.Unlock()
	select {
	case <-read:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// apply takes over records: those that are newer than what is known, in transactions with the offset that they bring reading to.
func (c *Catalog) apply(records []Record, next int64) error {
	for {
		n := batchOf(records)
		if n == len(records) {
			return c.applyBatch(records, next)
		}
		if err := c.applyBatch(records[:n], records[n-1].Offset+1); err != nil {
			return err
		}
		records = records[n:]
	}
}

// batchOf returns how many records fit one transaction.
func batchOf(records []Record) int {
	octets := 0
	for i, r := range records {
		if octets += len(r.Key) + 2*valueSize; i == maxBatch || i > 0 && octets > maxBatchOctets {
			return i
		}
	}
	return len(records)
}

// newest returns what records say, of each apex the newest.
func (c *Catalog) newest(records []Record) map[zones.Name]known {
	newest := make(map[zones.Name]known, len(records))
	for _, r := range records {
		if r.Value == nil {
			continue // removed from the topic, long after the zone was
		}
		apex, partition, e, err := parseRecord(r)
		if err != nil || partition != c.opts.PartitionOf(apex) {
			c.ignored.Add(1)
			continue
		}
		if k, ok := newest[apex]; !ok || newer(e, k.Entry) {
			newest[apex] = known{apex: apex, partition: partition, Entry: e}
		}
	}
	return newest
}

func (c *Catalog) applyBatch(records []Record, next int64) error {
	newest := c.newest(records)
	state := c.progress()
	if len(newest) == 0 && next == state.next {
		return nil
	}
	state.next = next
	c.feedMu.Lock()
	defer c.feedMu.Unlock()
	// A crash before the commit leaves entries and position as they were, and the records are read again; one behind it loses
	// the index, which is made from the disk.
	err := c.update(func(txn *badger.Txn) error {
		for apex, k := range newest {
			key := entryKey(k.partition, apex)
			old, ok, err := getEntry(txn, key)
			if err != nil {
				return err
			}
			if ok && !newer(k.Entry, old.Entry) {
				delete(newest, apex)
				if k.Entry != old.Entry || old.reading == state.reading {
					continue
				}
			}
			k.reading = state.reading
			if err := txn.Set(key, k.pack()); err != nil {
				return err
			}
		}
		return setProgress(txn, state)
	})
	if err != nil {
		return fmt.Errorf("catalog at %d: %w", next, err)
	}
	for apex, k := range newest {
		if k.Hosted {
			c.opts.Index.PutElsewhere(apex, k.partition)
		} else {
			c.opts.Index.RemoveElsewhere(apex)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = state
	c.tell()
	return nil
}

// sleep waits, and reports whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
