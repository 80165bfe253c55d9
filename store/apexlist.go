package store

import (
	"context"
	"fmt"
	"iter"

	"balefire/zones"
)

// Apexes returns the partition's applied offset, and the apexes of all zones that it has there. The names are the caller's. The
// sequence must be gone through, once, whole or not: until then the position is kept.
func (p *Partition) Apexes(ctx context.Context) (offset int64, apexes iter.Seq2[zones.Name, error], err error) {
	r, err := p.begin()
	if err != nil {
		return 0, nil, err
	}
	return r.at.offset, func(yield func(zones.Name, error) bool) {
		defer r.end()
		err := r.scan([]byte{kindZone}, []byte{kindZone + 1}, func(e entry) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			apex, err := apexOfKey(e.key)
			if err != nil {
				return false, fmt.Errorf("key %x: %w: %w", e.key, err, ErrCorrupt)
			}
			return yield(apex, nil), nil
		})
		if err != nil {
			yield("", p.suspect("", err))
		}
	}, nil
}
