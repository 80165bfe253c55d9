package main

import "testing"

func TestGCPercent(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		what          string
		live, buffers int64
		room          int64 // garbage that may pile up, MB
	}{
		{"nothing collected yet", 0, 0, 64},
		{"a small node", 30 * mb, 0, 64},
		{"large buffers, still untouched", 0, 160 * mb, 64},
		{"large buffers and few zones", 220 * mb, 160 * mb, 64},
		{"many zones", 660 * mb, 60 * mb, 450},
		{"only zones", 900 * mb, 0, 675},
		{"more than half of the budget", 1800 * mb, 0, 1024},
	} {
		live := max(tt.live, tt.buffers+garbageRoom)
		room := live * int64(gcPercent(tt.live, tt.buffers, 2048*mb)) / 100 / mb
		if room < tt.room*9/10 || room > tt.room {
			t.Errorf("%s: room for %d MB of garbage, want %d", tt.what, room, tt.room)
		}
	}
}
