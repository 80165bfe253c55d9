package assignment

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// claiming is a balancer by which a member that was out of its group says on joining what was given to it before. The client
// itself forgets that with everything else when its broker is away: then, when all members have been away, the first of them
// would spread the partitions as if nobody had ever had one, and nodes would fetch what others have whole.
//
// A claim is older than the group's present generation when others have the partition by now, and then it does not count.
// So it helps as long as the group has its members: when all sessions have ended, who joins first gets everything, and gives
// up what the sticky balancer likes.
type claiming struct {
	kgo.GroupBalancer
	a *Assignment
}

var _ kgo.GroupBalancer = claiming{}

func (c claiming) JoinGroupMetadata(topics []string, current map[string][]int32, generation int32) []byte {
	return c.GroupBalancer.JoinGroupMetadata(topics, c.a.claim(topics, current), generation)
}

// claim returns what this node has by its own account; current is what it has by the client's.
func (a *Assignment) claim(topics []string, current map[string][]int32) map[string][]int32 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.claimed = nil
	if a.fresh || len(a.given) == 0 || !slices.Contains(topics, a.opts.Topic) {
		return current
	}
	a.claimed = a.given
	return map[string][]int32{a.opts.Topic: sorted(a.given)}
}

// refused says whether the group has given less than was claimed. What is moved from one member to another is given to
// nobody until the first has joined once more without it; the client knows of no claim, so it wouldn't. a.mu is held.
func (a *Assignment) refused(next map[int32]bool) bool {
	for p := range a.claimed {
		if !next[p] {
			return true
		}
	}
	return false
}
