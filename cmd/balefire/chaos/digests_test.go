//go:build chaos && kafka && s3

package chaos

import (
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"balefire/store"
)

// compareDigests ends all nodes, opens what each has on its disk, and compares: replicas at the same position are the
// same, and each is what its own digest says.
func (c *cluster) compareDigests(h *history) {
	c.t.Helper()
	for _, n := range c.nodes {
		n.setDown(true)
		if err := n.server.Stop(30 * time.Second); err != nil {
			c.t.Errorf("%s did not stop well: %v", n.id, err)
		}
	}
	type copied struct{ node, digest string }
	first := make(map[string]copied) // by partition and position
	compared := 0
	for _, n := range c.nodes {
		s, err := store.New(store.Options{Dir: n.dir, Ballast: -1, Reserve: 1 << 20, Logger: zerolog.Nop()})
		if err != nil {
			c.t.Fatal(err)
		}
		topic := c.topicID()
		for p := range int32(c.partitions) {
			if !s.Has(p) {
				continue
			}
			partition, err := s.Open(p, topic)
			if err != nil {
				c.t.Errorf("%s, partition %d: %v", n.id, p, err)
				continue
			}
			if err := partition.Scrub(c.t.Context()); err != nil {
				c.t.Errorf("%s, partition %d: %v", n.id, p, err)
			}
			at := fmt.Sprintf("%d@%d", p, partition.Applied().Offset)
			sum, _ := partition.Digest()
			digest := sum.String()
			if before, ok := first[at]; !ok {
				first[at] = copied{n.id, digest}
			} else if compared++; before.digest != digest {
				c.t.Errorf("at %s, %s has digest %s and %s has %s", at, before.node, before.digest, n.id, digest)
			}
		}
		if err := s.Close(); err != nil {
			c.t.Error(err)
		}
	}
	if compared < c.partitions {
		c.t.Errorf("only %d copies could be compared with another at the same position", compared)
	}
	c.t.Logf("%d copies compared with others at the same position", compared)
}
