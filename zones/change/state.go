package change

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"balefire/zones"
)

// Zone is what is kept of a zone beside its RRsets. But for Standing, Signed and Hashed it is a pure function of its RRsets and settings.
// Of a zone that awaits its content all is zero but the settings and the standing.
type Zone struct {
	Settings    zones.ZoneSettings
	Standing    zones.Standing
	Serial      zones.Serial
	RRsets      uint64
	Records     uint64
	Octets      uint64 // of owners and packed RRsets
	Delegations uint64 // NS RRsets below the apex
	DNAMEs      uint64
	Signed      bool // since the zone last came whole, the apex had DNSKEY, or there was an RRSIG: it came signed
	Hashed      bool // since then there was an NSEC3
	Digest      zones.Digest
}

// octets is what an RRset counts for in Zone.Octets and MaxTouched.
func octets(s zones.RRset) int { return len(s.Owner) + zones.PackedHeader + s.Size() }

// enter counts an RRset that is now in the zone.
func (z *Zone) enter(s zones.RRset, apex zones.Name) {
	z.RRsets++
	z.Records += uint64(s.Len())
	z.Octets += uint64(octets(s))
	z.Digest.Add(zones.EntryOf(s, apex))
	switch s.Type {
	case zones.TypeNS:
		if s.Owner != apex {
			z.Delegations++
		}
	case zones.TypeDNAME:
		z.DNAMEs++
	case zones.TypeDNSKEY:
		z.Signed = z.Signed || s.Owner == apex
	case zones.TypeRRSIG:
		z.Signed = true
	case zones.TypeNSEC3:
		z.Hashed = true
	}
}

// leave counts an RRset that is no longer in the zone. Signed and Hashed stay: only whole zones end those.
func (z *Zone) leave(s zones.RRset, apex zones.Name) {
	z.RRsets--
	z.Records -= uint64(s.Len())
	z.Octets -= uint64(octets(s))
	z.Digest.Sub(zones.EntryOf(s, apex))
	switch s.Type {
	case zones.TypeNS:
		if s.Owner != apex {
			z.Delegations--
		}
	case zones.TypeDNAME:
		z.DNAMEs--
	}
}

// Stage is the state of a staged generation after its last chunk.
type Stage struct {
	ID       zones.ChangeID
	Next     uint32    // index of the chunk that must come next
	Began    time.Time // partition time of the first chunk, in milliseconds
	Last     time.Time // partition time of the last one, in milliseconds; it expires after this
	Sequence Sequence
}

// ErrState means that stored octets of a Zone or a Stage are damaged, or newer than this version.
var ErrState = errors.New("damaged or unknown zone or stage state")

// The stored forms are part of the disk format, drawn in docs/formats/mutation.md. Their first octet is a
// version, so that they can change without a new version of all of the disk.
const (
	zoneStateVersion  = 1
	zoneStatePeered   = 2 // with more settings than a serial policy, or a standing
	zoneStateCatalog  = 3 // with settings about catalogs, and else as version 2
	stageStateVersion = 1
)

const (
	flagSigned    = 1 << iota
	flagHashed    // the flags above are all that version 1 has
	flagAwaiting  // and these are those of version 2
	flagExpired   //
	flagConfirmed // Standing.Confirmed is not zero

	flagsKnown = 1<<iota - 1
)

// AppendState appends the stored form of z, in the oldest version that can hold it.
func (z Zone) AppendState(dst []byte) []byte {
	var flags byte
	set := func(flag byte, is bool) {
		if is {
			flags |= flag
		}
	}
	set(flagSigned, z.Signed)
	set(flagHashed, z.Hashed)
	more := z.Settings
	more.SerialPolicy = 0 // it has an octet of its own
	peered := !more.IsZero() || !z.Standing.IsZero()
	version := byte(zoneStateVersion)
	if peered {
		version = zoneStatePeered
		if more.InCatalogs() {
			version = zoneStateCatalog
		}
		set(flagAwaiting, z.Standing.Awaiting)
		set(flagExpired, z.Standing.Expired)
		set(flagConfirmed, !z.Standing.Confirmed.IsZero())
	}
	dst = append(dst, version, byte(z.Settings.SerialPolicy), flags)
	dst = binary.BigEndian.AppendUint32(dst, uint32(z.Serial))
	digest := z.Digest.Bytes()
	dst = append(dst, digest[:]...)
	for _, n := range []uint64{z.RRsets, z.Records, z.Octets, z.Delegations, z.DNAMEs} {
		dst = binary.AppendUvarint(dst, n)
	}
	if !peered {
		return dst
	}
	if !z.Standing.Confirmed.IsZero() {
		dst = binary.BigEndian.AppendUint64(dst, uint64(z.Standing.Confirmed.UnixMilli()))
	}
	message := encodeSettings(more)
	dst = binary.AppendUvarint(dst, uint64(len(message)))
	return append(dst, message...)
}

// ParseZone is the inverse of Zone.AppendState.
func ParseZone(b []byte) (Zone, error) {
	r := stateReader{rest: b}
	z := r.zone()
	return z, r.end()
}

// AppendState appends the stored form of s. The apex is not in it.
func (s Stage) AppendState(dst []byte) []byte {
	dst = append(dst, stageStateVersion)
	dst = append(dst, s.ID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, s.Next)
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.Began.UnixMilli()))
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.Last.UnixMilli()))
	q := s.Sequence
	dst = append(dst, byte(len(q.owner)))
	dst = append(dst, q.owner...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(q.key.Type))
	dst = binary.BigEndian.AppendUint16(dst, uint16(q.key.Covered))
	dst = append(dst, byte(q.node.owns))
	dst = binary.BigEndian.AppendUint16(dst, q.node.rrsets)
	dst = binary.BigEndian.AppendUint32(dst, q.node.octets)
	dst = append(dst, byte(len(q.dname)))
	dst = append(dst, q.dname...)
	dst = q.zone.AppendState(dst)
	if !q.soa.IsZero() {
		dst = q.soa.AppendPacked(dst)
	}
	return dst
}

// ParseStage is the inverse of Stage.AppendState, for a stage of the zone apex.
func ParseStage(b []byte, apex zones.Name) (Stage, error) {
	r := stateReader{rest: b}
	if r.byte() != stageStateVersion {
		return Stage{}, ErrState
	}
	var s Stage
	copy(s.ID[:], r.take(len(s.ID)))
	s.Next = r.uint32()
	s.Began = time.UnixMilli(int64(r.uint64())).UTC()
	s.Last = time.UnixMilli(int64(r.uint64())).UTC()
	q := &s.Sequence
	q.apex = apex
	q.owner = r.name()
	q.key = zones.Key{Type: zones.Type(r.uint16()), Covered: zones.Type(r.uint16())}
	q.node = nodeRules{owns: owns(r.byte()), rrsets: r.uint16(), octets: r.uint32()}
	q.dname = r.name()
	q.zone = r.zone()
	if len(r.rest) > 0 {
		soa, rest, err := zones.ReadPacked(apex, bytes.Clone(r.rest))
		if err != nil || soa.Type != zones.TypeSOA {
			return Stage{}, ErrState
		}
		q.soa, r.rest = soa, rest
	}
	return s, r.end()
}

// stateReader reads fixed fields off octets; past their end it yields zeros, and remembers.
type stateReader struct {
	rest []byte
	bad  bool
}

func (r *stateReader) take(n int) []byte {
	if len(r.rest) < n {
		r.bad, r.rest = true, nil
		return make([]byte, n)
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *stateReader) byte() byte     { return r.take(1)[0] }
func (r *stateReader) uint16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *stateReader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *stateReader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *stateReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *stateReader) name() zones.Name {
	b := r.take(int(r.byte()))
	if len(b) == 0 {
		return ""
	}
	n, used, err := zones.NameFromWire(b)
	r.bad = r.bad || err != nil || used != len(b)
	return n
}

func (r *stateReader) zone() (z Zone) {
	version := r.byte()
	r.bad = r.bad || version < zoneStateVersion || version > zoneStateCatalog
	z.Settings.SerialPolicy = zones.SerialPolicy(r.byte())
	flags := r.byte()
	z.Signed, z.Hashed = flags&flagSigned != 0, flags&flagHashed != 0
	z.Serial = zones.Serial(r.uint32())
	z.Digest = zones.DigestFromBytes([32]byte(r.take(32)))
	for _, n := range []*uint64{&z.RRsets, &z.Records, &z.Octets, &z.Delegations, &z.DNAMEs} {
		*n = r.uvarint()
	}
	if version == zoneStateVersion {
		r.bad = r.bad || flags >= flagAwaiting
		return z
	}
	r.bad = r.bad || flags&^flagsKnown != 0
	z.Standing.Awaiting, z.Standing.Expired = flags&flagAwaiting != 0, flags&flagExpired != 0
	if flags&flagConfirmed != 0 {
		z.Standing.Confirmed = time.UnixMilli(int64(r.uint64())).UTC()
	}
	size := r.uvarint()
	if size > MaxSettings {
		r.bad = true
		return z
	}
	policy := z.Settings.SerialPolicy
	if err := decodeSettings(r.take(int(size)), &z.Settings); err != nil || z.Settings.SerialPolicy != policy ||
		z.Settings.InCatalogs() != (version == zoneStateCatalog) {
		r.bad = true
	}
	return z
}

// end demands that all went well and nothing is left.
func (r *stateReader) end() error {
	if r.bad || len(r.rest) > 0 {
		return ErrState
	}
	return nil
}
