package replication

import (
	"context"
	"slices"
	"time"

	"balefire/replication/gossip"
	"balefire/replication/mutationlog"
)

// boundsPatience is how long the brokers may take to say how far the log goes.
const boundsPatience = 2 * time.Second

// ClusterStatus returns what this node knows of its namespace. Of itself it knows all, of the other nodes of its region what
// they say, of the groups what they have committed.
func (n *Node) ClusterStatus(ctx context.Context) ClusterStatus {
	s := n.log.Status()
	c := ClusterStatus{
		Namespace: n.opts.Log.Namespace, Partitions: n.log.Partitions(), Node: n.opts.NodeID, Region: n.opts.Region, Group: n.opts.Group,
		Log: LogStatus{
			Embedded: s.Embedded, Established: s.Established, Reachable: s.Reachable, Fault: textOf(s.Fault), Trying: textOf(s.Trying),
		},
		Alarms:   n.Alarms(),
		Troubles: n.Troubles(),
	}
	for _, complaint := range s.Complaints {
		c.Log.Complaints = append(c.Log.Complaints, complaint.String())
	}
	if f, frozen := n.log.Frozen(); frozen {
		c.Log.Frozen = f.To
	}
	asking, cancel := context.WithTimeout(ctx, boundsPatience)
	defer cancel()
	bounds, err := n.log.Bounds(asking)
	c.Groups = n.groupStatus(asking, bounds, err)
	c.Nodes = append(c.Nodes, n.ownStatus())
	if n.region != nil {
		for _, p := range n.region.gossip.Map().Peers() {
			if p.ID != n.opts.NodeID {
				c.Nodes = append(c.Nodes, nodeStatus(p))
			}
		}
	}
	slices.SortFunc(c.Nodes, func(a, b NodeStatus) int {
		return slices.Compare([]string{a.Region, a.Group, a.ID}, []string{b.Region, b.Group, b.ID})
	})
	return c
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// groupStatus is how far the groups are; unbounded is why it isn't known how far the log goes.
func (n *Node) groupStatus(ctx context.Context, bounds map[int32]mutationlog.Bounds, unbounded error) []GroupStatus {
	if n.count() == 0 {
		return nil // the group is not known before the namespace is
	}
	if n.group.Load() == nil {
		own := GroupStatus{Region: n.opts.Region, Group: n.opts.Group, Err: textOf(unbounded)}
		for r := range n.replicas() {
			if b, ok := bounds[r.number]; ok {
				applied := r.applied().Offset
				own.Partitions = append(own.Partitions, GroupPartition{
					Partition: r.number, Applied: applied, Lag: max(0, b.End-1-applied), Committed: time.Now(), Node: n.opts.NodeID,
				})
			}
		}
		return []GroupStatus{own}
	}
	groups := n.log.Groups()
	all, err := n.fetchProgress(ctx, groups)
	list := make([]GroupStatus, len(groups))
	for i, g := range groups {
		list[i] = GroupStatus{Region: g.Region, Group: g.Group, Registered: g.Registered}
		if err == nil {
			list[i].Err = textOf(all.failed[g])
		} else {
			list[i].Err = err.Error()
			continue
		}
		for _, p := range all.groups[g] {
			part := GroupPartition{Partition: p.Partition, Applied: p.Next - 1, Committed: p.Time, Node: p.Node}
			if b, ok := bounds[p.Partition]; ok {
				part.Lag = max(0, b.End-p.Next)
			}
			if part.Lag > 0 && !p.Caught.IsZero() {
				part.Behind = time.Since(p.Caught)
			}
			list[i].Partitions = append(list[i].Partitions, part)
		}
	}
	return list
}

// ownStatus is what this node says of itself.
func (n *Node) ownStatus() NodeStatus {
	ready, reasons := n.Ready()
	own := NodeStatus{
		ID: n.opts.NodeID, Region: n.opts.Region, Group: n.opts.Group, Version: n.opts.Peers.Version,
		DNS: n.opts.Peers.DNS, Admin: n.opts.Peers.Admin, Alive: true, Ready: ready, Seen: time.Now(), Reasons: reasons,
	}
	if n.region != nil {
		own.Draining = n.region.draining.Load()
		if n.region.relay != nil {
			own.Relay = reachable(n.opts.Peers.RelayAdvertise, n.region.relay.Addr())
		}
	}
	for r := range n.replicas() {
		applied := r.applied().Offset
		r.mu.Lock()
		own.Partitions = append(own.Partitions, NodePartition{
			Partition: r.number, State: r.state().String(), Position: applied, Assigned: r.assigned, Trouble: textOf(r.trouble),
		})
		r.mu.Unlock()
	}
	return own
}

// nodeStatus is what another node says of itself.
func nodeStatus(p *gossip.Peer) NodeStatus {
	s := NodeStatus{
		ID: p.ID, Region: p.Region, Group: p.Group, Version: p.Version, DNS: p.DNS, Admin: p.Admin, Relay: p.Relay,
		Alive: p.Alive, Ready: p.Ready, Draining: p.Draining, Seen: p.Seen,
	}
	for _, c := range p.Claims {
		s.Partitions = append(s.Partitions, NodePartition{Partition: c.Partition, State: c.State.String(), Position: c.Position, Assigned: c.Assigned})
	}
	return s
}
