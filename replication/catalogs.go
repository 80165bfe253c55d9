package replication

import (
	"context"
	"errors"
	"hash/fnv"
	"path/filepath"

	"balefire/replication/catalog"
	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
)

// The catalog says which zones there are in partitions that this node does not hold. What it needs of the log, and of the
// partitions, it gets here.

// openCatalog opens this node's copy of the catalog, and gives the store what it has of other partitions.
func (n *Node) openCatalog() (*catalog.Catalog, error) {
	return catalog.Open(catalog.Options{
		Dir: filepath.Join(n.opts.Dir, "catalog"), LogID: n.log.TopicID(), Source: catalogSource{n.log}, Publisher: catalogSource{n.log}, Index: n.store,
		PartitionOf: func(apex zones.Name) int32 { return mutationlog.PartitionOf([]byte(apex.String()), n.count()) },
		Rank:        n.rank,
		Doubt:       n.doubtCatalog,
		RoomToOpen:  n.store.RoomToOpen,
		Room:        n.store.Room,
		Logger:      n.logger.With().Str("part", "catalog").Logger(),
	})
}

// rank is the place of this node's group among those of the namespace, which is another for each apex: the first one says in the
// catalog what has become of a zone, the others only if it has not.
func (n *Node) rank(apex zones.Name) int {
	groups := n.log.Groups()
	h := fnv.New32a()
	_, _ = h.Write([]byte(apex))
	first := int(h.Sum32() % uint32(max(1, len(groups))))
	for i, g := range groups {
		if g.Region == n.opts.Region && g.Group == n.opts.Group {
			return (i - first + len(groups)) % len(groups)
		}
	}
	return len(groups)
}

// indexWhole reports whether every zone of the namespace is in the index.
func (n *Node) indexWhole() bool {
	c := n.catalog.Load()
	return c != nil && c.Whole() || n.HoldsAll()
}

// ListChanged returns a channel that is closed when more is known of which zones there are in partitions that this node does not hold; nil
// before it has begun to read that.
func (n *Node) ListChanged() <-chan struct{} {
	if c := n.catalog.Load(); c != nil {
		return c.Changed()
	}
	return nil
}

// catalogPosition is how far this node has read the catalog; 0 when there is none.
func (n *Node) catalogPosition() int64 {
	if c := n.catalog.Load(); c != nil {
		return c.Position()
	}
	return 0
}

// catalogSays returns how far the catalog must be read to know of a zone what its record at a position did; -1 when that is not
// in it yet.
func (n *Node) catalogSays(apex zones.Name, at store.Position) int64 {
	c := n.catalog.Load()
	if c == nil {
		return 0
	}
	if e, ok, err := c.Get(apex); err == nil && ok && e.Offset >= at.Offset {
		return c.Position()
	}
	return -1
}

// catalogTakesOver gives the index what the catalog has of a partition that was closed at an offset.
func (n *Node) catalogTakesOver(partition int32, applied int64) {
	if c := n.catalog.Load(); c != nil {
		if err := c.TakeOver(n.ctx, partition, applied); err != nil && n.ctx.Err() == nil {
			n.logger.Error().Err(err).Int32("partition", partition).Msg("zones of a partition that went to another node may be missing from the index until the next start")
		}
	}
}

// tellCatalog says in the catalog which zones records have made or deleted.
func (r *replica) tellCatalog(outcomes []store.Outcome) {
	c := r.node.catalog.Load()
	if c == nil || !r.node.Holds(r.number) {
		return // what was missed is told when it has caught up
	}
	for _, o := range outcomes {
		if !o.Created && !o.Deleted {
			continue
		}
		c.Announce(r.number, o.Zone, o.Created, o.Offset)
	}
}

// reconcileCatalog puts right what the catalog says of a partition that has caught up.
func (r *replica) reconcileCatalog() {
	c := r.node.catalog.Load()
	p := r.opened()
	if c == nil || p == nil {
		return
	}
	r.node.work.Go(func() {
		ctx := r.node.ctx
		err := c.Reconcile(ctx, r.number, p.Apexes)
		if err != nil && !errors.Is(err, store.ErrClosed) && ctx.Err() == nil {
			r.node.logger.Warn().Err(err).Int32("partition", r.number).Msg("the catalog was not compared with the partition")
		}
	})
}

// doubtCatalog has the catalog compared with a partition that this node owns, or with all of them.
func (n *Node) doubtCatalog(partition int32) {
	for r := range n.replicas() {
		if (partition == catalog.AllPartitions || r.number == partition) && n.Holds(r.number) {
			r.reconcileCatalog()
		}
	}
}

// followCatalog reads the catalog for as long as the node runs.
func (n *Node) followCatalog(c *catalog.Catalog) {
	n.work.Go(func() {
		for {
			changed := c.Changed()
			n.progressed()
			select {
			case <-changed:
			case <-n.ctx.Done():
				return
			}
		}
	})
	c.Run(n.ctx)
}

// catalogSource is the log as the catalog knows it.
type catalogSource struct{ log *mutationlog.Log }

func (s catalogSource) TopicID() [16]byte { return s.log.CatalogID() }

func (s catalogSource) Bounds(ctx context.Context) (start, end int64, err error) {
	b, err := s.log.CatalogBounds(ctx)
	return b.Start, b.End, err
}

func (s catalogSource) Open(offset int64) (catalog.Reader, error) {
	stream, err := s.log.ConsumeCatalog(offset)
	if err != nil {
		return nil, err
	}
	return catalogReader{stream}, nil
}

func (s catalogSource) PublishAll(ctx context.Context, records []catalog.Record) error {
	all := make([]mutationlog.CatalogRecord, len(records))
	for i, r := range records {
		all[i] = mutationlog.CatalogRecord{Key: r.Key, Value: r.Value}
	}
	return s.log.PublishCatalogAll(ctx, all)
}

type catalogReader struct{ stream *mutationlog.Stream }

func (r catalogReader) Next(ctx context.Context) ([]catalog.Record, int64, error) {
	batch, err := r.stream.Next(ctx)
	if err != nil {
		var gone *mutationlog.OutOfRangeError
		var diverged *mutationlog.DivergedError
		if errors.Is(err, mutationlog.ErrReplaced) || errors.As(err, &gone) || errors.As(err, &diverged) {
			err = errors.Join(catalog.ErrAnew, err)
		}
		return nil, 0, err
	}
	records := make([]catalog.Record, len(batch.Records))
	for i, record := range batch.Records {
		records[i] = catalog.Record{Offset: record.Offset, Key: record.Key, Value: record.Value}
	}
	return records, batch.Next, nil
}

func (r catalogReader) Close() { r.stream.Close() }
