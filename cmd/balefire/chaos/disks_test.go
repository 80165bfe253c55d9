package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"balefire/store"
)

// disk is the data directory of a node that has ended.
type disk struct{ node, dir string }

// compareDisks opens what is on each disk, and compares: copies at the same position are the same, and each is what its
// own digest says. It returns how many could be compared with another one. Files of partitions that went to another node may be damaged:
// nobody has looked at them since.
func compareDisks(ctx context.Context, disks []disk, partitions int, topic [16]byte, violate func(law, string)) (compared int, err error) {
	type copied struct{ node, digest string }
	first := make(map[string]copied) // by partition and position
	compare := func(s *store.Store, node string, p int32) {
		_, left := s.LeftSince(p)
		partition, err := s.Open(p, topic)
		if left && errors.Is(err, store.ErrCorrupt) {
			return
		}
		if err != nil {
			violate(equalCopies, fmt.Sprintf("%s, partition %d: %v", node, p, err))
			return
		}
		err = partition.Scrub(ctx)
		if left && errors.Is(err, store.ErrCorrupt) {
			return
		}
		if err != nil {
			violate(equalCopies, fmt.Sprintf("%s, partition %d: %v", node, p, err))
		}
		at := fmt.Sprintf("%d@%d", p, partition.Applied().Offset)
		sum, _ := partition.Digest()
		digest := sum.String()
		before, ok := first[at]
		if !ok {
			first[at] = copied{node, digest}
			return
		}
		compared++
		if before.digest != digest {
			violate(equalCopies, fmt.Sprintf("at %s, %s has digest %s and %s has %s", at, before.node, before.digest, node, digest))
		}
	}
	for _, d := range disks {
		s, err := store.New(store.Options{Dir: d.dir, Ballast: -1, Reserve: 1 << 20, Logger: zerolog.Nop()})
		if err != nil {
			return compared, err
		}
		for p := range int32(partitions) {
			if s.Has(p) {
				compare(s, d.node, p)
			}
		}
		if err := s.Close(); err != nil {
			return compared, err
		}
	}
	return compared, nil
}
