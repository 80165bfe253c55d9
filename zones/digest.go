package zones

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Digest is an order-independent digest of a set of entries: the sum, modulo 2²⁵⁶, of the SHA-256 of
// each. Entries are added and taken away one at a time; the zero value is the digest of nothing.
// It shows that replicas agree, and finds damage; it does not withstand somebody who can choose entries.
type Digest [4]uint64

// Entry returns the digest of one entry, a key and its value.
func Entry(key, value []byte) Digest {
	var buf [512]byte
	if 4+len(key)+len(value) <= len(buf) {
		b := binary.BigEndian.AppendUint32(buf[:0], uint32(len(key)))
		return DigestFromBytes(sha256.Sum256(append(append(b, key...), value...)))
	}
	h := sha256.New()
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(key)))
	h.Write(n[:])
	h.Write(key)
	h.Write(value)
	var sum [sha256.Size]byte
	return DigestFromBytes([32]byte(h.Sum(sum[:0])))
}

// Add adds the entries of other to d.
func (d *Digest) Add(other Digest) {
	var carry uint64
	for i := range d {
		sum := d[i] + other[i]
		c1 := sum < d[i]
		d[i] = sum + carry
		carry = b2u(c1 || d[i] < sum)
	}
}

// Sub takes the entries of other from d.
func (d *Digest) Sub(other Digest) {
	var borrow uint64
	for i := range d {
		diff := d[i] - other[i]
		b1 := d[i] < other[i]
		next := diff - borrow
		borrow = b2u(b1 || diff < borrow)
		d[i] = next
	}
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Bytes returns the digest as 32 octets, least significant word first, each word big-endian.
func (d Digest) Bytes() (b [32]byte) {
	for i, w := range d {
		binary.BigEndian.PutUint64(b[8*i:], w)
	}
	return b
}

// DigestFromBytes is the inverse of Bytes.
func DigestFromBytes(b [32]byte) (d Digest) {
	for i := range d {
		d[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return d
}

func (d Digest) String() string {
	b := d.Bytes()
	return hex.EncodeToString(b[:])
}

// EntryOf returns the digest of an RRset as an entry of its zone: keyed by its sort key below the apex
// and its type, so that it does not depend on where or when the zone is stored.
func EntryOf(s RRset, apex Name) Digest {
	var buf [maxKeyLen + 4]byte
	key := s.Owner.AppendRelativeKey(buf[:0], apex)
	key = binary.BigEndian.AppendUint16(key, uint16(s.Type))
	key = binary.BigEndian.AppendUint16(key, uint16(s.Covered))
	return Entry(key, s.AppendPacked(nil))
}
