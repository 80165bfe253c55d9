package replication

import (
	"testing"

	"balefire/store"
	"balefire/zones"
)

// byLabels is a namespace in which a zone is in the partition with the number of its labels, and one is not held.
type byLabels struct {
	count   int32
	missing int32
}

func (n byLabels) PartitionOf(apex zones.Name) (int32, bool) {
	return int32(apex.Labels()), n.count > 0
}
func (n byLabels) Holds(partition int32) bool { return partition != n.missing }

// TestMissingPartitionsAreUnknown: what may be hosted in a partition that is not held is never called absent, and
// nothing is answered from above it.
func TestMissingPartitionsAreUnknown(t *testing.T) {
	const none = 10
	tests := []struct {
		name    string
		count   int32
		missing int32
		found   string
		qtype   zones.Type
		unknown bool
	}{
		{"namespace not known", 0, none, "", zones.TypeA, true},
		{"all held, not hosted", 4, none, "", zones.TypeA, false},
		{"all held, hosted", 4, none, "example.com.", zones.TypeA, false},
		{"not found, and a possible apex is missing", 4, 1, "", zones.TypeA, true},
		{"not found, and the root is missing", 4, 0, "", zones.TypeA, true},
		{"found above a missing one", 4, 3, "example.com.", zones.TypeA, true},
		{"found in a missing one", 4, 2, "example.com.", zones.TypeA, true},
		{"found below a missing one", 4, 1, "example.com.", zones.TypeA, false},
		{"DS, and the parent may be in a missing one", 4, 1, "a.example.com.", zones.TypeDS, true},
		{"not DS, and the parent may be in a missing one", 4, 1, "a.example.com.", zones.TypeNS, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := byLabels{tt.count, tt.missing}
			found := store.Holding{Status: store.NotHosted}
			if tt.found != "" {
				found = store.Holding{Status: store.Here, Apex: zones.MustParseName(tt.found)}
			}
			err := unheard(found, zones.MustParseName("a.example.com."), tt.qtype, n)
			if (err != nil) != tt.unknown {
				t.Errorf("unknown: %v, want %v", err, tt.unknown)
			}
		})
	}
}
