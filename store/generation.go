package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"balefire/zones"
	"balefire/zones/change"
)

// The RRsets of a zone belong to a generation, named by the offset of the record that made it: a record that
// created or replaced the zone, or the first chunk of a staged one. Replacing or deleting a zone only points
// elsewhere; the old generation is written down as dead in the same transaction, and its keys go in the
// background, in small transactions at the published position. They are outside of the digest. A crash
// at any point leaves a dead generation, some of whose keys are gone; the background goes on with it.

// stageLife is how long, in partition time, a staged generation lives after its last chunk. It is part of
// format level 1.
const stageLife = 24 * time.Hour

// zoneState is the value under a zoneKey.
type zoneState struct {
	change.Zone
	generation int64
	sequence   int64 // number of its newest history entry; begins at the offset that created the zone
	changed    int64 // offset of the last change
	changedAt  int64 // partition time of the last change, milliseconds
}

func (z zoneState) pack(dst []byte) []byte {
	v := packer(dst)
	v.i64(z.generation)
	v.i64(z.sequence)
	v.i64(z.changed)
	v.i64(z.changedAt)
	return z.AppendState(v)
}

func parseZoneState(value []byte) (z zoneState, err error) {
	u := unpacker{rest: value}
	z.generation, z.sequence, z.changed, z.changedAt = u.i64(), u.i64(), u.i64(), u.i64()
	if !u.bad {
		z.Zone, err = change.ParseZone(u.rest)
	}
	if u.bad || err != nil {
		return z, fmt.Errorf("zone state: %w", ErrCorrupt)
	}
	return z, nil
}

// stageState is the value under a stageKey.
type stageState struct {
	change.Stage
	generation int64
	expires    int64 // milliseconds of partition time
}

func (s stageState) pack() []byte {
	var v packer
	v.i64(s.generation)
	v.i64(s.expires)
	return s.AppendState(v)
}

func parseStageState(value []byte, apex zones.Name) (s stageState, err error) {
	u := unpacker{rest: value}
	s.generation, s.expires = u.i64(), u.i64()
	if !u.bad {
		s.Stage, err = change.ParseStage(u.rest, apex)
	}
	if u.bad || err != nil {
		return s, fmt.Errorf("stage of %s: %w", apex, ErrCorrupt)
	}
	return s, nil
}

// readZone reads a zone's state.
func readZone(r *reader, apex zones.Name) (z zoneState, ok bool, err error) {
	value, ok, err := r.get(zoneKey(nil, apex))
	if err != nil || !ok {
		return z, false, err
	}
	z, err = parseZoneState(value)
	return z, err == nil, err
}

// scanNodes calls fn for each node of a generation's space, in canonical order. The owner is in key form.
func scanNodes(r *reader, generation int64, space byte, fn func(owner []byte, packed []byte) error) error {
	prefix := dataPrefix(nil, generation, space)
	var owner, packed []byte
	begun := false
	flush := func() error {
		if !begun {
			return nil
		}
		return fn(owner, packed)
	}
	err := r.scan(prefix, after(prefix), func(e entry) (bool, error) {
		_, _, name, _, err := splitDataKey(e.key)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		value, err := e.value()
		if err != nil {
			return false, err
		}
		if !begun || !bytes.Equal(name, owner) {
			if err := flush(); err != nil {
				return false, err
			}
			owner, packed, begun = append(owner[:0], name...), nil, true
		}
		packed = append(packed, value...)
		return true, nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// collectStep is how many keys of dead generations one transaction removes.
const collectStep = 1000

// collect removes up to collectStep keys of dead generations, and reports whether there may be more. It is
// another writer beside Apply, so it takes the same lock.
//
// It writes at a timestamp that is read, to which the entries of its transaction appear one by one. So a generation stays
// written down as dead until a transaction finds none of its keys: scrubs and snapshots never see keys that are nobody's.
func (p *Partition) collect() (more bool, err error) {
	p.applyMu.Lock()
	defer p.applyMu.Unlock()
	if p.poisoned != nil {
		return false, p.poisoned
	}
	if err := p.store.guard.mayCollect(); err != nil {
		return false, err
	}
	pub := p.published.Load()
	over := newOverlay()
	dead, inner := openReader(p.db, pub.ts(), nil), openReader(p.db, pub.ts(), nil)
	defer dead.close()
	defer inner.close()

	err = dead.scan([]byte{kindDead}, []byte{kindDead + 1}, func(e entry) (bool, error) {
		generation, err := parseNumberKey(e.key, kindDead)
		if err != nil {
			return false, fmt.Errorf("dead generation %x: %w: %w", e.key, err, ErrCorrupt)
		}
		empty := true
		prefix := dataPrefix(nil, generation)
		err = inner.scan(prefix, after(prefix), func(e entry) (bool, error) {
			empty = false
			over.remove(e.key)
			return over.len() < collectStep, nil
		})
		if empty {
			over.remove(e.key)
		}
		return over.len() < collectStep, err
	})
	if err != nil || over.len() == 0 {
		return false, err
	}
	p.crash(CrashCollectBefore)
	if err := p.commit(over, pub.ts()); err != nil {
		return false, err
	}
	p.crash(CrashCollectAfter)
	return true, nil
}

// Collect removes what dead generations still hold, until there is none. The background does the same; this
// is for those who want to wait for it.
func (p *Partition) Collect(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, err := p.collect()
		if err != nil || !more {
			return err
		}
	}
}

// collector runs until the partition closes, and collects when it is woken.
func (p *Partition) collector() {
	defer p.background.Done()
	for {
		select {
		case <-p.closing:
			return
		case <-p.wakeCollector:
		}
		for more := true; more; {
			select {
			case <-p.closing:
				return
			default:
			}
			var err error
			if more, err = p.collect(); err != nil && !errors.Is(err, ErrPoisoned) {
				p.log.Warn().Err(err).Msg("removing a dead generation")
			}
		}
	}
}
