package gossip

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of what is taken from others, and said to them.
const (
	// MaxMembers are the nodes of one region, dead ones that are still remembered included.
	MaxMembers = 1000
	// MaxPartitions is one more than the highest partition that can be claimed.
	MaxPartitions = 4096

	maxID          = 64  // octets of a node's ID
	maxDescription = 512 // octets of a Member's texts together
	maxText        = 255 // octets of one of them
	// maxIncarnation is the year 2116 in Unix nanoseconds; a higher one could not be outdone by a clock.
	maxIncarnation = 1 << 62
	// maxOctets of sections are kept of all members together: several times what 1,000 nodes with 256 partitions each say.
	maxOctets = 32 << 20
)

// Member is who a node is. It does not change while the node runs.
type Member struct {
	ID      string // unique in the namespace, stable over restarts
	Region  string
	Group   string // its replica group
	Version string // of the program
	DNS     string // HOST:PORT of its services, as others reach them; empty: it has none
	Admin   string
	Relay   string
	// Fingerprint is the SHA-256 of the certificate of its relay; zero: there is none.
	Fingerprint [32]byte
	// Incarnation orders the lives of a node: Unix nanoseconds of its start, or one more than any that it has heard of itself.
	// Start sets it.
	Incarnation uint64
}

// State is how far a node is with a partition.
type State uint8

// The states of a partition at a node, in the order of its life.
const (
	Restoring  State = iota // its data is being brought in; nothing is served
	CatchingUp              // whole, but still behind the log
	Ready                   // serving
	Leaving                 // serving until another node is ready
	Halted                  // it has stopped applying, and serves what it has
	states                  // how many there are
)

// String is the state's name, as the API shows it.
func (s State) String() string {
	switch s {
	case Restoring:
		return "restoring"
	case CatchingUp:
		return "catching-up"
	case Ready:
		return "ready"
	case Leaving:
		return "leaving"
	case Halted:
		return "halted"
	default:
		return fmt.Sprintf("state-%d", uint8(s))
	}
}

// Claim is what a node says of one partition.
type Claim struct {
	Partition  int32
	State      State
	Assigned   bool     // by its replica group
	Position   int64    // offset of the last record applied; -1: none, or not said yet
	Checkpoint int64    // offset that Digest belongs to; -1: none
	Digest     [16]byte // the first half of the partition's digest at Checkpoint; zero: none
}

// Condition is how a node is as a whole.
type Condition struct {
	Ready    bool
	Draining bool
	Catalog  int64 // offset of the last entry of the catalog that it has read; -1: none
}

// Peer is what is known of a node, this one included. It is never changed: what comes later makes another one.
type Peer struct {
	Member
	Condition
	Alive    bool          // it answers, or somebody's word is that it does
	Left     bool          // it has said goodbye
	Seen     time.Time     // when it was last heard of, by this node's clock; of the living not newer than half a minute
	Sequence uint64        // of the newest section of its record
	Claims   []Claim       // by partition; to be read only
	Skew     time.Duration // how far its clock is ahead of this node's; 0 until it was measured
}

// Claim returns what the peer says of a partition.
func (p *Peer) Claim(partition int32) (Claim, bool) {
	if i, ok := searchClaims(p.Claims, partition); ok {
		return p.Claims[i], true
	}
	return Claim{}, false
}

// validID says why a text can't be a node's ID; it is shown to people, so it must be printable.
func validID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("the node's ID is empty")
	case len(id) > maxID:
		return fmt.Errorf("the node's ID has %d octets, more than %d", len(id), maxID)
	case !printable(id):
		return fmt.Errorf("the node's ID %q has octets that are not printable UTF-8", id)
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// validate says why a member can't be told to others.
func (m *Member) validate() error {
	if err := validID(m.ID); err != nil {
		return err
	}
	total := 0
	for _, text := range m.texts() {
		if len(*text) > maxText || !printable(*text) {
			return fmt.Errorf("%q is longer than %d octets, or not printable", *text, maxText)
		}
		total += len(*text)
	}
	if total > maxDescription {
		return fmt.Errorf("region, group, version and addresses have %d octets together, more than %d", total, maxDescription)
	}
	return nil
}

// texts are a member's texts in the order in which they are sent.
func (m *Member) texts() [6]*string {
	return [6]*string{&m.Region, &m.Group, &m.Version, &m.DNS, &m.Admin, &m.Relay}
}
