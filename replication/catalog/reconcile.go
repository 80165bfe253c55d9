package catalog

import (
	"context"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"time"

	"balefire/zones"
)

// What a comparison finds is not urgent, and is much at times: other groups' owners wait for longer.
const (
	comparedWait    = 4 * rankWait
	comparedWaitMax = 4 * rankWaitMax
)

// Partition gives the apexes of all zones of a partition, and the offset as of which it has them. Until they have been gone
// through, it may be held up: that is not made to wait for anything. (*store.Partition).Apexes is one.
type Partition func(ctx context.Context) (applied int64, apexes iter.Seq2[zones.Name, error], err error)

// Reconcile compares the topic with a partition that this node owns, and has said what is missing, wrong or only known from an
// earlier topic: after the partition was restored, or something was lost. It waits until the topic has been read, and while much is
// to be said already; the error is ctx's, or that of reading.
func (c *Catalog) Reconcile(ctx context.Context, partition int32, content Partition) error {
	if err := c.awaitRead(ctx); err != nil {
		return err
	}
	said := apexSet{seed: maphash.MakeSeed()}
	reading := c.progress().reading
	for k, err := range c.all(ctx, entryKey(partition, "")) {
		if err != nil {
			return fmt.Errorf("catalog of partition %d: %w", partition, err)
		}
		if k.Hosted && k.reading == reading {
			said.add(k.apex)
		}
	}
	said.sort()
	applied, apexes, err := content(ctx)
	if err != nil {
		return fmt.Errorf("zones of partition %d: %w", partition, err)
	}
	hosted := apexSet{seed: said.seed}
	var unsaid names
	for apex, err := range apexes {
		if err != nil {
			return fmt.Errorf("zones of partition %d: %w", partition, err)
		}
		hosted.add(apex)
		if !said.has(apex) {
			unsaid = append(unsaid, apex...)
		}
	}
	hosted.sort()
	for apex := range unsaid.all() {
		if err := c.compared(ctx, apex, pending{partition: partition, Entry: Entry{true, applied}}); err != nil {
			return err
		}
	}
	for k, err := range c.all(ctx, entryKey(partition, "")) {
		if err != nil {
			return fmt.Errorf("catalog of partition %d: %w", partition, err)
		}
		if !k.Hosted && k.reading == reading || hosted.has(k.apex) {
			continue
		}
		// What was said later than what the partition has applied may be right; that is found when it is to be written.
		if err := c.compared(ctx, k.apex, pending{partition: partition, Entry: Entry{false, applied}}); err != nil {
			return err
		}
	}
	return nil
}

// compared has it said what a comparison has found.
func (c *Catalog) compared(ctx context.Context, apex zones.Name, p pending) error {
	for {
		p.due = time.Now().Add(min(time.Duration(c.opts.Rank(apex))*comparedWait, comparedWaitMax))
		full := c.queue.put(apex, p, maxCompared)
		if full == nil {
			return nil
		}
		select {
		case <-full:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apexSet is a set of apexes, by their hashes: two that clash cost an entry that isn't said.
type apexSet struct {
	seed   maphash.Seed
	hashes []uint64
}

func (s *apexSet) add(apex zones.Name) {
	s.hashes = append(s.hashes, maphash.String(s.seed, string(apex)))
}

// sort is called after the last add, and before the first has.
func (s *apexSet) sort() { slices.Sort(s.hashes) }

func (s *apexSet) has(apex zones.Name) bool {
	_, ok := slices.BinarySearch(s.hashes, maphash.String(s.seed, string(apex)))
	return ok
}

// names are names in wire form, one after the other.
type names []byte

func (n names) all() iter.Seq[zones.Name] {
	return func(yield func(zones.Name) bool) {
		for rest := n; len(rest) > 0; {
			name, octets, err := zones.NameFromWire(rest)
			if err != nil || !yield(name) {
				return // they were names when they were put together
			}
			rest = rest[octets:]
		}
	}
}
