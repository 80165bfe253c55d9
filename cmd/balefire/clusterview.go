package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"balefire/replication"
	"balefire/replication/catalogzones"
	"balefire/replication/keyring"
)

// clusterView is what the API tells of the cluster: what the node knows, and whether it is ready as a whole.
type clusterView struct {
	node     *replication.Node
	keys     *keyring.Ring
	catalogs *catalogzones.Keeper
	ready    func() (bool, []string)
	draining *atomic.Bool
}

// boundsPatience is how long the brokers may take to say how far the log goes.
const boundsPatience = 2 * time.Second

// logEnd is admin's LogEnd.
func (v clusterView) logEnd(ctx context.Context, partition int32) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, boundsPatience)
	defer cancel()
	bounds, err := v.node.Log().Bounds(ctx)
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
	c := v.node.ClusterStatus(ctx)
	c.Troubles = append(append(c.Troubles, v.keys.Troubles()...), v.catalogs.Troubles()...)
	for i := range c.Nodes {
		if self := &c.Nodes[i]; self.ID == c.Node {
			self.Ready, self.Reasons = v.ready()
			self.Draining = v.draining.Load()
		}
	}
	return c, nil
}

// troubles are what people should put right, the log's before the others.
func (v clusterView) troubles() (list []string) {
	switch s := v.node.Log().Status(); {
	case s.Fault != nil:
		list = append(list, "the log: nothing is applied or published: "+s.Fault.Error())
	case s.Trying != nil:
		list = append(list, "the log is out of reach: "+s.Trying.Error())
	}
	return append(append(append(list, v.node.Troubles()...), v.keys.Troubles()...), v.catalogs.Troubles()...)
}

// tellInterval is how often it is looked whether the others are to be told that this node is ready, or not any more.
const tellInterval = 250 * time.Millisecond

// tellReadiness keeps the other nodes of the region informed, until ctx ends.
func (v clusterView) tellReadiness(ctx context.Context) {
	tick := time.NewTicker(tellInterval)
	defer tick.Stop()
	for {
		ready, _ := v.ready()
		draining := v.draining.Load()
		v.node.SetReadiness(ready && !draining, draining)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
