package gossip

import "time"

// Timings are how often things are done, and how long is waited for them.
type Timings struct {
	Gossip   time.Duration // between packets of rumours, each to GossipNodes nodes
	Probe    time.Duration // between looks at whether a node lives
	Ack      time.Duration // within which a node answers that
	Exchange time.Duration // between whole exchanges, for up to 32 nodes; more take longer
	Stream   time.Duration // within which a connection is made, and an exchange ends

	Publish   time.Duration // between two maps
	Positions time.Duration // between rumours of positions, at least; a large region takes longer
	Join      time.Duration // until the seeds are asked again when none has answered; doubles up to Rejoin
	Rejoin    time.Duration // between looks for a part of the region that was cut off
	Forget    time.Duration // after which nothing is known of a node that is gone
	Trouble   time.Duration // for which something that happened is a trouble
}

// LAN are the timings for the nodes of one region.
func LAN() Timings {
	return Timings{
		Gossip: 200 * time.Millisecond, Probe: time.Second, Ack: 500 * time.Millisecond,
		Exchange: 30 * time.Second, Stream: 10 * time.Second,
		Publish: 100 * time.Millisecond, Positions: 3 * time.Second, Join: time.Second, Rejoin: time.Minute,
		Forget: 10 * time.Minute, Trouble: 5 * time.Minute,
	}
}

// Fast are timings for tests, of which many run on a busy machine.
func Fast() Timings {
	return Timings{
		Gossip: 20 * time.Millisecond, Probe: 200 * time.Millisecond, Ack: 100 * time.Millisecond,
		Exchange: time.Second, Stream: 2 * time.Second,
		Publish: 10 * time.Millisecond, Positions: 100 * time.Millisecond, Join: 50 * time.Millisecond, Rejoin: 500 * time.Millisecond,
		Forget: 30 * time.Second, Trouble: time.Minute,
	}
}

const (
	gossipNodes     = 3
	retransmitTimes = 4 // by the number of digits of the number of nodes
	// positionsBudget is how many octets a second a node should at most send for the positions of all nodes. They are passed
	// on by everyone, so the interval grows with the region; whole exchanges bring them meanwhile.
	positionsBudget = 8 << 10
)
