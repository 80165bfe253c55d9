package replication

import (
	"fmt"
	"strings"
	"time"

	"balefire/store"
)

// ClusterStatus is what a node knows of its namespace: of the groups by what they committed to the log, of the nodes
// of its own region by gossip.
type ClusterStatus struct {
	Namespace  string
	Partitions int32
	Node       string // who says this
	Region     string
	Group      string
	Log        LogStatus
	Groups     []GroupStatus // by region and name
	Nodes      []NodeStatus  // by region, group and ID; of this region, this node included
	Alarms     []Alarm
	Troubles   []string // what is wrong with the set-up: two nodes with one ID, clocks that differ, a region's name used twice
}

// LogStatus is what a node knows of the log.
type LogStatus struct {
	Embedded    bool
	Established bool
	Reachable   bool
	Fault       string   // why nothing is applied or published
	Trying      string   // why the log is out of reach just now
	Complaints  []string // settings of topics with which something that must hold does not
	Frozen      string   // where the namespace has moved to: nothing is written here any more; "" otherwise
}

// GroupStatus is how far a replica group is, by partition.
type GroupStatus struct {
	Region, Group string
	Registered    time.Time
	Partitions    []GroupPartition // by number; only those that it has committed
	Err           string           // why it isn't known; "" when it is
}

// GroupPartition is how far a group has applied a partition.
type GroupPartition struct {
	Partition int32
	Applied   int64         // offset of the last record applied; -1 for none
	Lag       int64         // records in the log after it
	Behind    time.Duration // how long ago, by the log's time, it was at the log's end; 0 when it is there
	Committed time.Time     // when it said so
	Node      string        // who said so
}

// NodeStatus is what gossip says of a node.
type NodeStatus struct {
	ID, Region, Group, Version string
	DNS, Admin, Relay          string
	Alive                      bool
	Ready                      bool
	Draining                   bool
	Seen                       time.Time
	Reasons                    []string // why it is not ready; of this node only
	Partitions                 []NodePartition
}

// NodePartition is what a node says of a partition that it has, or is getting.
type NodePartition struct {
	Partition int32
	State     string // restoring, catching-up, ready, leaving, halted
	Position  int64
	Assigned  bool
	Trouble   string // of this node only
}

// Reach says whether a group has a change.
type Reach struct {
	Region, Group string
	Applied       bool
	Since         time.Time     // when the group said that it has it, at the latest; zero when it isn't known
	Lag           int64         // records that it has still to apply before it has the change, when not Applied
	Behind        time.Duration // of the log's time, when not Applied
	Err           string        // why it isn't known
}

// MissingError says that a change was applied here, or is in the log, but not yet in all groups that were waited for.
type MissingError struct {
	Position store.Position
	Missing  []Reach
}

func (e *MissingError) Error() string {
	names := make([]string, len(e.Missing))
	for i, m := range e.Missing {
		names[i] = m.Region + "/" + m.Group
		if m.Err != "" {
			names[i] += " (" + m.Err + ")"
		}
	}
	return fmt.Sprintf("%s is not yet known to be applied by %s", e.Position, strings.Join(names, ", "))
}

// GroupInfo is a registered replica group.
type GroupInfo struct {
	Region, Group string
	Registered    time.Time
	Members       int // nodes in it now, as the brokers say; -1 when not known
}
