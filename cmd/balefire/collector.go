package main

import (
	"os"
	"runtime/debug"
)

// garbageRoom is how much garbage may pile up, in octets, on a node with little in memory.
const garbageRoom = 24 << 20

// paceCollector makes the garbage collector run as often as if the databases' write buffers were not there. They are
// large, mostly untouched, and counted in the heap whose double the collector would wait for by default.
// An operator's GOGC is left alone.
func paceCollector(writeBuffers int64) {
	if _, set := os.LookupEnv("GOGC"); set {
		return
	}
	debug.SetGCPercent(int(100 * garbageRoom / (garbageRoom + writeBuffers)))
}
