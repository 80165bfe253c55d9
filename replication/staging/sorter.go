package staging

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// A Sorter puts the records of a zone, which may come in any order, into that of zones.CompareRRsets, in memory that does not grow
// with the zone: packed records fill blocks; when those are full they are sorted and written to a temporary file as a run, and
// runs are merged when read. What was read can be read again. It is for one goroutine at a time, and must be closed.
type Sorter struct {
	apex   zones.Name
	dir    string
	memory int // octets of packed records to hold

	blocks [][]byte
	free   [][]byte // of lastBlock octets, for after a spill
	held   int      // octets in blocks
	index  []uint64 // of each record: block<<32 | offset
	runs   []*os.File
	count  int64
}

// A packed record is
//
//	| length of key 2 | length of RDATA 2 | TTL 4 | line 4 | column 4 | key | RDATA |
//
// The key compares as records do: 1 for the NSEC3 chain, else 0; the owner's sort key below the apex, which has no
// empty label and so no zero where a label would begin; zero; the type and the covered type.
const packedHead = 16

const (
	firstBlock = 4 << 10 // blocks double from this, as most zones are small
	lastBlock  = 1 << 20
)

// ErrSpill marks what went wrong with a temporary file.
var ErrSpill = errors.New("sorting the zone on disk")

// NewSorter makes a Sorter for the records of a zone. memory is how many octets of records it holds; what is more goes into temporary
// files in dir, which have no names.
func NewSorter(apex zones.Name, dir string, memory int) *Sorter {
	return &Sorter{apex: apex, dir: dir, memory: memory}
}

// Count returns how many records were added.
func (s *Sorter) Count() int64 { return s.count }

// Add takes a record, whose owner is in the zone, and copies it. Its place, a line and a column of any meaning, comes back with its
// RRset. The error is marked ErrSpill.
func (s *Sorter) Add(rec zonefile.Record) error {
	var buf [2*zones.MaxNameLen + 8]byte
	key := zones.Key{Type: rec.Type}
	if rec.Type == zones.TypeRRSIG {
		key.Covered = zones.CoveredType(rec.RData)
	}
	k := append(buf[:0], 0)
	if key.Hashed() {
		k[0] = 1
	}
	k = append(rec.Owner.AppendRelativeKey(k, s.apex), 0)
	k = binary.BigEndian.AppendUint16(k, uint16(key.Type))
	k = binary.BigEndian.AppendUint16(k, uint16(key.Covered))

	size := packedHead + len(k) + len(rec.RData)
	if s.held+size > s.memory && len(s.index) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	b := s.room(size)
	at := len(*b)
	*b = binary.BigEndian.AppendUint16(*b, uint16(len(k)))
	*b = binary.BigEndian.AppendUint16(*b, uint16(len(rec.RData)))
	*b = binary.BigEndian.AppendUint32(*b, rec.TTL)
	*b = binary.BigEndian.AppendUint32(*b, uint32(rec.Line))
	*b = binary.BigEndian.AppendUint32(*b, uint32(rec.Column))
	*b = append(append(*b, k...), rec.RData...)
	s.index = append(s.index, uint64(len(s.blocks)-1)<<32|uint64(at))
	s.held += size
	s.count++
	return nil
}

// room returns a block that has room for size octets.
func (s *Sorter) room(size int) *[]byte {
	if n := len(s.blocks); n > 0 && cap(s.blocks[n-1])-len(s.blocks[n-1]) >= size {
		return &s.blocks[n-1]
	}
	next := firstBlock
	if n := len(s.blocks); n > 0 {
		next = min(2*cap(s.blocks[n-1]), lastBlock)
	}
	if n := len(s.free); n > 0 {
		s.blocks, s.free = append(s.blocks, s.free[n-1]), s.free[:n-1]
	} else {
		s.blocks = append(s.blocks, make([]byte, 0, max(next, size)))
	}
	return &s.blocks[len(s.blocks)-1]
}

// packed is one packed record.
type packed []byte

func (p packed) key() []byte { return p[packedHead : packedHead+int(binary.BigEndian.Uint16(p))] }
func (p packed) rdata() []byte {
	return p[packedHead+int(binary.BigEndian.Uint16(p)):]
}
func (p packed) ttl() uint32 { return binary.BigEndian.Uint32(p[4:]) }
func (p packed) line() int   { return int(binary.BigEndian.Uint32(p[8:])) }
func (p packed) column() int { return int(binary.BigEndian.Uint32(p[12:])) }

func (s *Sorter) at(i uint64) packed {
	b := s.blocks[i>>32][uint32(i):]
	return b[:packedHead+int(binary.BigEndian.Uint16(b))+int(binary.BigEndian.Uint16(b[2:]))]
}

// order sorts what is held; of equal keys, the record that came first stays first.
func (s *Sorter) order() {
	slices.SortFunc(s.index, func(a, b uint64) int {
		if c := bytes.Compare(s.at(a).key(), s.at(b).key()); c != 0 {
			return c
		}
		if a < b { // blocks fill in order
			return -1
		}
		return 1
	})
}

// spill writes what is held to a run of its own, and holds nothing.
func (s *Sorter) spill() error {
	s.order()
	f, err := os.CreateTemp(s.dir, "balefire-zone-*")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSpill, err)
	}
	s.runs = append(s.runs, f)
	if err := os.Remove(f.Name()); err != nil { // it lives on until it is closed, and a crash leaves nothing behind
		return fmt.Errorf("%w: %w", ErrSpill, err)
	}
	out := bufio.NewWriterSize(f, 64<<10)
	for _, i := range s.index {
		if _, err := out.Write(s.at(i)); err != nil {
			return fmt.Errorf("%w: %w", ErrSpill, err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("%w: %w", ErrSpill, err)
	}
	for _, b := range s.blocks {
		if cap(b) == lastBlock {
			s.free = append(s.free, b[:0])
		}
	}
	s.index, s.held, s.blocks = s.index[:0], 0, s.blocks[:0]
	return nil
}

// Close gives up what was added.
func (s *Sorter) Close() {
	for _, f := range s.runs {
		_ = f.Close() // its name is gone already
	}
	s.runs, s.blocks, s.free, s.index = nil, nil, nil, nil
}

// all yields the records in order. What is yielded is valid until the next.
func (s *Sorter) all() iter.Seq2[packed, error] {
	return func(yield func(packed, error) bool) {
		s.order()
		var sources runHeap
		for n, f := range s.runs {
			r := &run{in: bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 64<<10), number: n}
			sources = append(sources, r)
		}
		sources = append(sources, &run{sorter: s, number: len(s.runs)})
		ready := sources[:0]
		for _, r := range sources {
			switch err := r.next(); {
			case err == nil:
				ready = append(ready, r)
			case err != io.EOF:
				yield(nil, fmt.Errorf("%w: %w", ErrSpill, err))
				return
			}
		}
		heap.Init(&ready)
		for len(ready) > 0 {
			r := ready[0]
			if !yield(r.head, nil) {
				return
			}
			switch err := r.next(); {
			case err == nil:
				heap.Fix(&ready, 0)
			case err == io.EOF:
				heap.Pop(&ready)
			default:
				yield(nil, fmt.Errorf("%w: %w", ErrSpill, err))
				return
			}
		}
	}
}

// run is a sorted source of records: a temporary file, or what the sorter holds.
type run struct {
	in     *bufio.Reader
	sorter *Sorter
	taken  int
	number int
	head   packed
	buf    []byte
}

func (r *run) next() error {
	if r.sorter != nil {
		if r.taken == len(r.sorter.index) {
			return io.EOF
		}
		r.head = r.sorter.at(r.sorter.index[r.taken])
		r.taken++
		return nil
	}
	if cap(r.buf) < packedHead {
		r.buf = make([]byte, packedHead, 512)
	}
	r.buf = r.buf[:packedHead]
	if _, err := io.ReadFull(r.in, r.buf); err != nil {
		return err // io.EOF at the end of a record, and nowhere else
	}
	rest := int(binary.BigEndian.Uint16(r.buf)) + int(binary.BigEndian.Uint16(r.buf[2:]))
	r.buf = slices.Grow(r.buf, rest)[:packedHead+rest]
	if _, err := io.ReadFull(r.in, r.buf[packedHead:]); err != nil {
		return fmt.Errorf("a run is cut: %w", err)
	}
	r.head = r.buf
	return nil
}

// runHeap has the run with the least record first; of equal ones, the run that was written first.
type runHeap []*run

func (h runHeap) Len() int { return len(h) }
func (h runHeap) Less(i, j int) bool {
	if c := bytes.Compare(h[i].head.key(), h[j].head.key()); c != 0 {
		return c < 0
	}
	return h[i].number < h[j].number
}
func (h runHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *runHeap) Push(x any)   { *h = append(*h, x.(*run)) }
func (h *runHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
