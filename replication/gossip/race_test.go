//go:build race

package gossip

import "runtime"

// The timers of a bubble of synctest share one context of the race detector, and Go 1.26 lets two processors use it at once, which
// overflows its stack now and then. One processor can't.
func init() { runtime.GOMAXPROCS(1) }
