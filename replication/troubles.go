package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/mutationlog"
	"balefire/replication/objectstore"
)

// A trouble is something about how the namespace is set up, or about what the node needs beside the log, that people can put right.
// It is gone from the list when it is over. Nothing here changes what is applied or answered.

const (
	// defaultLookInterval is how often the members of the groups are held against what is known of them; one that is in a group
	// and unknown only now and then is met the second time.
	defaultLookInterval = time.Minute
	// objectsInterval is how often it is looked whether the object store lets itself be read, backupRetry how often while it does not.
	objectsInterval = 5 * time.Minute
	objectsPatience = 30 * time.Second
	// troubleInterval is how often troubles are looked for that are to be logged.
	troubleInterval = time.Second
)

// Troubles returns what is wrong with how the namespace is set up, as far as this node sees it: two nodes with one id, clocks that
// differ, a region's name used in two places, nodes that can't ask each other, an object store that can't be used. What is
// wrong with the log is in its Status.
func (n *Node) Troubles() []string {
	troubles := n.groupTroubles()
	if n.region != nil {
		troubles = append(troubles, n.region.gossip.Troubles()...)
		troubles = append(troubles, n.peerTroubles()...)
	}
	for _, noted := range []*string{n.strangers.Load(), n.namesakes.Load()} {
		if noted != nil {
			troubles = append(troubles, *noted)
		}
	}
	return append(troubles, n.backupTroubles()...)
}

func (n *Node) groupTroubles() (troubles []string) {
	if !n.inGroup() {
		return nil
	}
	if s := n.group.Load().Status(); s.Fault != nil {
		troubles = append(troubles, fmt.Sprintf("the replica group: %v", s.Fault))
	} else if s.Trying != nil {
		troubles = append(troubles, fmt.Sprintf("the replica group, just now: %v", s.Trying))
	}
	if n.sharesGroup() && (n.region == nil || n.region.relay == nil) {
		troubles = append(troubles, "the replica group has other nodes, but this one has not both gossip.listen and relay.listen: "+
			"it can't ask them for what they hold, nor they it; give them to all nodes of the group, or a group to each node")
	}
	return troubles
}

// peerTroubles are about nodes that gossip knows and the relay can't reach.
func (n *Node) peerTroubles() (troubles []string) {
	if n.region.relay == nil {
		return nil
	}
	for _, p := range n.region.gossip.Map().Peers() {
		to, asked := n.Peer(p.ID)
		if !asked || !p.Alive || p.ID == n.opts.NodeID {
			continue
		}
		if err := n.region.relay.Trouble(to); err != nil {
			troubles = append(troubles, fmt.Sprintf("node %q can't be asked at %s: %v", p.ID, to.Address, err))
		}
	}
	return troubles
}

func (n *Node) backupTroubles() []string {
	if noted := n.objects.Load(); noted != nil {
		return []string{*noted}
	}
	for r := range n.replicas() {
		r.mu.Lock()
		err := r.noBackup
		r.mu.Unlock()
		if err != nil { // the others' reason is hardly another
			return []string{fmt.Sprintf("no backup of partition %d: %v", r.number, err)}
		}
	}
	return nil
}

// inGroup reports whether this node is a member of a replica group, as far as is known yet.
func (n *Node) inGroup() bool { return n.count() > 0 && n.group.Load() != nil }

// sharesGroup reports whether other nodes have partitions of this node's group.
func (n *Node) sharesGroup() bool {
	given, fresh := n.group.Load().Current()
	return fresh && len(given) < int(n.count())
}

// lookAround looks, for as long as the node runs, for nodes that should not be there: members of this node's group that gossip
// does not know, and members of other groups that have its id.
func (n *Node) lookAround() {
	var before []string
	for n.sleep(n.ctx, n.opts.LookInterval) {
		n.namesakes.Store(n.lookForNamesakes())
		strange := n.lookForStrangers()
		var text *string
		if len(strange) > 0 && slices.Equal(strange, before) {
			t := fmt.Sprintf("%s in group %s/%s, but unknown to gossip: is the region's name used in two places, or does gossip not get through?",
				strings.Join(strange, ", "), n.opts.Region, n.opts.Group)
			text = &t
		}
		before = strange
		n.strangers.Store(text)
	}
}

// lookForStrangers returns the members of this node's group that it does not know by gossip.
func (n *Node) lookForStrangers() (strange []string) {
	if n.region == nil || !n.sharesGroup() {
		return nil
	}
	for _, id := range n.members(n.opts.Region, n.opts.Group) {
		if p := n.region.gossip.Map().Peer(id); id != n.opts.NodeID && (p == nil || !p.Alive) {
			strange = append(strange, id)
		}
	}
	slices.Sort(strange)
	return strange
}

// lookForNamesakes says in which other groups there is a node with this one's id.
func (n *Node) lookForNamesakes() *string {
	own := mutationlog.Group{Region: n.opts.Region, Group: n.opts.Group}
	var found []string
	for _, g := range n.log.Groups() {
		if g.Region == own.Region && g.Group == own.Group {
			continue
		}
		if slices.Contains(n.members(g.Region, g.Group), n.opts.NodeID) {
			found = append(found, g.Region+"/"+g.Group)
		}
	}
	if len(found) == 0 {
		return nil
	}
	text := fmt.Sprintf("another node is called %q, in group %s: give each node of the namespace a node-id of its own", n.opts.NodeID, strings.Join(found, ", "))
	return &text
}

// members returns the ids of a group's members; none when the brokers can't be asked.
func (n *Node) members(region, group string) (ids []string) {
	ctx, cancel := context.WithTimeout(n.ctx, commitWait)
	defer cancel()
	members, err := n.log.Members(ctx, region, group)
	if err != nil {
		return nil
	}
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	return ids
}

// watchObjects looks, for as long as the node runs, whether the object store can be read: a bucket that is missing is not to be
// noticed when it is needed.
func (n *Node) watchObjects() {
	var before error
	for {
		wait := objectsInterval
		err := n.readObjects()
		if n.ctx.Err() != nil {
			return
		}
		if err == nil {
			n.objects.Store(nil)
		} else {
			wait = backupRetry
			if before == nil || !sameKind(err, before) { // otherwise only ports and times in it are new
				text := fmt.Sprintf("backups: %v", err)
				n.objects.Store(&text)
			}
		}
		before = err
		if !n.sleep(n.ctx, wait) {
			return
		}
	}
}

// sameKind reports whether two errors of an object store are the same to those who are to mend it.
func sameKind(a, b error) bool {
	return errors.Is(a, objectstore.ErrDenied) == errors.Is(b, objectstore.ErrDenied) && errors.Is(a, objectstore.ErrNoBucket) == errors.Is(b, objectstore.ErrNoBucket)
}

// readObjects asks for the name of any object of the namespace's.
func (n *Node) readObjects() error {
	ctx, cancel := context.WithTimeout(n.ctx, objectsPatience)
	defer cancel()
	for _, err := range n.opts.Backup.Objects.List(ctx, n.opts.Log.Namespace+"/") {
		return err
	}
	return nil
}

// logTroubles logs each trouble once, for as long as the node runs, and once that it is over.
func (n *Node) logTroubles() {
	said := newSaid(n.logger)
	for n.sleep(n.ctx, troubleInterval) {
		said.look(n.Troubles(), time.Now())
	}
}

const (
	// overAfter is how long a trouble must not be seen to be over: what comes and goes is one trouble.
	overAfter = time.Minute
	maxSaid   = 1000
)

// said remembers which troubles were logged.
type said struct {
	logger zerolog.Logger
	seen   map[string]time.Time // by text, when last
}

func newSaid(logger zerolog.Logger) *said {
	return &said{logger: logger, seen: make(map[string]time.Time)}
}

// look logs what is new, and what is over. Beyond maxSaid nothing new is: their list has them.
func (s *said) look(troubles []string, now time.Time) {
	for _, text := range troubles {
		if _, known := s.seen[text]; !known {
			if len(s.seen) >= maxSaid {
				continue
			}
			s.logger.Warn().Str("trouble", text).Msg("something is wrong with the set-up")
		}
		s.seen[text] = now
	}
	for text, last := range s.seen {
		if now.Sub(last) >= overAfter {
			delete(s.seen, text)
			s.logger.Info().Str("trouble", text).Msg("this is over")
		}
	}
}
