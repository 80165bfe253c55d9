package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"

	"balefire/zones"
)

// blockTarget is how many octets of entries are compressed together: more gains little, and a reader
// holds one block.
const blockTarget = 256 << 10

// Writer writes a snapshot. It is for one goroutine. After an error all calls fail with it.
type Writer struct {
	w       io.Writer
	sum     hash.Hash
	encoder *zstd.Encoder
	info    Info
	frames  uint32

	block   []byte // entries that wait to be written
	waiting uint32 // how many
	out     []byte
	packed  []byte
	err     error
}

// NewWriter writes the header to w.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	// Each block is one small frame: one encoder, no background work, no second checksum.
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(blockTarget), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("write snapshot: %w", err)
	}
	sw := &Writer{w: w, sum: sha256.New(), encoder: encoder, info: Info{Header: h}}
	if err := sw.emit(h.append(nil)); err != nil {
		return nil, err
	}
	return sw, nil
}

// Write adds an entry, whose octets it copies. Entries are read back in the order written.
func (w *Writer) Write(e Entry) error {
	if w.err != nil {
		return w.err
	}
	if len(e.Key) == 0 || len(e.Key) > MaxKey || len(e.Value) > MaxValue || e.Deleted && len(e.Value) > 0 {
		w.err = fmt.Errorf("write snapshot: key of %d octets, value of %d: %w", len(e.Key), len(e.Value), ErrEntry)
		return w.err
	}
	size := entrySize + len(e.Key) + len(e.Value)
	if w.waiting > 0 && len(w.block)+size > blockTarget {
		if err := w.flush(); err != nil {
			return err
		}
	}
	flags := byte(0)
	if e.Deleted {
		flags |= flagDeleted
		w.info.Deleted++
	}
	w.block = append(w.block, flags)
	w.block = binary.BigEndian.AppendUint64(w.block, e.Version)
	w.block = binary.BigEndian.AppendUint16(w.block, uint16(len(e.Key)))
	w.block = binary.BigEndian.AppendUint32(w.block, uint32(len(e.Value)))
	w.block = append(w.block, e.Key...)
	w.block = append(w.block, e.Value...)
	w.waiting++
	w.info.Entries++
	w.info.Raw += uint64(size)
	return nil
}

// Close writes what is buffered, and the footer. Without it the stream is not a snapshot. It does not
// close the underlying writer.
func (w *Writer) Close(digest zones.Digest) (Info, error) {
	if w.err != nil {
		return Info{}, w.err
	}
	if w.waiting > 0 {
		if err := w.flush(); err != nil {
			return Info{}, err
		}
	}
	w.info.Digest = digest
	footer := make([]byte, 0, footerSize)
	footer = binary.BigEndian.AppendUint64(footer, w.info.Entries)
	footer = binary.BigEndian.AppendUint64(footer, w.info.Deleted)
	footer = binary.BigEndian.AppendUint64(footer, w.info.Raw)
	sum := digest.Bytes()
	footer = append(footer, sum[:]...)
	footer = w.sum.Sum(footer)
	f := frame{kind: kindFooter, raw: footerSize, stored: footerSize}
	if err := w.frame(f, footer); err != nil {
		return Info{}, err
	}
	w.info.SHA256 = [32]byte(w.sum.Sum(nil))
	w.err = errors.New("write snapshot: closed")
	return w.info, nil
}

// flush writes the waiting entries as one frame.
func (w *Writer) flush() error {
	w.packed = w.encoder.EncodeAll(w.block, w.packed[:0])
	f := frame{kind: kindEntries, entries: w.waiting, raw: uint32(len(w.block)), stored: uint32(len(w.packed))}
	if err := w.frame(f, w.packed); err != nil {
		return err
	}
	w.block, w.waiting = w.block[:0], 0
	return nil
}

func (w *Writer) frame(f frame, payload []byte) error {
	if w.frames == math.MaxUint32 {
		w.err = errors.New("write snapshot: too many frames")
		return w.err
	}
	f.number = w.frames
	w.frames++
	w.out = f.append(w.out[:0], payload)
	if err := w.emit(w.out); err != nil {
		return err
	}
	return w.emit(payload)
}

func (w *Writer) emit(b []byte) error {
	if _, err := w.w.Write(b); err != nil {
		w.err = fmt.Errorf("write snapshot: %w", err)
		return w.err
	}
	w.sum.Write(b)
	w.info.Size += uint64(len(b))
	return nil
}
