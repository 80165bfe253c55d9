package change

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"

	"balefire/zones"
)

// Zone is what is kept of a zone beside its RRsets. It is a pure function of its RRsets and settings.
type Zone struct {
	Settings    zones.ZoneSettings
	Serial      zones.Serial
	RRsets      uint64
	Records     uint64
	Octets      uint64 // of owners and packed RRsets
	Delegations uint64 // NS RRsets below the apex
	DNAMEs      uint64
	Signed      bool // the apex has DNSKEY, or there is an RRSIG: the zone came signed
	Hashed      bool // there is an NSEC3
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

// leave counts an RRset that is no longer in the zone. Signed and Hashed stay: only whole zones change those.
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
	stageStateVersion = 1
)

const (
	flagSigned = 1 << iota
	flagHashed
)

// AppendState appends the stored form of z.
func (z Zone) AppendState(dst []byte) []byte {
	var flags byte
	if z.Signed {
		flags |= flagSigned
	}
	if z.Hashed {
		flags |= flagHashed
	}
	dst = append(dst, zoneStateVersion, byte(z.Settings.SerialPolicy), flags)
	dst = binary.BigEndian.AppendUint32(dst, uint32(z.Serial))
	digest := z.Digest.Bytes()
	dst = append(dst, digest[:]...)
	for _, n := range []uint64{z.RRsets, z.Records, z.Octets, z.Delegations, z.DNAMEs} {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
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
	r.bad = r.byte() != zoneStateVersion || r.bad
	z.Settings.SerialPolicy = zones.SerialPolicy(r.byte())
	flags := r.byte()
	z.Signed, z.Hashed = flags&flagSigned != 0, flags&flagHashed != 0
	z.Serial = zones.Serial(r.uint32())
	z.Digest = zones.DigestFromBytes([32]byte(r.take(32)))
	for _, n := range []*uint64{&z.RRsets, &z.Records, &z.Octets, &z.Delegations, &z.DNAMEs} {
		*n = r.uvarint()
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
