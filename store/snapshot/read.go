package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"balefire/zones"
)

// Reader reads a snapshot. It is for one goroutine. After an error all calls fail with it.
type Reader struct {
	r       io.Reader
	sum     hash.Hash
	decoder *zstd.Decoder
	info    Info
	frames  uint32

	stored bytes.Buffer // payload of the frame at hand, as it is in the stream
	raw    []byte       // its entries
	rest   []byte       // of raw, those to come
	left   uint32       // how many those are
	whole  bool         // the footer was right, and the last
	err    error
}

// NewReader reads and checks the header. It reads from r in small pieces: give it a buffered one.
func NewReader(r io.Reader) (*Reader, error) {
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw),
		zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	sr := &Reader{r: r, sum: sha256.New(), decoder: decoder}
	var b [headerSize]byte
	if err := sr.fill(b[:]); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	if sr.info.Header, err = parseHeader(&b); err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	return sr, nil
}

// Header returns what the snapshot says it is. Its checksum was right, so that it may be compared with
// what was wanted before the rest is read.
func (r *Reader) Header() Header { return r.info.Header }

// Next returns the next entry, whose octets are valid until the call after. It returns io.EOF when, and
// only when, the whole stream has been read and has proven whole, with nothing after it; until then
// nothing that was read is known to be true.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	if r.left == 0 {
		if err := r.frame(); err != nil {
			r.err = fmt.Errorf("read snapshot: %w", err)
			return Entry{}, r.err
		}
		if r.whole {
			r.err = io.EOF
			return Entry{}, io.EOF
		}
	}
	e, err := r.entry()
	if err != nil {
		r.err = fmt.Errorf("read snapshot: %w", err)
		return Entry{}, r.err
	}
	return e, nil
}

// Info describes the snapshot after Next has returned io.EOF. Before that it is zero but for the header.
func (r *Reader) Info() Info {
	if !r.whole {
		return Info{Header: r.info.Header}
	}
	return r.info
}

// Verify reads r to its end and returns what it is, if it is whole.
func Verify(r io.Reader) (Info, error) {
	sr, err := NewReader(r)
	if err != nil {
		return Info{}, err
	}
	for {
		if _, err := sr.Next(); err == io.EOF {
			return sr.Info(), nil
		} else if err != nil {
			return Info{}, err
		}
	}
}

// frame reads a frame of entries, or the footer, after which the snapshot is known to be whole.
func (r *Reader) frame() error {
	before := r.sum.Sum(nil) // what the footer speaks of, if this is it
	var b [frameSize]byte
	if err := r.fill(b[:]); err != nil {
		return err
	}
	f, sum, err := parseFrame(&b, r.frames)
	if err != nil {
		return err
	}
	r.frames++
	// Copied, not allocated at once: a length that lies costs no more than what really comes.
	r.stored.Reset()
	n, err := io.CopyN(io.MultiWriter(&r.stored, r.sum), r.r, int64(f.stored))
	r.info.Size += uint64(n)
	if errors.Is(err, io.EOF) {
		return ErrTruncated
	} else if err != nil {
		return err
	}
	if crc32.Update(crc32.Checksum(b[:20], castagnoli), castagnoli, r.stored.Bytes()) != sum {
		return fmt.Errorf("checksum of frame %d: %w", f.number, ErrDamaged)
	}
	if f.kind == kindFooter {
		return r.footer(before)
	}
	r.raw, err = r.decoder.DecodeAll(r.stored.Bytes(), r.raw[:0])
	if err != nil || len(r.raw) != int(f.raw) {
		return fmt.Errorf("frame %d does not decompress to its %d octets (%v): %w", f.number, f.raw, err, ErrDamaged)
	}
	r.rest, r.left = r.raw, f.entries
	r.info.Raw += uint64(f.raw)
	return nil
}

// entry takes the next entry out of the frame at hand.
func (r *Reader) entry() (Entry, error) {
	b := r.rest
	if len(b) < entrySize {
		return Entry{}, fmt.Errorf("entry in frame %d: %w", r.frames-1, ErrDamaged)
	}
	keyLen, valueLen := int(binary.BigEndian.Uint16(b[9:])), uint64(binary.BigEndian.Uint32(b[11:]))
	end := uint64(entrySize+keyLen) + valueLen
	deleted := b[0] == flagDeleted
	if b[0]&^flagDeleted != 0 || keyLen == 0 || deleted && valueLen > 0 || end > uint64(len(b)) {
		return Entry{}, fmt.Errorf("entry in frame %d: %w", r.frames-1, ErrDamaged)
	}
	value := entrySize + keyLen
	e := Entry{Key: b[entrySize:value:value], Value: b[value:end:end], Version: binary.BigEndian.Uint64(b[1:]), Deleted: deleted}
	r.rest = b[end:]
	r.left--
	if r.left == 0 && len(r.rest) > 0 {
		return Entry{}, fmt.Errorf("octets after the entries of frame %d: %w", r.frames-1, ErrDamaged)
	}
	r.info.Entries++
	if deleted {
		r.info.Deleted++
	}
	return e, nil
}

// footer compares what was read with what the footer says, and makes sure that nothing follows.
func (r *Reader) footer(before []byte) error {
	b := r.stored.Bytes()
	if binary.BigEndian.Uint64(b) != r.info.Entries || binary.BigEndian.Uint64(b[8:]) != r.info.Deleted ||
		binary.BigEndian.Uint64(b[16:]) != r.info.Raw || !bytes.Equal(b[56:], before) {
		return fmt.Errorf("footer speaks of other entries: %w", ErrDamaged)
	}
	r.info.Digest = zones.DigestFromBytes([32]byte(b[24:56]))
	r.info.SHA256 = [32]byte(r.sum.Sum(nil))
	var more [1]byte
	switch n, err := io.ReadFull(r.r, more[:]); {
	case n > 0:
		return fmt.Errorf("octets after the footer: %w", ErrDamaged)
	case err != io.EOF: // a wrapped one is no clean end
		return fmt.Errorf("after the footer: %v", err)
	}
	r.whole = true
	return nil
}

func (r *Reader) fill(b []byte) error {
	n, err := io.ReadFull(r.r, b)
	r.sum.Write(b[:n])
	r.info.Size += uint64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}
