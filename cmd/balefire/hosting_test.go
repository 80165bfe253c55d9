package main

import (
	"testing"

	"balefire/store"
	"balefire/zones"
)

// byLabels puts a zone into the partition with the number of its labels.
type byLabels struct{}

func (byLabels) PartitionOf(apex zones.Name) (int32, bool) { return int32(apex.Labels()), true }

// TestUnopenedPartitionsAreUnknown: what may be hosted in a partition that is not open is never called absent, and
// nothing is answered from above it.
func TestUnopenedPartitionsAreUnknown(t *testing.T) {
	const everything = 10
	tests := []struct {
		name    string
		count   int32
		closed  int32 // the partition that is not open
		found   string
		qtype   zones.Type
		unknown bool
	}{
		{"namespace not known", 0, everything, "", zones.TypeA, true},
		{"all open, not hosted", 4, everything, "", zones.TypeA, false},
		{"all open, hosted", 4, everything, "example.com.", zones.TypeA, false},
		{"not found, and a possible apex is closed", 4, 1, "", zones.TypeA, true},
		{"not found, and the root is closed", 4, 0, "", zones.TypeA, true},
		{"found above a closed one", 4, 3, "example.com.", zones.TypeA, true},
		{"found below a closed one", 4, 1, "example.com.", zones.TypeA, false},
		{"DS, and the parent may be in a closed one", 4, 1, "a.example.com.", zones.TypeDS, true},
		{"not DS, and the parent may be in a closed one", 4, 1, "a.example.com.", zones.TypeNS, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &hosting{
				namespace:  byLabels{},
				partitions: func() int32 { return tt.count },
				isOpen:     func(n int32) bool { return n != tt.closed },
			}
			found := store.Holding{Status: store.NotHosted}
			if tt.found != "" {
				found = store.Holding{Status: store.Here, Apex: zones.MustParseName(tt.found)}
			}
			err := h.unknown(found, zones.MustParseName("a.example.com."), tt.qtype)
			if (err != nil) != tt.unknown {
				t.Errorf("unknown: %v, want %v", err, tt.unknown)
			}
			if all := h.all.Load(); all != (tt.closed == everything && tt.count > 0) {
				t.Errorf("all partitions known: %v", all)
			}
		})
	}
}
