package load

import "time"

// Tally is what came of a load.
type Tally struct {
	Sent, Received uint64
	Lost           uint64 // not answered within a quarter of a second, or under way on a connection that ended
	Reconnects     int    // TCP connections that the server ended
	RCodes         [16]uint64
	Elapsed        time.Duration
	CPU            time.Duration // of the generator's own thread, user and system
	Latency        Histogram
}

// Rate returns the answers a second.
func (t *Tally) Rate() float64 { return float64(t.Received) / t.Elapsed.Seconds() }

// Busy returns which share of one core the generator used, from 0 to 1.
func (t *Tally) Busy() float64 { return t.CPU.Seconds() / t.Elapsed.Seconds() }
