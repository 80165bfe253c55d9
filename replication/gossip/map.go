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
	holders byPartition // among the living
	lost    byPartition // among those taken for dead
}

// byPartition is who serves each partition; those of one partition are by ID.
type byPartition struct {
	holders []Holder
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
func (m *Map) Holders(partition int32) []Holder { return m.holders.of(partition) }

// Lost are the nodes that said they serve a partition when they were last heard, and that are taken for dead: they crashed, or only
// gossip does not reach them. Those that said goodbye are not among them. To be read only.
func (m *Map) Lost(partition int32) []Holder { return m.lost.of(partition) }

func (b *byPartition) of(partition int32) []Holder {
	if partition < 0 || int(partition) >= len(b.starts)-1 {
		return nil
	}
	from, to := b.starts[partition], b.starts[partition+1]
	return b.holders[from:to:to]
}

func (c *Claim) serves() bool { return c.State == Ready || c.State == Leaving }

// newMap makes a map of peers, which it sorts and keeps.
func newMap(self *Peer, peers []*Peer) *Map {
	slices.SortFunc(peers, func(a, b *Peer) int { return cmp.Compare(a.ID, b.ID) })
	return &Map{
		self: self, peers: peers,
		holders: serving(peers, func(p *Peer) bool { return p.Alive && p != self }),
		lost:    serving(peers, func(p *Peer) bool { return !p.Alive && !p.Left && p != self }),
	}
}

// serving sorts what the peers that are wanted serve by partition.
func serving(peers []*Peer, wanted func(*Peer) bool) (b byPartition) {
	each := func(do func(*Peer, *Claim)) {
		for _, p := range peers {
			if !wanted(p) {
				continue
			}
			for i := range p.Claims {
				if c := &p.Claims[i]; c.serves() {
					do(p, c)
				}
			}
		}
	}
	var counts [MaxPartitions + 1]uint32
	partitions, total := 0, 0
	each(func(_ *Peer, c *Claim) {
		counts[c.Partition]++
		partitions = max(partitions, int(c.Partition)+1)
		total++
	})
	b.holders = make([]Holder, total)
	b.starts = make([]uint32, partitions+1)
	for p := range partitions {
		b.starts[p+1] = b.starts[p] + counts[p]
		counts[p] = b.starts[p] // from here on: where the partition's next holder goes
	}
	each(func(p *Peer, c *Claim) {
		b.holders[counts[c.Partition]] = Holder{p, c}
		counts[c.Partition]++
	})
	return b
}

func searchClaims(claims []Claim, partition int32) (int, bool) {
	return slices.BinarySearchFunc(claims, partition, func(c Claim, p int32) int { return cmp.Compare(c.Partition, p) })
}
