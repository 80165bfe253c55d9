package replication

import (
	"context"
	"fmt"
)

// CatchUp waits until this node's copy of a partition has all that was in the log when it was called: what is read from the copy then is no
// older than the call. It asks the brokers. ErrNotOpen when this node has no copy.
func (n *Node) CatchUp(ctx context.Context, partition int32) error {
	r := n.replica(partition)
	if r == nil {
		return fmt.Errorf("catch up with partition %d: %w", partition, ErrNotOpen)
	}
	bounds, err := n.log.Bounds(ctx)
	if err != nil {
		return fmt.Errorf("catch up with partition %d: %w", partition, err)
	}
	b, ok := bounds[partition]
	if !ok {
		return fmt.Errorf("catch up with partition %d: its broker does not answer", partition)
	}
	if err := r.reach(ctx, b.End-1); err != nil {
		return fmt.Errorf("catch up with partition %d: %w", partition, err)
	}
	return nil
}

// reach waits until an offset is applied, and every Find sees it.
func (r *replica) reach(ctx context.Context, offset int64) error {
	arrived, leave, err := r.waiters.join(offset)
	if err != nil {
		return err
	}
	defer leave()
	p := r.opened()
	if p != nil && p.Settled() >= offset {
		return nil
	}
	select {
	case a := <-arrived:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
