package gossip

import (
	"cmp"
	"slices"
)

// Map is what is known of the region at one moment. It is never changed, and all its methods may be called at the same time; none of
// them allocates.
type Map struct {
	self    *Peer
	peers   []*Peer
	holders []Holder // by partition; of one partition by ID
	starts  []uint32 // where each partition's holders begin, and where the last ones end
}

// Holder is a peer that can be asked for a partition, and what it says of it.
type Holder struct {
	Peer  *Peer
	Claim *Claim // into Peer.Claims
}

// Self is this node as the others are told.
func (m *Map) Self() *Peer { return m.self }

// Peers are all nodes that are known, by ID: this one, living ones, and dead ones until they are forgotten. To be read only.
func (m *Map) Peers() []*Peer { return m.peers }

// Peer returns the node with an ID; nil: none is known.
func (m *Map) Peer(id string) *Peer {
	i, ok := slices.BinarySearchFunc(m.peers, id, func(p *Peer, id string) int { return cmp.Compare(p.ID, id) })
	if !ok {
		return nil
	}
	return m.peers[i]
}

// Holders are the living nodes other than this one that say they serve a partition, Ready or Leaving, by ID. To be read only.
func (m *Map) Holders(partition int32) []Holder {
	if partition < 0 || int(partition) >= len(m.starts)-1 {
		return nil
	}
	from, to := m.starts[partition], m.starts[partition+1]
	return m.holders[from:to:to]
}

func (c *Claim) serves() bool { return c.State == Ready || c.State == Leaving }

// newMap makes a map of peers, which it sorts and keeps.
func newMap(self *Peer, peers []*Peer) *Map {
	m := &Map{self: self, peers: peers}
	slices.SortFunc(peers, func(a, b *Peer) int { return cmp.Compare(a.ID, b.ID) })
	var counts [MaxPartitions + 1]uint32
	partitions, total := 0, 0
	m.eachServing(func(_ *Peer, c *Claim) {
		counts[c.Partition]++
		partitions = max(partitions, int(c.Partition)+1)
		total++
	})
	m.holders = make([]Holder, total)
	m.starts = make([]uint32, partitions+1)
	for p := range partitions {
		m.starts[p+1] = m.starts[p] + counts[p]
		counts[p] = m.starts[p] // from here on: where the partition's next holder goes
	}
	m.eachServing(func(p *Peer, c *Claim) {
		m.holders[counts[c.Partition]] = Holder{p, c}
		counts[c.Partition]++
	})
	return m
}

func (m *Map) eachServing(do func(*Peer, *Claim)) {
	for _, p := range m.peers {
		if !p.Alive || p == m.self {
			continue
		}
		for i := range p.Claims {
			if c := &p.Claims[i]; c.serves() {
				do(p, c)
			}
		}
	}
}

func searchClaims(claims []Claim, partition int32) (int, bool) {
	return slices.BinarySearchFunc(claims, partition, func(c Claim, p int32) int { return cmp.Compare(c.Partition, p) })
}
