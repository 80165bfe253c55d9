package catalogzones

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"balefire/zones"
	"balefire/zones/catalog"
	"balefire/zones/change"
)

// ErrElsewhere is of a partition that this node does not hold.
var ErrElsewhere = errors.New("this node does not hold the partition")

// produce makes the content of a catalog what is hosted.
func (k *Keeper) produce(ctx context.Context, content Content) (did work, err error) {
	ops, removed, err := k.differences(ctx, content, false)
	if err != nil {
		return did, err
	}
	if removed {
		// A copy that is a little behind may not have a zone yet that another node has listed.
		if ops, _, err = k.differences(ctx, content, true); err != nil {
			return did, err
		}
	}
	decided := time.Now()
	did, err = k.change(ctx, content, ops)
	did.decided = decided
	return did, err
}

// differences are what the catalog's zone lacks. removed says that zones are to be taken off it.
func (k *Keeper) differences(ctx context.Context, content Content, fresh bool) (ops []zones.Op, removed bool, err error) {
	listed, err := k.listed(ctx, content, fresh)
	if err != nil {
		return nil, false, err
	}
	c, err := catalog.New(content.Info.Apex, listed)
	if err != nil {
		return nil, false, err
	}
	ops, err = c.Differences(slices.Values(content.RRsets))
	for _, op := range ops {
		_, deletes := op.(zones.OpDeleteRRset)
		removed = removed || deletes
	}
	return ops, removed, err
}

// labelLen is how long the labels are that are made here.
var labelLen = len(catalog.MemberLabel(zones.Root, ""))

// listed are the zones that a produced catalog is to list, as it lists them.
func (k *Keeper) listed(ctx context.Context, content Content, fresh bool) (members []catalog.Member, err error) {
	apex, is := content.Info.Apex, content.Info.Settings.Catalog
	var own []string // labels
	labels := catalog.Labels(apex, slices.Values(content.RRsets))
	for partition := range k.opts.Source.Partitions() {
		err := k.opts.Source.EachZone(ctx, partition, fresh, func(z Zone) {
			if z.Apex == apex || !is.Lists(apex, z.Settings) {
				return
			}
			m := catalog.Member{Zone: z.Apex, Groups: z.Settings.Groups}
			var alone string
			m.Label, alone = k.label(partition, z, labels[z.Apex])
			own = append(own, alone)
			if z.Settings.NewOwner != apex {
				m.NewOwner = z.Settings.NewOwner
			}
			members = append(members, m)
		})
		if err != nil {
			return nil, fmt.Errorf("zones of partition %d can't be listed: %w", partition, err)
		}
	}
	separate(members, own)
	return members, nil
}

// separate gives members the labels that they would have of their own when others have those that they are called by: somebody has written
// into the catalog. No two have the same of their own.
func separate(members []catalog.Member, own []string) {
	for again := true; again; {
		again = false
		users := make(map[string]int, len(members))
		for i := range members {
			other, taken := users[members[i].Label]
			if !taken {
				users[members[i].Label] = i
				continue
			}
			for _, j := range []int{i, other} {
				if members[j].Label != own[j] {
					members[j].Label, again = own[j], true
				}
			}
		}
	}
}

// label is what a zone is called: what it is called already, unless it was made anew since; and what it would be called if it were not.
func (k *Keeper) label(partition int32, z Zone, called string) (label, own string) {
	k.mu.Lock()
	born, known := k.born[z.Apex]
	k.mu.Unlock()
	if known {
		z.Generation = born.generation
	}
	own = catalog.MemberLabel(z.Apex, bornAt(partition, z.Generation))
	if !known && len(called) == labelLen {
		return called, own
	}
	return own, own
}

// change publishes operations on a catalog's zone, as many at once as there may be.
func (k *Keeper) change(ctx context.Context, content Content, ops []zones.Op) (did work, err error) {
	serial := content.Info.Serial
	most := change.MaxOps
	for len(ops) > 0 {
		n := fitting(ops, most)
		cs := &zones.ChangeSet{
			ID: newID(), Zone: content.Info.Apex, Author: author, Reason: "the zones that are hosted",
			Preconditions: []zones.Precondition{zones.IfSerial{Serial: serial}}, Ops: ops[:n],
		}
		at, err := k.opts.Source.Publish(ctx, cs)
		if err != nil {
			return did, err
		}
		outcome, err := k.opts.Source.Applied(ctx, at)
		if err != nil {
			return did, err
		}
		switch rej := outcome.Rejection; {
		case rej == nil:
			serial = outcome.Serial
			did.done += n
			k.metrics.did("list", n)
			ops = ops[n:]
		case rej.Rule == zones.RuleTooLarge && n > 1: // what it removes counts, too
			most = n / 2
		case rej.Rule == zones.RulePrecondition || rej.Rule == zones.RuleNoZone: // somebody else did it
			did.soon = true
			return did, nil
		default:
			return did, fmt.Errorf("a change of it was rejected: %w", rej)
		}
	}
	return did, nil
}

// author is who made the change sets, in the history of zones.
const author = "catalog"

// fitting is how many of the operations fit one change set, at most so many.
func fitting(ops []zones.Op, most int) int {
	octets := 0
	for i, op := range ops {
		switch op := op.(type) {
		case zones.OpPutRRset:
			octets += change.EncodedSize(op.RRset) + 8
		case zones.OpDeleteRRset:
			octets += len(op.Owner) + 24
		}
		if i > 0 && (i == most || octets > change.MaxChunk) {
			return i
		}
	}
	return len(ops)
}

func newID() (id zones.ChangeID) {
	rand.Read(id[:])
	return id
}
