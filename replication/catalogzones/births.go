package catalogzones

import (
	"strconv"
	"time"

	"balefire/zones"
)

// births are zones that were created lately: what a catalog calls a zone changes when the zone was made anew, and all nodes that have seen that
// call it the same.
type births map[zones.Name]birth

type birth struct {
	generation int64
	at         time.Time
}

const (
	// rememberBirth is long enough for each node that may be on duty to have looked at its catalogs since.
	rememberBirth = 10 * time.Minute
	// maxBirths bounds what is remembered. Who makes so many zones in that time has not made most of them anew.
	maxBirths = 50_000
)

func (b births) add(apex zones.Name, generation int64, now time.Time) {
	if len(b) >= maxBirths {
		clear(b)
	}
	b[apex] = birth{generation, now}
}

// forget drops what is no longer needed. It looks at some of them only.
func (b births) forget(now time.Time) {
	looked := 0
	for apex, one := range b {
		if now.Sub(one.at) > rememberBirth {
			delete(b, apex)
		}
		if looked++; looked == 1000 {
			return
		}
	}
}

// bornAt is what makes a zone another than those that had its name before, as text.
func bornAt(partition int32, generation int64) string {
	return strconv.Itoa(int(partition)) + "@" + strconv.FormatInt(generation, 10)
}
