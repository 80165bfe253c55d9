package mutationlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The broker, when it starts, cuts a segment at the first batch that it cannot read, and gives the offsets of the
// lost records to new ones. So its segments are read here first. A crash can leave one unfinished batch at the very
// end of a partition: it was never acknowledged, and is cut off. Anything else is damage, and is left as it was found.
//
// A segment is a row of Kafka record batches, version 2:
//
//	0      8       12           16     17    21          23                43
//	+------+-------+------------+------+-----+-----------+-----------------+---
//	| base | length| leader     | magic| CRC | attributes| last offset     | …
//	| offs.| (rest)| epoch      | (2)  |     |           | delta (23..27)  |
//	+------+-------+------------+------+-----+-----------+-----------------+---
//
// The CRC (Castagnoli) covers everything from the attributes on.
const (
	batchHeaderLen  = 61
	batchLengthEnd  = 12
	batchMagicAt    = 16
	batchCRCAt      = 17
	batchAttrsAt    = 21
	batchLastDelta  = 23
	maxBatchOnDisk  = 16 << 20 // far above what a topic accepts; a length beyond it is damage
	segmentSuffix   = ".dat"
	partitionFolder = "partitions"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verifySegments reads every segment below dir, cuts off an unfinished batch at the end of a partition, and returns
// how many partitions had one. Damage is an error marked ErrCorrupt that names the file and the place.
func verifySegments(dir string) (cut int, err error) {
	root := filepath.Join(dir, partitionFolder)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the embedded log: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		torn, err := verifyPartition(filepath.Join(root, e.Name()))
		if err != nil {
			return cut, err
		}
		if torn {
			cut++
		}
	}
	return cut, nil
}

func verifyPartition(dir string) (torn bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("read the embedded log: %w", err)
	}
	var bases []int64
	for _, e := range entries {
		number, isSegment := strings.CutSuffix(e.Name(), segmentSuffix)
		if !isSegment {
			continue
		}
		base, err := strconv.ParseInt(number, 10, 64)
		if err != nil || base < 0 {
			return false, fmt.Errorf("%w: %s is not a segment's name", ErrCorrupt, filepath.Join(dir, e.Name()))
		}
		bases = append(bases, base)
	}
	slices.Sort(bases)
	for i, base := range bases {
		path := filepath.Join(dir, strconv.FormatInt(base, 10)+segmentSuffix)
		last := i == len(bases)-1
		end, cut, err := verifySegment(path, base, last)
		if err != nil {
			return false, err
		}
		if !last && end != bases[i+1] {
			return false, fmt.Errorf("%w: %s ends before offset %d, the next segment begins at %d", ErrCorrupt, path, end, bases[i+1])
		}
		torn = torn || cut
	}
	return torn, nil
}

// verifySegment returns the offset after the segment's last record.
func verifySegment(path string, base int64, last bool) (end int64, cut bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, false, fmt.Errorf("read the embedded log: %w", err)
	}
	at, next := 0, base
	for at < len(data) {
		size, first, after, ok := parseBatch(data[at:])
		if !ok {
			break
		}
		if first != next {
			return 0, false, fmt.Errorf("%w: %s, byte %d: a batch with offset %d where %d must follow", ErrCorrupt, path, at, first, next)
		}
		at, next = at+size, after
	}
	if at == len(data) {
		return next, false, nil
	}
	if !last || batchBeyond(data[at+1:]) {
		return 0, false, fmt.Errorf("%w: %s, byte %d (offset %d): a batch that does not check out, with more after it", ErrCorrupt, path, at, next)
	}
	if err := truncateSynced(path, int64(at)); err != nil {
		return 0, false, fmt.Errorf("cut off the unfinished batch at the end of %s: %w", path, err)
	}
	return next, true, nil
}

// parseBatch reads the batch at the start of data; ok is false if there is no whole one.
func parseBatch(data []byte) (size int, first, after int64, ok bool) {
	if len(data) < batchHeaderLen || data[batchMagicAt] != 2 {
		return 0, 0, 0, false
	}
	length := int64(binary.BigEndian.Uint32(data[8:batchLengthEnd]))
	if length > maxBatchOnDisk || length < batchHeaderLen-batchLengthEnd || int64(len(data)) < batchLengthEnd+length {
		return 0, 0, 0, false
	}
	size = batchLengthEnd + int(length)
	if crc32.Checksum(data[batchAttrsAt:size], castagnoli) != binary.BigEndian.Uint32(data[batchCRCAt:]) {
		return 0, 0, 0, false
	}
	first = int64(binary.BigEndian.Uint64(data))
	after = first + int64(int32(binary.BigEndian.Uint32(data[batchLastDelta:]))) + 1
	return size, first, after, first >= 0 && after > first
}

// batchBeyond reports whether a whole batch begins anywhere in data: then what is before it was acknowledged once,
// because a batch is written only after the one before it was synced.
func batchBeyond(data []byte) bool {
	for i := range data {
		if _, _, _, ok := parseBatch(data[i:]); ok {
			return true
		}
	}
	return false
}

func truncateSynced(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

// segmentSizes adds up the sizes of the segments of each partition of a topic below dir.
func segmentSizes(dir, topic string) (map[int32]int64, error) {
	sizes := make(map[int32]int64)
	err := eachSegment(dir, func(folder string, size int64) {
		number, ours := strings.CutPrefix(folder, topic+"-")
		partition, err := strconv.ParseInt(number, 10, 32)
		if ours && err == nil {
			sizes[int32(partition)] += size
		}
	})
	return sizes, err
}

// logSize adds up the sizes of all segments below dir.
func logSize(dir string) (sum int64, err error) {
	err = eachSegment(dir, func(_ string, size int64) { sum += size })
	return sum, err
}

// eachSegment calls f with the folder's name and the size of each segment below dir.
func eachSegment(dir string, f func(folder string, size int64)) error {
	return filepath.WalkDir(filepath.Join(dir, partitionFolder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, segmentSuffix) {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err) // trimmed meanwhile
		}
		f(filepath.Base(filepath.Dir(path)), info.Size())
		return nil
	})
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
