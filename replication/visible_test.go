package replication

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestWaitIsVisible has many writers change one zone at once. When Wait has returned, each finds its own value at its
// own name, in the zone that is being loaded into memory and then patched there.
func TestWaitIsVisible(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	var initial []zones.RRset
	const writers, changes = 16, 60
	for w := range writers {
		initial = append(initial, storetest.Set(fmt.Sprintf("w%d.example.", w), 60, zones.TypeA, "192.0.2.1"))
	}
	do(t, n, storetest.Create("example.", initial...))
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			owner := zones.MustParseName(fmt.Sprintf("w%d.example.", w))
			for i := range uint32(changes) {
				var address [4]byte
				binary.BigEndian.PutUint32(address[:], i+1)
				set := storetest.Set(owner.String(), 60, zones.TypeA, netip.AddrFrom4(address).String())
				pos, err := n.Publish(deadline(t), newID(storetest.Put("example.", set)))
				if err != nil {
					t.Error(err)
					return
				}
				if o, err := n.Wait(deadline(t), pos, ThisNode); err != nil || o.Status != store.StatusApplied {
					t.Errorf("%s: %+v %v", pos, o, err)
					return
				}
				h := n.Store().Find(owner, zones.TypeA)
				var at zones.Location
				if h.Status != store.Here {
					t.Errorf("%s: %s %v", owner, h.Status, h.Err)
				} else if err := h.View.Find(owner, &at); err != nil {
					t.Error(err)
				} else if got, _ := at.Node.RRset(zones.TypeA); !got.Equal(set) {
					t.Errorf("%s: the change at %s is applied, and %v is served", owner, pos, got)
				}
				h.Release()
			}
		})
	}
	all.Wait()
}
