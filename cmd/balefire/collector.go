package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// garbageRoom is how much garbage may pile up, in octets, on a node with little in memory.
	garbageRoom = 64 << 20
	// garbagePercent is how much of what is in use may pile up on others, but no more than half of what the operator gives to zones. Half as
	// much room costs twice as much collecting: with many zones in memory a collection visits each.
	garbagePercent = 75
	// paceInterval is how often it is looked how much is in use.
	paceInterval = 250 * time.Millisecond
)

// keepPace makes the garbage collector run as often as garbageRoom and garbagePercent say, until ctx ends. The databases' write buffers don't
// count as in use: they are large, mostly untouched, and in the heap whose double the collector would wait for by default.
// An operator's GOGC is left alone.
func keepPace(ctx context.Context, forZones int64, writeBuffers func() int64) {
	if _, set := os.LookupEnv("GOGC"); set {
		return
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(paceInterval)
	defer tick.Stop()
	for percent := 0; ; {
		metrics.Read(live)
		now := gcPercent(int64(live[0].Value.Uint64()), writeBuffers(), forZones)
		if 10*now < 9*percent || 9*now > 10*percent { // setting it stops all for a moment
			debug.SetGCPercent(now)
			percent = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// gcPercent returns the GOGC for a heap of which so many octets were reachable when it was last collected, write buffers among them, on a
// node that has so many for zones.
func gcPercent(live, writeBuffers, forZones int64) int {
	live = max(live, writeBuffers+garbageRoom) // before the first collection nothing is known
	room := max(garbageRoom, min((live-writeBuffers)*garbagePercent/100, forZones/2))
	return int(100 * room / live)
}
