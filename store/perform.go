package store

import (
	"fmt"
	"math"

	"balefire/zones"
	"balefire/zones/change"
)

// base is what applying a change set reads: change.Base over the batch.
type base struct {
	*batch
	apex   zones.Name
	zone   zoneState // valid when loaded and hosted
	packed []byte    // zone, as it is stored
	loaded bool
	hosted bool
}

var _ change.Base = (*base)(nil)

func (a *base) Level() uint32 { return a.now.level }

// state returns the zone's whole state.
func (a *base) state() (zoneState, bool, error) {
	if !a.loaded {
		a.key = zoneKey(a.key[:0], a.apex)
		value, ok, err := a.get(a.key)
		if err != nil {
			return zoneState{}, false, err
		}
		if ok {
			if a.zone, err = parseZoneState(value); err != nil {
				return zoneState{}, false, err
			}
		}
		a.packed, a.hosted, a.loaded = value, ok, true
	}
	return a.zone, a.hosted, nil
}

func (a *base) Zone() (change.Zone, bool, error) {
	z, ok, err := a.state()
	return z.Zone, ok, err
}

func (a *base) Node(owner zones.Name) (zones.Node, error) {
	z, ok, err := a.state()
	if err != nil || !ok {
		return zones.Node{}, err
	}
	return readNode(a.reader, z.generation, spaceNames, owner, a.apex)
}

func (a *base) Hashed(owner zones.Name) (zones.Node, error) {
	z, ok, err := a.state()
	if err != nil || !ok {
		return zones.Node{}, err
	}
	return readNode(a.reader, z.generation, spaceHashed, owner, a.apex)
}

func (a *base) SOA() (s zones.RRset, err error) {
	z, ok, err := a.state()
	if err != nil || !ok {
		return s, err
	}
	a.key = rrsetKey(a.key[:0], z.generation, a.apex, a.apex, zones.Key{Type: zones.TypeSOA})
	value, ok, err := a.get(a.key)
	if err != nil || !ok {
		return s, err
	}
	s, rest, err := zones.ReadPacked(a.apex, value)
	if err != nil || len(rest) > 0 {
		return s, fmt.Errorf("SOA of %s: %w", a.apex, ErrCorrupt)
	}
	return s, nil
}

func (a *base) Next(name zones.Name) (zones.Name, error) {
	z, ok, err := a.state()
	if err != nil || !ok {
		return "", err
	}
	// All keys of the name itself go on with 0x00, those after it with more.
	from := ownerPrefix(nil, z.generation, spaceNames, name, a.apex)
	from[len(from)-1] = 1
	key, err := a.first(from, after(dataPrefix(nil, z.generation, spaceNames)))
	if err != nil || key == nil {
		return "", err
	}
	return ownerOfKey(key, a.apex)
}

func (a *base) Stage() (change.Stage, bool, error) {
	s, ok, err := a.stage()
	return s.Stage, ok, err
}

func (a *base) stage() (stageState, bool, error) {
	value, ok, err := a.get(stageKey(nil, a.apex))
	if err != nil || !ok {
		return stageState{}, false, err
	}
	s, err := parseStageState(value, a.apex)
	return s, err == nil, err
}

// ownerOfKey returns the owner name in the key of an RRset.
func ownerOfKey(key []byte, apex zones.Name) (zones.Name, error) {
	_, _, owner, _, err := splitDataKey(key)
	if err == nil {
		var name zones.Name
		if name, err = zones.NameFromKey(owner, apex); err == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("key %x: %w: %w", key, err, ErrCorrupt)
}

// readNode reads the RRsets that owner owns in a space of a generation; without any, the node is empty.
func readNode(r *reader, generation int64, space byte, owner, apex zones.Name) (zones.Node, error) {
	prefix := ownerPrefix(nil, generation, space, owner, apex)
	var packed []byte
	err := r.scan(prefix, after(prefix), func(e entry) (bool, error) {
		value, err := e.value()
		if packed == nil {
			packed = value
		} else {
			packed = append(packed, value...)
		}
		return true, err
	})
	return zones.NodeView(owner, packed), err
}

// perform writes down what an accepted change set comes to.
func (b *batch) perform(a *base, cs *zones.ChangeSet, result *change.Result, offset int64) error {
	old, hosted, err := a.state()
	if err != nil {
		return err
	}
	var stage stageState
	var staged bool
	if result.DropStage || result.Kind == change.Chunk || result.Kind == change.Switch {
		if stage, staged, err = a.stage(); err != nil {
			return err
		}
	}
	if result.DropStage && staged && result.Kind != change.Switch {
		if err := b.dropStage(a.apex, stage, true); err != nil {
			return err
		}
	}
	z := zoneState{Zone: result.Zone, generation: old.generation, sequence: old.sequence, changed: offset, changedAt: b.now.time}
	entry := HistoryEntry{
		Position: Position{b.p.number, offset}, ID: cs.ID, Author: cs.Author, Reason: cs.Reason,
		Time: fromMillis(b.now.time), From: old.Serial, To: result.Zone.Serial,
	}
	did := effect{apex: a.apex, changed: offset}
	switch result.Kind {
	case change.Unchanged, change.Abort:
		return nil

	case change.RaiseLevel:
		b.now.level = result.Level
		return nil

	case change.Chunk:
		return b.chunk(a, result, stage, offset, staged && !result.DropStage)

	case change.Patch:
		if len(result.Delta.Changes) == 0 && z.Settings.Equal(old.Settings) && z.Standing.Expired == old.Standing.Expired {
			// Nothing but that the zone was confirmed, which happens all the time: it is no change of the zone.
			z.changed, z.changedAt = old.changed, old.changedAt
			b.keepState(a, z)
			return nil
		}
		for _, c := range result.Delta.Changes {
			if c.After.IsZero() {
				b.over.remove(rrsetKey(nil, old.generation, c.Owner, a.apex, c.Key))
			} else {
				b.write(old.generation, a.apex, c.After)
			}
		}
		entry.Action, entry.Changes = ActionChanged, result.Delta.Changes
		switch {
		case len(entry.Changes) > 0:
		case z.Settings.Equal(old.Settings):
			entry.Action = ActionStanding
		default:
			entry.Action = ActionSettings
		}
		did.kind, did.delta = effectPatched, result.Delta
		if !z.Standing.Served() {
			did.kind = effectWithheld
		}

	case change.Replace:
		z.generation = offset
		for _, s := range result.RRsets {
			b.write(offset, a.apex, s)
		}
		entry.Action, did.kind = ActionReplaced, effectReplaced

	case change.Switch:
		if !staged {
			return fmt.Errorf("switch to a stage of %s that is not there: %w", a.apex, ErrCorrupt)
		}
		z.generation = stage.generation
		if err := b.dropStage(a.apex, stage, false); err != nil {
			return err
		}
		b.write(z.generation, a.apex, result.SOA.WithOwner(a.apex))
		entry.Action, did.kind = ActionReplaced, effectReplaced
		b.p.crash(CrashApplySwitch)

	case change.Delete:
		entry.Action, entry.To, did.kind = ActionDeleted, 0, effectDeleted

	default:
		return fmt.Errorf("a change set came to kind %d: %w", result.Kind, change.ErrUnknownLevel)
	}

	z.sequence++
	if hosted && z.generation != old.generation || result.Kind == change.Delete {
		b.die(old.generation, a.apex)
	}
	if !hosted {
		z.sequence = offset
		b.now.zones++
		entry.Action, did.kind, did.generation = ActionCreated, effectCreated, z.generation
	}
	if result.Kind == change.Delete {
		b.now.zones--
		b.key = zoneKey(b.key[:0], a.apex)
		b.now.digest.Sub(zones.Entry(b.key, a.packed))
		b.over.remove(b.key)
	} else {
		b.keepState(a, z)
	}
	if old.Settings.IsPeered() || z.Settings.IsPeered() {
		did.peering = &Peering{Settings: z.Settings, Standing: z.Standing}
	}
	did.resettled = hosted && result.Kind != change.Delete && !old.Settings.Equal(z.Settings)
	b.effects = append(b.effects, did)
	return b.keepHistory(a.apex, z.sequence, entry)
}

// keepState makes the state of the zone pending in the place of the one that it had, if any.
func (b *batch) keepState(a *base, z zoneState) {
	b.key = zoneKey(b.key[:0], a.apex)
	if a.hosted {
		b.now.digest.Sub(zones.Entry(b.key, a.packed))
	}
	b.value = z.pack(b.value[:0])
	b.add(b.key, b.value)
}

// write makes an RRset of a generation pending.
func (b *batch) write(generation int64, apex zones.Name, s zones.RRset) {
	b.key = rrsetKey(b.key[:0], generation, s.Owner, apex, s.Key)
	b.value = s.AppendPacked(b.value[:0])
	b.over.set(b.key, b.value)
}

// chunk adds to a staged generation, or begins one.
func (b *batch) chunk(a *base, result *change.Result, before stageState, offset int64, goesOn bool) error {
	generation := offset
	if goesOn {
		generation = before.generation
	}
	for _, s := range result.RRsets {
		b.write(generation, a.apex, s)
	}
	key := stageKey(nil, a.apex)
	if goesOn {
		if err := b.drop(expiryKey(nil, before.expires, key)); err != nil {
			return err
		}
	}
	s := stageState{Stage: result.Stage, generation: generation, expires: b.now.time + stageLife.Milliseconds()}
	if err := b.put(key, s.pack()); err != nil {
		return err
	}
	b.p.crash(CrashApplyChunk)
	return b.expireAt(s.expires, key)
}

// dropStage forgets a staged generation; when given up, its RRsets go too.
func (b *batch) dropStage(apex zones.Name, s stageState, givenUp bool) error {
	key := stageKey(nil, apex)
	if err := b.drop(key); err != nil {
		return err
	}
	if givenUp {
		b.die(s.generation, apex)
	}
	return b.drop(expiryKey(nil, s.expires, key))
}

// die writes a generation down as dead.
func (b *batch) die(generation int64, apex zones.Name) {
	b.over.set(deadKey(nil, generation), []byte(apex))
	b.died = true
}

// expiryCursor remembers where the first expiry may be, so that not every record has to look, nor pass over
// what has been removed. It is only a short cut: what expires is the same without it.
type expiryCursor struct {
	known bool
	from  string // no expiry has a key before; when known
	next  int64  // nothing expires before; when known
}

// expireAt has target, the key of an ID or a stage, removed when the partition's time comes.
func (b *batch) expireAt(at int64, target []byte) error {
	return b.put(b.willExpire(nil, at, target), nil)
}

// willExpire appends the key by which target expires to dst, and notes that there is one.
func (b *batch) willExpire(dst []byte, at int64, target []byte) []byte {
	key := expiryKey(dst, at, target)
	b.expiry.next = min(b.expiry.next, at)
	if textOf(key) < b.expiry.from {
		b.expiry.from = string(key)
	}
	return key
}

// expire removes what has expired by the partition's time, up to expireStep.
func (b *batch) expire() error {
	if b.expiry.known && b.now.time < b.expiry.next {
		return nil
	}
	from := []byte{kindExpiry}
	if b.expiry.known {
		from = []byte(b.expiry.from)
	}
	var due [][]byte
	b.expiry = expiryCursor{known: true, from: string([]byte{kindExpiry + 1}), next: math.MaxInt64}
	err := b.scan(from, []byte{kindExpiry + 1}, func(e entry) (bool, error) {
		at, _, err := parseExpiryKey(e.key)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		if at > b.now.time || len(due) == expireStep {
			b.expiry.from, b.expiry.next = string(e.key), at
			return false, nil
		}
		due = append(due, append([]byte(nil), e.key...))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, key := range due {
		_, target, _ := parseExpiryKey(key)
		if target[0] == kindStage {
			if err := b.giveUp(target); err != nil {
				return err
			}
			continue
		}
		if err := b.drop(target); err != nil {
			return err
		}
		if err := b.drop(key); err != nil {
			return err
		}
	}
	return nil
}

// giveUp removes a staged generation that has expired.
func (b *batch) giveUp(key []byte) error {
	apex, err := apexOfKey(key)
	if err != nil {
		return fmt.Errorf("key %x: %w: %w", key, err, ErrCorrupt)
	}
	s, ok, err := (&base{batch: b, apex: apex}).stage()
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("stage of %s expires, but is not there: %w", apex, ErrCorrupt)
	}
	return b.dropStage(apex, s, true)
}
