package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The catalog topic, NAMESPACE.catalog, tells nodes of zones that they do not hold. All that it says follows from the
// partitions, so it may be lost: it is made again wherever it is missing, and another topic under its name is only read from
// its beginning. What its records say is not known here. With the embedded log there is none, as every partition is at hand.

// catalogChunk is how many records of PublishCatalogAll are under way at once: far fewer than may be buffered, so that
// changes still find room beside them.
const catalogChunk = 1000

// CatalogRecord is a record for the catalog topic. A nil Value removes the key when the topic is compacted.
type CatalogRecord struct {
	Key, Value []byte
}

// CatalogID returns the id of the catalog topic, or zeros as long as it is not known, and with the embedded log. It changes
// when the topic is replaced; offsets of one id mean nothing under another.
func (l *Log) CatalogID() [16]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.catalogID
}

// PublishCatalog appends a record to the catalog topic and returns its offset, once all in-sync replicas have it. The errors
// are Publish's; without a catalog topic it is ErrRefused and ErrNoCatalog.
func (l *Log) PublishCatalog(ctx context.Context, key, value []byte) (offset int64, err error) {
	if err := l.catalogUsable(); err != nil {
		return -1, fmt.Errorf("publish to the catalog: %w: %w", ErrRefused, err)
	}
	if offset, err = l.send(ctx, l.catalogs, 0, key, value); err != nil {
		return -1, fmt.Errorf("publish to the catalog: %w", err)
	}
	return offset, nil
}

// PublishCatalogAll appends records to the catalog topic, in their order, and returns when all in-sync replicas have them
// all. After an error some of them may be in the topic. The keys and values must not change until it returns; after
// ErrUnknown they must never.
func (l *Log) PublishCatalogAll(ctx context.Context, records []CatalogRecord) error {
	for chunk := range slices.Chunk(records, catalogChunk) {
		if err := l.catalogUsable(); err != nil {
			return fmt.Errorf("publish to the catalog: %w: %w", ErrRefused, err)
		}
		all := make([]*kgo.Record, len(chunk))
		for i, r := range chunk {
			all[i] = &kgo.Record{Topic: l.catalogs, Key: r.Key, Value: r.Value}
		}
		if err := l.sendAll(ctx, all); err != nil {
			return fmt.Errorf("publish to the catalog: %w", err)
		}
	}
	return nil
}

// ConsumeCatalog begins to read the catalog topic at an offset. Offsets that were compacted away are passed over; a record's
// Value is nil when it removes its key. The stream ends with ErrReplaced when another topic takes the place of this one. After
// that, and after a *OutOfRangeError or *DivergedError, the reader begins anew at the Start of CatalogBounds. One stream at a
// time can be open.
func (l *Log) ConsumeCatalog(offset int64) (*Stream, error) {
	if err := l.usable(); err != nil {
		return nil, fmt.Errorf("consume the catalog: %w", err)
	}
	if l.CatalogID() == ([16]byte{}) {
		return nil, fmt.Errorf("consume the catalog: %w", ErrNoCatalog)
	}
	s, err := l.consumer.open(l.catalogs, 0, offset, -1)
	if err != nil {
		return nil, fmt.Errorf("consume the catalog: %w", err)
	}
	return s, nil
}

// CatalogBounds asks the brokers for the first offset of the catalog topic and the one after its last.
func (l *Log) CatalogBounds(ctx context.Context) (Bounds, error) {
	if err := l.usable(); err != nil {
		return Bounds{}, fmt.Errorf("bounds of the catalog: %w", err)
	}
	if l.CatalogID() == ([16]byte{}) {
		return Bounds{}, fmt.Errorf("bounds of the catalog: %w", ErrNoCatalog)
	}
	all, err := l.bounds(ctx, l.catalogs)
	if err != nil {
		return Bounds{}, err
	}
	return all[0], nil
}

// catalogUsable returns why nothing can be published to the catalog now, or nil.
func (l *Log) catalogUsable() error {
	if err := l.usable(); err != nil {
		return err
	}
	s := l.Status()
	switch {
	case l.CatalogID() == ([16]byte{}):
		return ErrNoCatalog
	case !s.Reachable:
		return fmt.Errorf("the log is out of reach: %w", s.Trying)
	}
	return nil
}

// keepCatalog makes the catalog topic if it is missing, and takes note of one that was replaced. Whatever fails is a complaint
// and no more: the log is the namespace's without it, and the next look tries again.
func (l *Log) keepCatalog(ctx context.Context, found topics) {
	if l.embedded != nil {
		return
	}
	catalog, err := found.catalog, found.catalog.err
	if err == nil && !catalog.exists {
		catalog, err = l.create(ctx, l.catalogs, 1, found.brokers)
	}
	known := l.CatalogID()
	if err == nil && catalog.id != known {
		replaced := known != ([16]byte{})
		if replaced {
			l.log.Warn().Str("topic", l.catalogs).Msg("the topic was replaced; it is read from its beginning")
			// The client never takes up a topic's new id by itself.
			l.client.PurgeTopicsFromClient(l.catalogs)
		}
		l.mu.Lock()
		l.catalogID, l.catalogSeen = catalog.id, false
		l.mu.Unlock()
		if replaced { // whoever reads is told when it can read on
			l.consumer.failTopic(l.catalogs, ErrReplaced)
		}
	}
	l.complainOfCatalog(ctx, catalog, err)
}

// catalogLooked reports whether the catalog topic is there, and its settings were looked at.
func (l *Log) catalogLooked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.catalogSeen
}

// complainOfCatalog looks at the settings of the catalog topic, once for each, or keeps why there is none.
func (l *Log) complainOfCatalog(ctx context.Context, catalog topic, trouble error) {
	if l.catalogLooked() && trouble == nil {
		return
	}
	var found []Complaint
	if trouble == nil {
		var err error
		if found, err = l.examine(ctx, examined{l.catalogs, catalog, "compact", -1}); err != nil {
			return // the next look tells: a topic that was made just now is not known to every broker
		}
	}
	if trouble != nil {
		if ctx.Err() != nil || errors.Is(trouble, context.DeadlineExceeded) || errors.Is(trouble, kerr.TopicAlreadyExists) {
			return // the next look tells; another node was faster
		}
		found = []Complaint{{
			Topic: l.catalogs, Setting: "existence", Have: trouble.Error(), Want: "a compacted topic with one partition",
			Why: "nodes do not learn of zones in partitions that they do not hold",
		}}
	}
	l.mu.Lock()
	said := slices.Equal(found, l.catalogComplaints)
	l.catalogComplaints, l.catalogSeen = found, trouble == nil
	l.mu.Unlock()
	if !said {
		l.warnOf(found)
	}
}
