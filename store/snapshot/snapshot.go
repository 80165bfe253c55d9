// Package snapshot frames a dump of a partition as a stream of octets that is never taken for whole when
// it isn't: cut, flipped, swapped or lying streams end in an error, and none of them makes the reader
// allocate more than a few large entries do. It knows neither Badger nor files.
//
// The format is drawn in docs/formats/snapshot.md. Version 1 is this: all numbers are big-endian, checksums
// are CRC-32C, blocks are Zstandard frames.
package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"balefire/zones"
)

// Errors of writing and reading. A stream that ended in any but an error of the underlying reader must never be used.
var (
	// ErrDamaged: the octets are not those that were written, or never were a snapshot.
	ErrDamaged = errors.New("snapshot is damaged")
	// ErrTruncated: the stream ends before its end.
	ErrTruncated = errors.New("snapshot is cut short")
	// ErrFormatVersion: the stream is of a format version that this program does not know.
	ErrFormatVersion = errors.New("snapshot of an unknown format version")
	// ErrEntry: an entry over the limits MaxKey and MaxValue, without key, or deleted and with a value.
	ErrEntry = errors.New("not an entry of a snapshot")
)

// Limits on an entry, in octets: far above what a partition stores.
const (
	MaxKey   = 1<<16 - 1
	MaxValue = 8 << 20
)

// Header says what a snapshot is of.
type Header struct {
	TopicID     [16]byte // offsets of another topic are not comparable
	Partition   int32
	Since       int64 // offset after which changes are in it; −1 for a full snapshot
	Offset      int64 // offset of the last record applied; −1 for none
	LeaderEpoch int32 // of that record; −1 for unknown
}

// Info describes a whole snapshot, when it has been written or read to its end.
type Info struct {
	Header
	Entries uint64       // entries, deleted ones included
	Deleted uint64       // of them, those that say a key is gone
	Raw     uint64       // octets of entries before compression
	Size    uint64       // octets of the stream
	Digest  zones.Digest // of the partition at Offset, as its maker said
	SHA256  [32]byte     // of the whole stream
}

// Entry is one key of the partition's database, at one version.
type Entry struct {
	Key, Value []byte
	Version    uint64
	Deleted    bool // the key is gone since Version; Value is empty
}

// These constants are the format, version 1. They never change.
const (
	magic      = "BFSNAP\r\n" // the line end shows a transfer that took it for text
	version    = 1
	headerSize = 56

	frameSize   = 24 // of a frame's header
	kindEntries = 'E'
	kindFooter  = 'F'

	entrySize   = 15 // of what precedes an entry's key
	flagDeleted = 1

	footerSize = 8 + 8 + 8 + 32 + 32

	maxRaw    = entrySize + MaxKey + MaxValue // of a block, before compression
	maxStored = maxRaw + maxRaw/64 + 1024     // and after it, when nothing could be gained
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// append appends the header as it is in the stream.
func (h Header) append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, magic...)
	dst = binary.BigEndian.AppendUint16(dst, version)
	dst = append(dst, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.Partition))
	dst = append(dst, h.TopicID[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Since))
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.Offset))
	dst = binary.BigEndian.AppendUint32(dst, uint32(h.LeaderEpoch))
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func parseHeader(b *[headerSize]byte) (Header, error) {
	if string(b[:len(magic)]) != magic {
		return Header{}, fmt.Errorf("no magic number: %w", ErrDamaged)
	}
	if v := binary.BigEndian.Uint16(b[8:]); v != version {
		return Header{}, fmt.Errorf("version %d, known is %d: %w", v, version, ErrFormatVersion)
	}
	if binary.BigEndian.Uint32(b[52:]) != crc32.Checksum(b[:52], castagnoli) || b[10] != 0 || b[11] != 0 {
		return Header{}, fmt.Errorf("checksum of the header: %w", ErrDamaged)
	}
	return Header{
		TopicID:     [16]byte(b[16:32]),
		Partition:   int32(binary.BigEndian.Uint32(b[12:])),
		Since:       int64(binary.BigEndian.Uint64(b[32:])),
		Offset:      int64(binary.BigEndian.Uint64(b[40:])),
		LeaderEpoch: int32(binary.BigEndian.Uint32(b[48:])),
	}, nil
}

// frame is the header of a frame.
type frame struct {
	kind    byte
	number  uint32 // from 0, counting all frames
	entries uint32
	raw     uint32 // octets before compression
	stored  uint32 // octets that follow the header
}

// append appends the frame's header, with the checksum over it and the payload.
func (f frame) append(dst, payload []byte) []byte {
	start := len(dst)
	dst = append(dst, f.kind, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, f.number)
	dst = binary.BigEndian.AppendUint32(dst, f.entries)
	dst = binary.BigEndian.AppendUint32(dst, f.raw)
	dst = binary.BigEndian.AppendUint32(dst, f.stored)
	sum := crc32.Update(crc32.Checksum(dst[start:], castagnoli), castagnoli, payload)
	return binary.BigEndian.AppendUint32(dst, sum)
}

// parseFrame reads a frame's header, all of whose numbers are checked against their limits, and the
// checksum that it claims.
func parseFrame(b *[frameSize]byte, number uint32) (f frame, sum uint32, err error) {
	f = frame{
		kind:    b[0],
		number:  binary.BigEndian.Uint32(b[4:]),
		entries: binary.BigEndian.Uint32(b[8:]),
		raw:     binary.BigEndian.Uint32(b[12:]),
		stored:  binary.BigEndian.Uint32(b[16:]),
	}
	ok := b[1] == 0 && b[2] == 0 && b[3] == 0 && f.number == number
	switch f.kind {
	case kindEntries:
		ok = ok && f.raw <= maxRaw && f.stored <= maxStored && f.entries > 0 && uint64(f.entries)*(entrySize+1) <= uint64(f.raw)
	case kindFooter:
		ok = ok && f.raw == footerSize && f.stored == footerSize && f.entries == 0
	default:
		ok = false
	}
	if !ok {
		return frame{}, 0, fmt.Errorf("header of frame %d: %w", number, ErrDamaged)
	}
	return f, binary.BigEndian.Uint32(b[20:]), nil
}
