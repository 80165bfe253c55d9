package differential

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/store"
	"balefire/store/hotzone"
	"balefire/zones"
	"balefire/zones/zonestest"
)

// hosted is the zones that Balefire serves in a test, in memory.
type hosted map[zones.Name]*hotzone.Zone

func load(t *testing.T, apex zones.Name, sets []zones.RRset) *hotzone.Zone {
	t.Helper()
	reference := zonestest.NewView(apex, sets)
	b := hotzone.NewBuilder(apex)
	for _, node := range reference.Nodes() {
		if err := b.Add(node); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range reference.HashedNodes() {
		if err := b.AddHashed(node); err != nil {
			t.Fatal(err)
		}
	}
	z, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// FindHot implements dnsserver.Zones: the zone of the longest hosted apex; for DS at an apex, the next one
// above, if that is hosted.
func (h hosted) FindHot(qname zones.Name, qtype zones.Type) (found store.Holding, ok bool) {
	for name := qname; ; name = name.Parent() {
		if z := h[name]; z != nil {
			found = store.Holding{Status: store.Here, Apex: name, View: z}
			if qtype != zones.TypeDS || name != qname {
				break
			}
		}
		if name == zones.Root {
			break
		}
	}
	return found, true
}

// Find implements dnsserver.Zones.
func (h hosted) Find(qname zones.Name, qtype zones.Type) store.Holding {
	found, _ := h.FindHot(qname, qtype)
	return found
}

// startBalefire starts a server of the zones in this process, and returns its address.
func startBalefire(t *testing.T, h hosted) string {
	s, err := dnsserver.New(dnsserver.Options{Listen: []string{"127.0.0.1:0"}, Zones: h, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("stop Balefire: %v", err)
		}
	})
	return s.Addrs()[0].String()
}
