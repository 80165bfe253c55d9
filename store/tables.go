package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/klauspost/compress/s2"
	"google.golang.org/protobuf/proto"
)

// Badger opens a database whose tables are damaged: a block that does not fit its checksum is used as it is, so that its
// keys are missing, and a damaged index ends the process, in a goroutine that nobody can recover. So the tables
// are read here first. Those that the manifest does not name are none: a crash leaves them, and Badger removes them.
//
// A table is
//
//	| blocks … | index | its length 4 | checksum | its length 4 |
//
// and a block
//
//	| entries … | where they begin, 4 each | how many 4 | checksum | its length 4 |
//
// where the index is a flatbuffer that says where each block is, a checksum is a message pb.Checksum, over all that is
// before it but the index's length, and numbers are big-endian. Blocks are compressed after that, each by itself; tables of
// programs before it have theirs as they are.

// verifyUpTo is how many octets of a partition's tables are read through before it is opened, as they are without compression. Of
// more than that, only what opening itself depends on: the rest is read when the partition answers (verifyRest).
const verifyUpTo = 64 << 20

// tableFile is a table that the manifest names.
type tableFile struct {
	path       string
	compressed bool
}

// verifyTables checks the tables of the database in dir, and returns those of which it has not read every block. What is damaged
// is marked ErrCorrupt.
func verifyTables(dir string, opts badger.Options) (unread []tableFile, err error) {
	manifest, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a new database; or Badger finds tables that should not be there
	}
	if err != nil {
		return nil, err
	}
	known, _, err := badger.ReplayManifestFile(manifest, opts.ExternalMagicVersion, opts)
	if err = errors.Join(err, manifest.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", badger.ManifestFilename, err, ErrCorrupt)
	}
	var size int64
	files := make([]tableFile, 0, len(known.Tables))
	for id, t := range known.Tables {
		if t.Compression != options.None && t.Compression != options.Snappy {
			continue // not one that this program wrote
		}
		file := tableFile{table.NewFilename(id, dir), t.Compression == options.Snappy}
		info, err := os.Stat(file.path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("table %s is missing: %w", filepath.Base(file.path), ErrCorrupt)
		}
		if err != nil {
			return nil, err
		}
		size += info.Size()
		if file.compressed {
			size += info.Size() // about
		}
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b tableFile) int { return strings.Compare(a.path, b.path) })
	all := size <= verifyUpTo
	for _, file := range files {
		if err := file.verify(all); err != nil {
			return nil, err
		}
	}
	if all {
		return nil, nil
	}
	return files, nil
}

// verify checks the index of a table, and all of its blocks or the last.
func (t tableFile) verify(all bool) error {
	if err := t.check(all); err != nil {
		return fmt.Errorf("table %s: %w", filepath.Base(t.path), err)
	}
	return nil
}

func (t tableFile) check(all bool) (err error) {
	f, err := os.Open(t.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// The index is a hundredth of the table: the end is read twice, if need be.
	end := info.Size()
	tail, err := readAt(f, max(0, end-64<<10), end)
	if err != nil {
		return err
	}
	rest, sum, ok := cutChecksum(tail)
	if !ok || len(rest) < 4 {
		return fmt.Errorf("its end: %w", ErrCorrupt)
	}
	trailer := int64(len(tail) - len(rest) + 4)
	length := int64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	if length == 0 || length+trailer > end {
		return fmt.Errorf("its end: %w", ErrCorrupt)
	}
	octets, err := readAt(f, end-trailer-length, end-trailer)
	if err != nil {
		return err
	}
	if crc32.Checksum(octets, castagnoli) != sum {
		return fmt.Errorf("checksum of its index: %w", ErrCorrupt)
	}
	index := fb.GetRootAsTableIndex(octets, 0) // what its checksum vouches for needs no more care
	n := index.OffsetsLength()
	if n == 0 {
		return fmt.Errorf("it has no blocks: %w", ErrCorrupt)
	}
	first := n - 1
	if all {
		first = 0
	}
	blocks := window{f: f, end: end}
	var room []byte // for a block as it was
	for i := first; i < n; i++ {
		var at fb.BlockOffset
		if !index.Offsets(&at, i) || int64(at.Offset())+int64(at.Len()) > end {
			return fmt.Errorf("block %d of %d: %w", i, n, ErrCorrupt)
		}
		block, err := blocks.read(int64(at.Offset()), int64(at.Len()))
		if err != nil {
			return err
		}
		if t.compressed {
			if block, err = expand(room, block); err != nil {
				return fmt.Errorf("block %d of %d: %w: %w", i, n, err, ErrCorrupt)
			}
			room = block[:cap(block)]
		}
		content, sum, ok := cutChecksum(block)
		if !ok || crc32.Checksum(content, castagnoli) != sum {
			return fmt.Errorf("checksum of block %d of %d: %w", i, n, ErrCorrupt)
		}
	}
	return nil
}

// expand undoes the compression of a block, in room if that is enough.
func expand(room, block []byte) ([]byte, error) {
	size, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if size > maxBlock {
		return nil, fmt.Errorf("%d octets", size)
	}
	return s2.Decode(room, block)
}

// maxBlock is more than any block has, in octets: a value has at most 1 MiB, and only the first may be beyond the size of a block.
const maxBlock = 4 << 20

// verifyAfter is how long after its opening what was not read of a partition's tables is. Those who start it wait for other things then.
const verifyAfter = 10 * time.Second

// verifyRest reads the tables that the opening left unread, while the partition is used. One partition at a time does.
func (p *Partition) verifyRest(unread []tableFile, wait time.Duration) {
	defer p.background.Done()
	select {
	case <-time.After(wait):
	case <-p.closing:
		return
	}
	select {
	case p.store.verifying <- struct{}{}:
		defer func() { <-p.store.verifying }()
	case <-p.closing:
		return
	}
	for _, file := range unread {
		select {
		case <-p.closing:
			return
		default:
		}
		err := file.verify(true)
		switch {
		case errors.Is(err, os.ErrNotExist): // what was in it is in others by now
		case errors.Is(err, ErrCorrupt):
			_ = p.suspect("", err) // which says it to all
		case err != nil:
			p.log.Warn().Err(err).Msg("a table can't be verified")
		}
	}
}

func readAt(f *os.File, from, to int64) ([]byte, error) {
	b := make([]byte, to-from)
	_, err := f.ReadAt(b, from)
	return b, err
}

// windowSize is how much of a table is read at once: it has a block in every 4 KiB.
const windowSize = 256 << 10

// window reads a file in large pieces, for one who goes through it in small ones.
type window struct {
	f    *os.File
	end  int64 // of the file
	from int64 // of octets in the file
	held []byte
	room []byte
}

// read returns so many octets of the file, valid until the next call. They must not go past its end.
func (w *window) read(from, length int64) ([]byte, error) {
	if from < w.from || from+length > w.from+int64(len(w.held)) {
		size := min(max(length, windowSize), w.end-from)
		if int64(cap(w.room)) < size {
			w.room = make([]byte, size)
		}
		w.from, w.held = from, w.room[:size]
		if _, err := w.f.ReadAt(w.held, from); err != nil {
			w.held = nil
			return nil, err
		}
	}
	return w.held[from-w.from:][:length:length], nil
}

// cutChecksum cuts the checksum off the end of b.
func cutChecksum(b []byte) (rest []byte, sum uint32, ok bool) {
	if len(b) < 4 {
		return nil, 0, false
	}
	b, size := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if uint64(size) > uint64(len(b)) {
		return nil, 0, false
	}
	var c pb.Checksum
	at := len(b) - int(size)
	if proto.Unmarshal(b[at:], &c) != nil || c.Algo != pb.Checksum_CRC32C || c.Sum > 1<<32-1 {
		return nil, 0, false
	}
	return b[:at], uint32(c.Sum), true
}
