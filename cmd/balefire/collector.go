package main

import (
	"context"
	"os"
	"runtime/debug"
	"time"
)

// garbageRoom is how much garbage may pile up, in octets, on a node with little in memory.
const garbageRoom = 24 << 20

// paceInterval is how often it is looked whether partitions have come or gone.
const paceInterval = 250 * time.Millisecond

// keepPace makes the garbage collector run as often as if the databases' write buffers were not there, until ctx ends. They are
// large, mostly untouched, and counted in the heap whose double the collector would wait for by default.
// An operator's GOGC is left alone.
func keepPace(ctx context.Context, writeBuffers func() int64) {
	if _, set := os.LookupEnv("GOGC"); set {
		return
	}
	tick := time.NewTicker(paceInterval)
	defer tick.Stop()
	for before := int64(-1); ; {
		if now := writeBuffers(); now != before {
			debug.SetGCPercent(int(100 * garbageRoom / (garbageRoom + now)))
			before = now
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
