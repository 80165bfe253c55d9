package load

import (
	"math/bits"
	"time"
)

// Values below 2·perOctave have a bucket each; above, every doubling has perOctave of them.
const (
	perOctave = 64
	octaves   = 63 - 6
)

// Histogram counts durations in buckets no wider than a 64th of what they hold, from a nanosecond to centuries.
// The zero value is empty. It is not safe for concurrent use.
type Histogram struct {
	counts [(octaves + 1) * perOctave]uint64
	total  uint64
}

// Add counts a duration; negative ones count as 0.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.total++
}

// Count returns how many durations were added.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile returns the duration that a share of q, from 0 to 1, of all are not above: 0.5 is the median. It is 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.total)), h.total-1)
	for i, n := range h.counts {
		if rank < n {
			return middle(i)
		}
		rank -= n
	}
	return middle(len(h.counts) - 1)
}

// Merge adds what another histogram has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
}

func bucket(v uint64) int {
	shift := max(bits.Len64(v)-7, 0)
	return shift*perOctave + int(v>>shift)
}

// middle returns the duration in the middle of a bucket.
func middle(i int) time.Duration {
	shift := max(i/perOctave-1, 0)
	low := uint64(i-shift*perOctave) << shift
	return time.Duration(low + (uint64(1)<<shift)/2)
}
