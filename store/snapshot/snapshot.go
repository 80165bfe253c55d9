// Package snapshot frames a dump of a partition as a stream of octets that can never be taken for whole
// when it isn't: cut, flipped or lying streams end in an error. It knows neither Badger nor files.
package snapshot

import (
	"errors"
	"io"

	"balefire/zones"
)

// Errors of reading. All but ErrFormatVersion mean that the stream must not be used.
var (
	// ErrDamaged: the octets are not those that were written, or never were a snapshot.
	ErrDamaged = errors.New("snapshot is damaged")
	// ErrTruncated: the stream ends before its end.
	ErrTruncated = errors.New("snapshot is cut short")
	// ErrFormatVersion: the stream is of a format version that this program does not know.
	ErrFormatVersion = errors.New("snapshot of an unknown format version")
	// ErrEntryTooLarge: an entry over the limits MaxKey and MaxValue.
	ErrEntryTooLarge = errors.New("entry too large for a snapshot")
)

// Limits on an entry, in octets: far above what a partition stores.
const (
	MaxKey   = 64 << 10
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
	Deleted uint64       // those that say a key is gone
	Raw     uint64       // octets of entries before compression
	Size    uint64       // octets of the stream
	Digest  zones.Digest // of the partition at Offset, as its maker said
	SHA256  [32]byte     // of the stream up to the footer
}

// Entry is one key of the partition's database, at one version.
type Entry struct {
	Key, Value []byte
	Version    uint64
	Deleted    bool // the key is gone since Version; Value is empty
}

// Writer writes a snapshot. It is for one goroutine.
type Writer struct{}

// NewWriter writes the header to w.
func NewWriter(w io.Writer, h Header) (*Writer, error) { panic("not yet") }

// Write adds an entry, whose octets it copies.
func (w *Writer) Write(e Entry) error { panic("not yet") }

// Close writes what is buffered and the footer. Without it the stream is not a snapshot. It does not close the underlying writer.
func (w *Writer) Close(digest zones.Digest) (Info, error) { panic("not yet") }

// Reader reads a snapshot. It is for one goroutine.
type Reader struct{}

// NewReader reads and checks the header.
func NewReader(r io.Reader) (*Reader, error) { panic("not yet") }

// Header returns what the snapshot says it is.
func (r *Reader) Header() Header { panic("not yet") }

// Next returns the next entry, whose octets are valid until the call after. It returns io.EOF when,
// and only when, the whole stream has been read and has proven whole, with nothing after it.
func (r *Reader) Next() (Entry, error) { panic("not yet") }

// Info describes the snapshot after Next has returned io.EOF.
func (r *Reader) Info() Info { panic("not yet") }

// Verify reads r to its end and returns what it is, if it is whole.
func Verify(r io.Reader) (Info, error) { panic("not yet") }
