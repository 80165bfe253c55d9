package store

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"balefire/zones"
)

// ZoneInfo is what is known of a zone without reading its RRsets.
type ZoneInfo struct {
	Apex        zones.Name
	Settings    zones.ZoneSettings
	Standing    zones.Standing
	Serial      zones.Serial
	RRsets      uint64
	Records     uint64
	Octets      uint64 // of owners and packed RRsets
	Delegations uint64
	Signed      bool         // it came signed
	NSEC3       bool         // it has an NSEC3 chain
	Digest      zones.Digest // of its content: the sum of zones.EntryOf
	Changed     Position     // of the last change set that changed it
	ChangedAt   time.Time    // the partition's time then
	Generation  Position     // of the record that made its present generation
}

func (p *Partition) info(apex zones.Name, z zoneState) ZoneInfo {
	return ZoneInfo{
		Apex: apex, Settings: z.Settings, Standing: z.Standing, Serial: z.Serial, RRsets: z.RRsets, Records: z.Records, Octets: z.Octets,
		Delegations: z.Delegations, Signed: z.Signed, NSEC3: z.Hashed, Digest: z.Digest,
		Changed: Position{p.number, z.changed}, ChangedAt: fromMillis(z.changedAt), Generation: Position{p.number, z.generation},
	}
}

// pageWork bounds how many keys are looked at for one page, in one partition.
const pageWork = 50_000

// ZonePage is a page of zones in canonical order.
type ZonePage struct {
	Zones []ZoneInfo
	// Next is where the next page begins (pass it as after); "" at the end. A page may be short, or
	// empty, and have a next one, since the work for a page is bounded.
	Next zones.Name
}

// Zones lists the zones of all open partitions in canonical order: at most limit, those after the apex
// after ("" = from the start) whose presentation form begins with prefix. Zones of different partitions may
// be from different positions.
func (s *Store) Zones(prefix string, after zones.Name, limit int) (ZonePage, error) {
	return zonesOf(s.Partitions(), prefix, after, limit)
}

// ZonesIn is Zones of some partitions; ErrNotOpen when one of them is not open.
func (s *Store) ZonesIn(partitions []int32, prefix string, after zones.Name, limit int) (ZonePage, error) {
	open := make([]*Partition, len(partitions))
	for i, number := range partitions {
		if open[i] = s.Partition(number); open[i] == nil {
			return ZonePage{}, fmt.Errorf("partition %d: %w", number, ErrNotOpen)
		}
	}
	return zonesOf(open, prefix, after, limit)
}

func zonesOf(partitions []*Partition, prefix string, after zones.Name, limit int) (ZonePage, error) {
	prefix, limit = strings.ToLower(prefix), max(limit, 1)
	var page ZonePage
	var bound zones.Name // up to here every partition has been looked at; "" when to the end
	for _, p := range partitions {
		stopped, err := p.zonePage(prefix, after, limit, &page.Zones)
		if err != nil {
			return ZonePage{}, err
		}
		if stopped != "" && (bound == "" || zones.Compare(stopped, bound) < 0) {
			bound = stopped
		}
	}
	slices.SortFunc(page.Zones, func(a, b ZoneInfo) int { return zones.Compare(a.Apex, b.Apex) })
	if bound != "" {
		n, _ := slices.BinarySearchFunc(page.Zones, bound, func(z ZoneInfo, b zones.Name) int {
			if zones.Compare(z.Apex, b) <= 0 {
				return -1
			}
			return 1
		})
		page.Zones, page.Next = page.Zones[:n], bound
	}
	if len(page.Zones) > limit {
		page.Zones = page.Zones[:limit]
		page.Next = page.Zones[limit-1].Apex
	}
	return page, nil
}

// zonePage adds what a partition has for a page, and returns the apex at which it stopped before the end.
func (p *Partition) zonePage(prefix string, behind zones.Name, limit int, out *[]ZoneInfo) (stopped zones.Name, err error) {
	r, err := p.begin()
	if err != nil {
		return "", err
	}
	defer r.end()
	from := []byte{kindZone}
	if behind != "" {
		from = append(zoneKey(nil, behind), 0) // no apex has this key; those below it begin with more
	}
	work, added := 0, 0
	var last zones.Name
	err = r.scan(from, []byte{kindZone + 1}, func(e entry) (bool, error) {
		if added == limit || work == pageWork {
			stopped = last
			return false, nil
		}
		work++
		apex, err := apexOfKey(e.key)
		if err != nil {
			return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
		}
		last = apex
		if !strings.HasPrefix(apex.String(), prefix) {
			return true, nil
		}
		value, err := e.value()
		if err != nil {
			return false, err
		}
		z, err := parseZoneState(value)
		if err != nil {
			return false, err
		}
		added++
		*out = append(*out, p.info(apex, z))
		return true, nil
	})
	return stopped, p.suspect("", err)
}

// Zone returns what is known of a zone; ErrNoZone when it is not hosted.
func (s *Store) Zone(apex zones.Name) (ZoneInfo, error) {
	r, err := s.Read(apex)
	if err != nil {
		return ZoneInfo{}, err
	}
	defer r.Close()
	return r.Info, nil
}

// Reading is one zone at one position. One goroutine may use it.
type Reading struct {
	Info ZoneInfo
	session
	z zoneState
}

// Read opens a zone for reading at the published position; ErrNoZone when it is not hosted. The reading
// holds its position until Close, whatever is applied meanwhile. It must be closed: closing its partition waits for it.
func (s *Store) Read(apex zones.Name) (*Reading, error) {
	p, err := s.partitionOf(apex)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, ErrNoZone
	}
	r, err := p.begin()
	if err != nil {
		return nil, err
	}
	z, ok, err := readZone(r.reader, apex)
	if err != nil || !ok {
		r.end()
		if err == nil {
			return nil, ErrNoZone
		}
		return nil, p.suspect(apex, err)
	}
	return &Reading{Info: p.info(apex, z), session: r, z: z}, nil
}

// Close ends the reading.
func (r *Reading) Close() { r.end() }

// Closing is closed when the partition is to be closed, which waits for the reading: who reads for long ends it then.
func (r *Reading) Closing() <-chan struct{} { return r.p.closing }

// Position returns where the partition was when the reading was opened.
func (r *Reading) Position() Position { return Position{r.p.number, r.at.offset} }

// Cursor is a place between the RRsets of a zone, in the order of zones.CompareRRsets.
type Cursor struct {
	Owner zones.Name
	Key   zones.Key
}

// RRsetPage is a page of RRsets in canonical order.
type RRsetPage struct {
	RRsets []zones.RRset
	Next   *Cursor // pass it as after; nil at the end. A short page may have a next one
}

// RRsets lists RRsets in the order of zones.CompareRRsets: at most limit, those after the cursor (nil = from
// the start) whose owner, relative to the apex in presentation form ("@" is the apex), begins with prefix.
func (r *Reading) RRsets(prefix string, behind *Cursor, limit int) (page RRsetPage, err error) {
	prefix, limit = strings.ToLower(prefix), max(limit, 1)
	from := dataPrefix(nil, r.z.generation)
	end := after(from)
	if behind != nil {
		if !behind.Owner.IsAtOrBelow(r.Info.Apex) {
			return page, fmt.Errorf("%s is not in zone %s", behind.Owner, r.Info.Apex)
		}
		from = append(rrsetKey(nil, r.z.generation, behind.Owner, r.Info.Apex, behind.Key), 0)
	}
	work := 0
	var last Cursor
	err = r.scan(from, end, func(e entry) (bool, error) {
		if len(page.RRsets) == limit || work == pageWork {
			page.Next = &last
			return false, nil
		}
		work++
		owner, err := ownerOfKey(e.key, r.Info.Apex)
		if err != nil {
			return false, err
		}
		_, _, _, key, _ := splitDataKey(e.key)
		last = Cursor{owner, key}
		if prefix != "" && !strings.HasPrefix(owner.Relative(r.Info.Apex), prefix) {
			return true, nil
		}
		s, err := readRRset(e, owner)
		page.RRsets = append(page.RRsets, s)
		return true, err
	})
	if err != nil {
		return RRsetPage{}, r.p.suspect(r.Info.Apex, err)
	}
	return page, nil
}

// readRRset reads the RRset at an entry.
func readRRset(e entry, owner zones.Name) (zones.RRset, error) {
	value, err := e.value()
	if err != nil {
		return zones.RRset{}, err
	}
	s, rest, err := zones.ReadPacked(owner, value)
	if err != nil || len(rest) > 0 {
		return zones.RRset{}, fmt.Errorf("RRset under key %x: %w", e.key, ErrCorrupt)
	}
	return s, nil
}

// RRset returns one RRset; ok is false when it is not there.
func (r *Reading) RRset(owner zones.Name, key zones.Key) (s zones.RRset, ok bool, err error) {
	if !owner.IsAtOrBelow(r.Info.Apex) {
		return s, false, nil
	}
	at := rrsetKey(nil, r.z.generation, owner, r.Info.Apex, key)
	value, ok, err := r.get(at)
	if err != nil || !ok {
		return s, false, r.p.suspect(r.Info.Apex, err)
	}
	s, rest, err := zones.ReadPacked(owner, value)
	if err != nil || len(rest) > 0 {
		return zones.RRset{}, false, r.p.suspect(r.Info.Apex, fmt.Errorf("RRset under key %x: %w", at, ErrCorrupt))
	}
	return s, true, nil
}

// Node returns the RRsets of a name, those of the NSEC3 chain last; none, when it has none.
func (r *Reading) Node(owner zones.Name) (sets []zones.RRset, err error) {
	if !owner.IsAtOrBelow(r.Info.Apex) {
		return nil, nil
	}
	for _, space := range []byte{spaceNames, spaceHashed} {
		node, err := readNode(r.reader, r.z.generation, space, owner, r.Info.Apex)
		if err != nil {
			return nil, r.p.suspect(r.Info.Apex, err)
		}
		sets = slices.AppendSeq(sets, node.RRsets())
	}
	return sets, nil
}

// All yields every RRset in the order of zones.CompareRRsets, in bounded memory. It ends after an error, which may
// be that of ctx, or ErrClosed when the partition is to be closed, which waits for the reading. At the end it has compared the number of RRsets and their digest with those of the zone, so that a
// sequence without an error is whole. Of the reading's methods only RRset may be called meanwhile.
func (r *Reading) All(ctx context.Context) iter.Seq2[zones.RRset, error] {
	return func(yield func(zones.RRset, error) bool) {
		prefix := dataPrefix(nil, r.z.generation)
		var sum zones.Digest
		var count uint64
		stopped := false
		var owner zones.Name
		var ownerKey, digestKey []byte
		var memory slab
		err := r.scan(prefix, after(prefix), func(e entry) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			if r.p.isClosing() {
				return false, ErrClosed
			}
			if end := len(e.key) - 4; owner == "" || end < 0 || !bytes.Equal(e.key[:end], ownerKey) {
				var err error
				if owner, err = ownerOfKey(e.key, r.Info.Apex); err != nil {
					return false, err
				}
				ownerKey = append(ownerKey[:0], e.key[:end]...)
			}
			value, err := memory.value(e)
			if err != nil {
				return false, err
			}
			s, rest, err := zones.ReadPacked(owner, value)
			if err != nil || len(rest) > 0 {
				return false, fmt.Errorf("RRset under key %x: %w", e.key, ErrCorrupt)
			}
			// As zones.EntryOf has it, from the octets that are here already.
			digestKey = appendType(append(digestKey[:0], ownerKey[dataPrefixLen:len(ownerKey)-1]...), s.Key)
			sum.Add(zones.Entry(digestKey, value))
			count++
			stopped = !yield(s, nil)
			return !stopped, nil
		})
		if err == nil && !stopped && (sum != r.z.Digest || count != r.z.RRsets) {
			err = fmt.Errorf("zone %s has %d RRsets with digest %s, not %d and %s: %w",
				r.Info.Apex, count, sum, r.z.RRsets, r.z.Digest, ErrCorrupt)
		}
		if err != nil {
			yield(zones.RRset{}, r.p.suspect(r.Info.Apex, err))
		}
	}
}

// slab gives values memory of their own, many of them a piece.
type slab struct{ free []byte }

// slabSize is how much memory is taken at once, octets. What is larger than a part of that has its own.
const slabSize = 32 << 10

// value is entry.value, in a slab's memory.
func (m *slab) value(e entry) (value []byte, err error) {
	if e.item == nil || e.item.ValueSize() > slabSize/8 {
		return e.value()
	}
	var sealed []byte
	err = e.item.Value(func(v []byte) error {
		if len(v) > len(m.free) {
			m.free = make([]byte, max(slabSize, len(v)))
		}
		sealed = m.free[:copy(m.free, v):len(v)]
		m.free = m.free[len(v):]
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read value of key %x: %w", e.key, err)
	}
	return unseal(e.key, sealed)
}
