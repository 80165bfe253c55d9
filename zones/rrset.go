package zones

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// MaxTTL is the largest TTL (RFC 2181 §8), in seconds.
const MaxTTL = 1<<31 - 1

// Key identifies an RRset inside a node. RRSIGs are kept apart by the type that they cover, so that an
// answer finds the signatures of what it holds; Covered is 0 for every other type.
type Key struct{ Type, Covered Type }

// Compare orders keys as they are stored: by type, then by covered type.
func (k Key) Compare(other Key) int {
	return int(uint32(k.Type)<<16|uint32(k.Covered)) - int(uint32(other.Type)<<16|uint32(other.Covered))
}

// Hashed reports whether the RRset belongs to the NSEC3 chain, whose owner names are not names of the
// zone (RFC 5155 §7.1): NSEC3 itself, and its signatures.
func (k Key) Hashed() bool {
	return k.Type == TypeNSEC3 || k.Type == TypeRRSIG && k.Covered == TypeNSEC3
}

func (k Key) String() string {
	if k.Type == TypeRRSIG {
		return "RRSIG(" + k.Covered.String() + ")"
	}
	return k.Type.String()
}

// RRset is an owner name, a type, a TTL in seconds and a set of RDATA, in canonical order and form,
// without duplicates (RFC 2181 §5, RFC 4034 §6.3). It is immutable, and cheap to copy: its RDATA are one
// block of memory, that it may share with the zone that it came from. The zero value is no RRset.
type RRset struct {
	Owner Name
	Key
	TTL   uint32
	rdata []byte // packed: for each, two octets of length and the octets
	count int
}

// Errors of NewRRset.
var (
	ErrNoRData       = errors.New("an RRset needs at least one RDATA")
	ErrRDataTooLong  = errors.New("RDATA is longer than 65535 octets")
	ErrTooManyRData  = errors.New("an RRset holds at most 65535 RDATA")
	ErrTTLOutOfRange = errors.New("TTL is greater than 2147483647 (RFC 2181 §8)")
	ErrMixedCovered  = errors.New("RRSIGs in one RRset cover different types")
)

// NewRRset makes an RRset of the given RDATA, which it copies, puts into canonical form, sorts and
// frees of duplicates. For RRSIGs, all must cover the same type.
func NewRRset(owner Name, t Type, ttl uint32, rdatas ...[]byte) (RRset, error) {
	if len(rdatas) == 0 {
		return RRset{}, ErrNoRData
	}
	if ttl > MaxTTL {
		return RRset{}, ErrTTLOutOfRange
	}
	key := Key{Type: t}
	if t == TypeRRSIG {
		key.Covered = CoveredType(rdatas[0])
	}
	sorted := make([][]byte, 0, len(rdatas))
	for _, rd := range rdatas {
		if len(rd) > 0xffff {
			return RRset{}, ErrRDataTooLong
		}
		rd = bytes.Clone(rd)
		if err := CanonicalRData(t, rd); err != nil {
			return RRset{}, fmt.Errorf("%s of %s: %w", t, owner, err)
		}
		if t == TypeRRSIG && CoveredType(rd) != key.Covered {
			return RRset{}, ErrMixedCovered
		}
		sorted = append(sorted, rd)
	}
	slices.SortFunc(sorted, bytes.Compare)
	sorted = slices.CompactFunc(sorted, bytes.Equal)
	if len(sorted) > 0xffff {
		return RRset{}, ErrTooManyRData
	}
	size := 0
	for _, rd := range sorted {
		size += 2 + len(rd)
	}
	packed := make([]byte, 0, size)
	for _, rd := range sorted {
		packed = binary.BigEndian.AppendUint16(packed, uint16(len(rd)))
		packed = append(packed, rd...)
	}
	return RRset{Owner: owner, Key: key, TTL: ttl, rdata: packed, count: len(sorted)}, nil
}

// IsZero reports whether s is no RRset.
func (s RRset) IsZero() bool { return s.count == 0 }

// Len returns the number of RDATA.
func (s RRset) Len() int { return s.count }

// Size returns the octets of the packed RDATA: their lengths' sum and two for each.
func (s RRset) Size() int { return len(s.rdata) }

// RDatas yields each RDATA in canonical order. They share the RRset's memory and must not be changed.
func (s RRset) RDatas() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := s.rdata; len(rest) > 0; {
			end := 2 + int(binary.BigEndian.Uint16(rest))
			if !yield(rest[2:end:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// First returns the first RDATA; nil when there is none.
func (s RRset) First() []byte {
	if len(s.rdata) == 0 {
		return nil
	}
	end := 2 + int(binary.BigEndian.Uint16(s.rdata))
	return s.rdata[2:end:end]
}

// Contains reports whether rdata, in canonical form, is in the set.
func (s RRset) Contains(rdata []byte) bool {
	for rd := range s.RDatas() {
		if bytes.Equal(rd, rdata) {
			return true
		}
	}
	return false
}

// SameRData reports whether both sets hold the same RDATA; owner, type and TTL are not looked at.
func (s RRset) SameRData(other RRset) bool { return bytes.Equal(s.rdata, other.rdata) }

// Equal reports whether both are the same RRset with the same TTL.
func (s RRset) Equal(other RRset) bool {
	return s.Owner == other.Owner && s.Key == other.Key && s.TTL == other.TTL && s.SameRData(other)
}

// WithOwner returns the set under another owner name, sharing its RDATA; for wildcards.
func (s RRset) WithOwner(owner Name) RRset {
	s.Owner = owner
	return s
}

// WithTTL returns the set with another TTL, sharing its RDATA.
func (s RRset) WithTTL(ttl uint32) RRset {
	s.TTL = ttl
	return s
}

// PackedHeader is the length of what precedes the RDATA in a packed RRset.
const PackedHeader = 14

// AppendPacked appends the packed form, which is the one of disk and memory; the owner is not in it:
//
//	0        2         4       8       10               14
//	| type   | covered | TTL   | count | length of RDATA | RDATA: count × (length 2, octets)
//
// All numbers are big-endian. These octets are part of the disk format and the digest.
func (s RRset) AppendPacked(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(s.Type))
	dst = binary.BigEndian.AppendUint16(dst, uint16(s.Covered))
	dst = binary.BigEndian.AppendUint32(dst, s.TTL)
	dst = binary.BigEndian.AppendUint16(dst, uint16(s.count))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s.rdata)))
	return append(dst, s.rdata...)
}

// ErrPacked means that packed octets are damaged.
var ErrPacked = errors.New("damaged packed RRset")

// ReadPacked checks and reads the packed RRset at the start of b, and returns the octets after it. The
// result shares b's memory, which must not change.
func ReadPacked(owner Name, b []byte) (s RRset, rest []byte, err error) {
	if len(b) < PackedHeader {
		return RRset{}, nil, ErrPacked
	}
	size := binary.BigEndian.Uint32(b[10:])
	if uint64(size) > uint64(len(b)-PackedHeader) {
		return RRset{}, nil, ErrPacked
	}
	s, rest = readPacked(owner, b)
	n := 0
	for at := 0; at < len(s.rdata); n++ {
		if len(s.rdata)-at < 2 {
			return RRset{}, nil, ErrPacked
		}
		at += 2 + int(binary.BigEndian.Uint16(s.rdata[at:]))
		if at > len(s.rdata) {
			return RRset{}, nil, ErrPacked
		}
	}
	if n != s.count || n == 0 {
		return RRset{}, nil, ErrPacked
	}
	return s, rest, nil
}

// readPacked is ReadPacked for octets that are known to be whole.
func readPacked(owner Name, b []byte) (s RRset, rest []byte) {
	end := PackedHeader + int(binary.BigEndian.Uint32(b[10:]))
	return RRset{
		Owner: owner,
		Key:   Key{Type(binary.BigEndian.Uint16(b)), Type(binary.BigEndian.Uint16(b[2:]))},
		TTL:   binary.BigEndian.Uint32(b[4:]),
		count: int(binary.BigEndian.Uint16(b[8:])),
		rdata: b[PackedHeader:end:end],
	}, b[end:]
}

// CompareRRsets orders RRsets as a zone is stored and staged: those of the NSEC3 chain (Key.Hashed) after
// all others, then by owner in canonical order, then by key.
func CompareRRsets(a, b RRset) int {
	if ha, hb := a.Hashed(), b.Hashed(); ha != hb {
		if hb {
			return -1
		}
		return 1
	}
	if c := Compare(a.Owner, b.Owner); c != 0 {
		return c
	}
	return a.Key.Compare(b.Key)
}
