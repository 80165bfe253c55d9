package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"balefire/admin"
	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/store"
)

// clusterView is what a node knows of its namespace by itself: the log, and its own partitions.
type clusterView struct {
	cfg      *Config
	node     *replication.Node
	ready    func() (bool, []string)
	draining *atomic.Bool
}

// boundsPatience is how long the brokers may take to say how far the log goes.
const boundsPatience = 2 * time.Second

func (v clusterView) bounds(ctx context.Context) (map[int32]mutationlog.Bounds, error) {
	ctx, cancel := context.WithTimeout(ctx, boundsPatience)
	defer cancel()
	return v.node.Log().Bounds(ctx)
}

// logEnd is admin's LogEnd.
func (v clusterView) logEnd(ctx context.Context, partition int32) (int64, error) {
	bounds, err := v.bounds(ctx)
	if err != nil {
		return 0, err
	}
	b, ok := bounds[partition]
	if !ok {
		return 0, fmt.Errorf("the brokers did not say how far partition %d goes", partition)
	}
	return b.End, nil
}

// status is admin's Status.
func (v clusterView) status(ctx context.Context) (replication.ClusterStatus, error) {
	log := v.node.Log()
	s := log.Status()
	c := replication.ClusterStatus{
		Namespace: v.cfg.Namespace, Partitions: log.Partitions(), Node: v.cfg.NodeID, Region: v.cfg.Region, Group: v.cfg.ReplicaGroup,
		Log:    replication.LogStatus{Embedded: s.Embedded, Established: s.Established, Reachable: s.Reachable, Fault: textOf(s.Fault), Trying: textOf(s.Trying)},
		Alarms: v.node.Alarms(),
	}
	for _, complaint := range s.Complaints {
		c.Log.Complaints = append(c.Log.Complaints, complaint.String())
	}
	bounds, err := v.bounds(ctx)
	own := replication.GroupStatus{Region: v.cfg.Region, Group: v.cfg.ReplicaGroup, Err: textOf(err)}
	now := time.Now()
	ready, reasons := v.ready()
	self := replication.NodeStatus{
		ID: v.cfg.NodeID, Region: v.cfg.Region, Group: v.cfg.ReplicaGroup, Version: programVersion(),
		Admin: v.cfg.Admin.Listen, Alive: true, Ready: ready, Draining: v.draining.Load(), Seen: now, Reasons: reasons,
	}
	if len(v.cfg.DNS.Listen) > 0 {
		self.DNS = v.cfg.DNS.Listen[0]
	}
	for number := range c.Partitions {
		held := replication.NodePartition{Partition: number, State: "restoring", Position: -1, Assigned: true}
		if p := v.node.Store().Partition(number); p != nil {
			held.Position, held.State = p.Applied().Offset, "catching-up"
			if v.node.Holds(number) {
				held.State = "ready"
			}
			if b, ok := bounds[number]; ok {
				own.Partitions = append(own.Partitions, replication.GroupPartition{
					Partition: number, Applied: held.Position, Lag: max(0, b.End-1-held.Position), Committed: now, Node: v.cfg.NodeID,
				})
			}
		}
		self.Partitions = append(self.Partitions, held)
	}
	c.Groups, c.Nodes = []replication.GroupStatus{own}, []replication.NodeStatus{self}
	return c, nil
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// alone is the one replica group of a namespace whose log is embedded: what this node has, everybody has.
type alone struct{ clusterView }

func (a alone) Reached(_ context.Context, at store.Position) ([]replication.Reach, error) {
	r := replication.Reach{Region: a.cfg.Region, Group: a.cfg.ReplicaGroup}
	p := a.node.Store().Partition(at.Partition)
	if p == nil {
		r.Err = "the partition is not open"
		return []replication.Reach{r}, nil
	}
	if applied := p.Applied().Offset; applied < at.Offset {
		r.Lag = at.Offset - applied
		return []replication.Reach{r}, nil
	}
	r.Applied = true
	if outcome, err := p.Outcome(at.Offset); err == nil {
		r.Since = outcome.Time
	}
	return []replication.Reach{r}, nil
}

func (a alone) Groups(context.Context) ([]replication.GroupInfo, error) {
	return []replication.GroupInfo{{Region: a.cfg.Region, Group: a.cfg.ReplicaGroup, Members: 1}}, nil
}

func (a alone) RetireGroup(context.Context, string, string) error {
	return fmt.Errorf("the log is embedded in this node: its group is the only one: %w", admin.ErrGroupInUse)
}
