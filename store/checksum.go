package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"balefire/zones"
)

// progress is how far a partition has come, and what sums it up. The first group is the value under
// keyApplied, the second that under keyState, which the digest covers.
type progress struct {
	offset int64 // −1 for none
	epoch  int32
	hash   [32]byte
	digest zones.Digest
	zones  int64

	level uint32
	time  int64 // milliseconds
}

// commitEpoch counts how often a partition's topic was made anew; no way to do that exists yet.
const commitEpoch = 0

// commitTs is Badger's timestamp of the state after a record: higher for later records, and never 0.
func commitTs(offset int64) uint64 { return commitEpoch<<40 | uint64(offset+1) }

// ts is the timestamp at which the progress is read.
func (g progress) ts() uint64 { return commitTs(g.offset) }

func (g progress) packApplied() []byte {
	var v packer
	v.i64(g.offset)
	v.u32(uint32(g.epoch))
	v.raw(g.hash[:])
	digest := g.digest.Bytes()
	v.raw(digest[:])
	v.i64(g.zones)
	return v
}

func (g progress) packState() []byte {
	var v packer
	v.u32(g.level)
	v.i64(g.time)
	return v
}

// fresh is the progress of a partition before its first record.
func fresh() progress {
	g := progress{offset: -1, epoch: -1, level: 1}
	g.digest.Add(g.stateEntry())
	return g
}

// stateEntry is what the digest has of the state.
func (g progress) stateEntry() zones.Digest { return zones.Entry(keyState, g.packState()) }

// readProgress reads the progress that is committed.
func readProgress(r *reader) (progress, error) {
	value, ok, err := r.get(keyApplied)
	if err != nil {
		return progress{}, err
	}
	if !ok {
		// Both are written together, so nothing has been applied, or what was is not whole.
		if key, err := r.first([]byte{0}, nil); err != nil || key != nil {
			return progress{}, fmt.Errorf("no applied offset beside key %x: %w", key, ErrCorrupt)
		}
		return fresh(), nil
	}
	var g progress
	u := unpacker{rest: value}
	g.offset, g.epoch = u.i64(), int32(u.u32())
	copy(g.hash[:], u.take(len(g.hash)))
	var digest [32]byte
	copy(digest[:], u.take(len(digest)))
	g.digest = zones.DigestFromBytes(digest)
	g.zones = u.i64()
	if !u.whole() {
		return progress{}, fmt.Errorf("applied offset: %w", ErrCorrupt)
	}
	if value, ok, err = r.get(keyState); err != nil {
		return progress{}, err
	}
	u = unpacker{rest: value}
	g.level, g.time = u.u32(), u.i64()
	if !ok || !u.whole() {
		return progress{}, fmt.Errorf("partition state: %w", ErrCorrupt)
	}
	return g, nil
}

// CheckpointEvery is the distance of offsets whose digests are remembered, for comparison between replicas.
const CheckpointEvery = 1000

// checkpointsKept is how many of them are, before the oldest is forgotten.
const checkpointsKept = 10_000

// Digest returns the digest at the applied offset, and that offset.
func (p *Partition) Digest() (zones.Digest, int64) {
	g := p.published.Load()
	return g.digest, g.offset
}

// DigestAt returns the digest that was remembered for an offset: the state after all records up to it. That of
// every 1,000th offset is, and that of the applied one; ok is false for others, and those long past.
func (p *Partition) DigestAt(offset int64) (digest zones.Digest, ok bool, err error) {
	r, err := p.begin()
	if err != nil {
		return digest, false, err
	}
	defer r.end()
	if r.at.offset == offset {
		return r.at.digest, true, nil
	}
	value, ok, err := r.get(checkpointKey(nil, offset))
	if err != nil {
		return digest, false, p.suspect("", err)
	}
	if !ok || len(value) != 32 {
		return digest, false, nil
	}
	return zones.DigestFromBytes([32]byte(value)), true, nil
}

// Scrub reads the whole partition as it is at one position, and compares: every checksum, every zone's
// counts and digest, generations that belong to nobody, and the partition's digest. What contradicts is an
// error marked ErrCorrupt, which also raises an alarm. It ends with ctx, and when the partition is closed.
func (p *Partition) Scrub(ctx context.Context) error {
	r, err := p.begin()
	if err != nil {
		return err
	}
	defer r.end()
	ctx, cancel := p.untilClosed(ctx)
	defer cancel()
	// A second reader at the same timestamp, since scans of one can't be nested.
	inner := openReader(p.db, r.at.ts(), nil)
	defer inner.close()
	if err := scrub(ctx, r.reader, inner); err != nil {
		return p.suspect("", fmt.Errorf("scrub of %s: %w", Position{p.number, r.at.offset}, err))
	}
	return nil
}

// untilClosed returns a context that ends with ctx, or when the partition is being closed: closing waits for those who
// read, and what reads all of the partition must not keep it waiting.
func (p *Partition) untilClosed(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-p.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// scrub is Scrub over two readers of the same position.
func scrub(ctx context.Context, r, inner *reader) error {
	g, err := readProgress(inner)
	if err != nil {
		return err
	}
	// Dead generations first, and with the reader whose view of the files is the older one: they only become fewer
	// while this runs, and r must not see keys that inner did not count.
	var generations []int64
	err = inner.scan([]byte{kindDead}, []byte{kindDead + 1}, func(e entry) (bool, error) {
		if _, err := e.value(); err != nil {
			return false, err
		}
		generation, err := parseNumberKey(e.key, kindDead)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		generations = append(generations, generation)
		return true, ctx.Err()
	})
	if err != nil {
		return err
	}
	var dead, owned uint64
	for _, generation := range generations {
		prefix := dataPrefix(nil, generation)
		err := inner.scan(prefix, after(prefix), func(entry) (bool, error) {
			dead++
			return true, ctx.Err()
		})
		if err != nil {
			return err
		}
	}

	var sum zones.Digest
	var hosted, data uint64
	err = r.scan([]byte{0}, nil, func(e entry) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if e.key[0] == kindData {
			data++
			if _, _, _, _, err := splitDataKey(e.key); err != nil {
				return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
			}
			return true, nil // its value is checked with its zone
		}
		value, err := e.value()
		if err != nil {
			return false, err
		}
		if digested(e.key) {
			sum.Add(zones.Entry(e.key, value))
		}
		switch e.key[0] {
		case kindZone:
			hosted++
			apex, err := apexOfKey(e.key)
			if err != nil {
				return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
			}
			z, err := parseZoneState(value)
			if err != nil {
				return false, fmt.Errorf("%s: %w", apex, err)
			}
			n, err := checkGeneration(ctx, inner, z.generation, z.Digest, z.RRsets)
			owned += n
			if err != nil {
				return false, fmt.Errorf("zone %s: %w", apex, err)
			}
		case kindStage:
			apex, err := apexOfKey(e.key)
			if err != nil {
				return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
			}
			s, err := parseStageState(value, apex)
			if err != nil {
				return false, err
			}
			z := s.Sequence.Zone()
			n, err := checkGeneration(ctx, inner, s.generation, z.Digest, z.RRsets)
			owned += n
			if err != nil {
				return false, fmt.Errorf("stage of %s: %w", apex, err)
			}
		}
		return true, nil
	})
	switch {
	case err != nil:
		return err
	case g.offset < 0:
		return nil // nothing has been applied, and readProgress has seen that nothing is there
	case hosted != uint64(g.zones):
		return fmt.Errorf("%d zones where %d were counted: %w", hosted, g.zones, ErrCorrupt)
	case data < owned || data > owned+dead:
		return fmt.Errorf("%d RRsets where zones and stages own %d, and dead generations %d: %w", data, owned, dead, ErrCorrupt)
	case sum != g.digest:
		return fmt.Errorf("digest of the stored keys is %s, not %s: %w", sum, g.digest, ErrCorrupt)
	}
	return nil
}

// contentEntry is zones.EntryOf for a stored RRset.
func contentEntry(key, packed []byte) zones.Digest {
	end := len(key) - 5 // 0x00, type, covered
	var buf [600]byte
	short := append(buf[:0], key[dataPrefixLen:end]...)
	short = append(short, key[end+1:]...)
	return zones.Entry(short, packed)
}

// checkGeneration reads a generation and compares its digest and count, and that each key is that of
// its RRset. It returns how many RRsets it has.
func checkGeneration(ctx context.Context, r *reader, generation int64, digest zones.Digest, count uint64) (n uint64, err error) {
	var sum zones.Digest
	prefix := dataPrefix(nil, generation)
	err = r.scan(prefix, after(prefix), func(e entry) (bool, error) {
		packed, err := e.value()
		if err != nil {
			return false, err
		}
		if len(packed) < zones.PackedHeader || binary.BigEndian.Uint32(packed) != binary.BigEndian.Uint32(e.key[len(e.key)-4:]) {
			return false, fmt.Errorf("RRset under key %x is of another type: %w", e.key, ErrCorrupt)
		}
		sum.Add(contentEntry(e.key, packed))
		n++
		return true, ctx.Err()
	})
	switch {
	case err != nil:
		return n, err
	case n != count:
		return n, fmt.Errorf("%d RRsets where there should be %d: %w", n, count, ErrCorrupt)
	case sum != digest:
		return n, fmt.Errorf("its content has digest %s, not %s: %w", sum, digest, ErrCorrupt)
	}
	return n, nil
}
