package store_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/rs/zerolog"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// TestTooLargeIsSaid: of a zone that does not fit the budget, the log says so once, and what budget is enough; with that, it fits.
func TestTooLargeIsSaid(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	var said bytes.Buffer
	opts.Logger, opts.HotBytes = zerolog.New(zerolog.SyncWriter(&said)), 1<<20
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	sets := storetest.Apex("large.", 1)
	for i := range 20_000 {
		sets = append(sets, storetest.Set(fmt.Sprintf("n%06d.large.", i), 60, zones.TypeA, "192.0.2.1"))
	}
	for _, cs := range storetest.Stage("large.", l.NextID(), sets, 1500) {
		l.Add(t, cs)
	}
	apply(t, p, l.Records)
	for range 3 {
		h := s.Find(name("n000007.large."), zones.TypeA)
		if h.Status != store.Here {
			t.Fatalf("%s %v", h.Status, h.Err)
		}
		h.Release()
	}
	if got := s.Stats(); got.HotZones != 0 || got.Loads != 0 {
		t.Errorf("%+v", got)
	}
	var line struct {
		Zone   string `json:"zone"`
		Enough int64  `json:"enough_mib"`
	}
	if n := bytes.Count(said.Bytes(), []byte("\n")); n != 1 || json.Unmarshal(said.Bytes(), &line) != nil || line.Zone != "large." {
		t.Fatalf("%d lines: %s", n, said.Bytes())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	opts.HotBytes = line.Enough << 20
	s, _ = storetest.Open(t, opts)
	warm(t, s, name("large."))
	if got := s.Stats(); got.HotZones != 1 || got.HotBytes > opts.HotBytes {
		t.Errorf("with what was said to be enough: %+v", got)
	}
}
