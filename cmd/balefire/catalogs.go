package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"balefire/admin"
	"balefire/replication"
	"balefire/replication/catalogzones"
	"balefire/replication/relay"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/catalog"
	"balefire/zones/change"
)

// Catalog zones: the node on duty for a catalog's partition keeps it and the zones that are hosted in step. Which zones there are in partitions
// that it does not hold, it asks a node that does (docs/formats/forward.md).

const (
	// hostedPath is where a node says which zones a partition has.
	hostedPath     = "/dns/v1/zones"
	partitionQuery = "partition"
	freshQuery     = "fresh"    // all that is in the log is to be seen
	catalogsQuery  = "catalogs" // catalogs alone

	// hostedPatience is how long another node may take to list a partition.
	hostedPatience = 2 * time.Minute
	// maxListed bounds the octets of a zone's settings in a list.
	maxListed = change.MaxSettings + 1<<10
	// distantLook is how often catalogs are compared with what other nodes hold: that settings change there, nobody tells.
	distantLook = time.Minute
)

// catalogNode is a node, as who keeps catalogs sees it.
type catalogNode struct{ *replication.Node }

var _ catalogzones.Source = catalogNode{}

func (n catalogNode) Partitions() int32 { return n.Log().Partitions() }

func (n catalogNode) EachCatalog(ctx context.Context, partition int32, fn func(store.ZoneInfo)) error {
	p := n.Store().Partition(partition)
	if p == nil {
		return fmt.Errorf("partition %d: %w", partition, store.ErrNotOpen)
	}
	return p.EachPeered(func(z store.ZoneInfo) (more bool) {
		if z.Settings.Catalog.Role != zones.NoCatalog {
			fn(z)
		}
		return ctx.Err() == nil
	})
}

func (n catalogNode) EachZone(ctx context.Context, partition int32, fresh bool, fn func(catalogzones.Zone)) error {
	if n.Holds(partition) {
		return n.eachHere(ctx, partition, fresh, fn)
	}
	return n.eachElsewhere(ctx, partition, fresh, false, fn)
}

func (n catalogNode) eachHere(ctx context.Context, partition int32, fresh bool, fn func(catalogzones.Zone)) error {
	if fresh {
		if err := n.CatchUp(ctx, partition); err != nil {
			return err
		}
	}
	p := n.Store().Partition(partition)
	if p == nil {
		return fmt.Errorf("partition %d: %w", partition, store.ErrNotOpen)
	}
	err := p.EachZone(func(z store.ZoneInfo) (more bool) {
		fn(catalogzones.Zone{Apex: z.Apex, Settings: z.Settings, Generation: z.Generation.Offset})
		return ctx.Err() == nil
	})
	return errors.Join(err, ctx.Err())
}

func (n catalogNode) Content(ctx context.Context, apex zones.Name) (c catalogzones.Content, err error) {
	r, err := n.Store().Read(apex)
	if err != nil {
		return c, err
	}
	defer r.Close()
	c.Info = r.Info
	const page = 1000
	for at := (*store.Cursor)(nil); ctx.Err() == nil; {
		got, err := r.RRsets("", at, page)
		if err != nil {
			return c, err
		}
		c.RRsets = append(c.RRsets, got.RRsets...)
		if at = got.Next; at == nil {
			return c, nil
		}
	}
	return c, ctx.Err()
}

func (n catalogNode) Applied(ctx context.Context, at store.Position) (store.Outcome, error) {
	outcome, err := n.Wait(ctx, at, replication.ThisNode)
	if errors.Is(err, replication.ErrNotOpen) {
		err = errors.Join(catalogzones.ErrElsewhere, err)
	}
	return outcome, err
}

// catalogsView is what the API asks of catalogs.
type catalogsView struct {
	*catalogzones.Keeper
	node catalogNode
}

var _ admin.Catalogs = catalogsView{}

func (v catalogsView) Each(ctx context.Context, fn func(apex zones.Name, s zones.ZoneSettings)) error {
	return v.node.catalogs(ctx, fn)
}

// catalogs calls fn for all catalogs of the namespace. The error says which partitions could not be looked at, after all were tried.
func (n catalogNode) catalogs(ctx context.Context, fn func(apex zones.Name, s zones.ZoneSettings)) error {
	var failed []error
	for partition := range n.Partitions() {
		var err error
		if n.Holds(partition) {
			err = n.EachCatalog(ctx, partition, func(z store.ZoneInfo) { fn(z.Apex, z.Settings) })
		} else {
			err = n.eachElsewhere(ctx, partition, false, true, func(z catalogzones.Zone) { fn(z.Apex, z.Settings) })
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("partition %d: %w", partition, err))
		}
	}
	return errors.Join(failed...)
}

// eachElsewhere asks a node that holds the partition.
func (n catalogNode) eachElsewhere(ctx context.Context, partition int32, fresh, catalogs bool, fn func(catalogzones.Zone)) error {
	ctx, cancel := context.WithTimeout(ctx, hostedPatience)
	defer cancel()
	err := replication.ErrNoHolder
	for _, peer := range n.Holders(partition) {
		// What a node has said before it failed is said again by the next one; so it is kept until all of it is there.
		var all []catalogzones.Zone
		if all, err = n.list(ctx, peer, partition, fresh, catalogs); err == nil {
			for _, z := range all {
				fn(z)
			}
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return err
}

func (n catalogNode) list(ctx context.Context, peer relay.Peer, partition int32, fresh, catalogs bool) (all []catalogzones.Zone, err error) {
	url := "https://node" + hostedPath + "?" + partitionQuery + "=" + strconv.Itoa(int(partition))
	if fresh {
		url += "&" + freshQuery
	}
	if catalogs {
		url += "&" + catalogsQuery
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.Transport(peer).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("node %s: status %s", peer.ID, resp.Status)
	}
	body := bufio.NewReader(resp.Body)
	for {
		z, more, err := readListed(body)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", peer.ID, err)
		}
		if !more {
			return all, nil
		}
		all = append(all, z)
	}
}

// listedParts are the settings that zones are listed with.
const listedParts = catalog.MemberParts | zones.PartCatalog

// appendListed appends a zone as it is listed for other nodes.
func appendListed(b []byte, z catalogzones.Zone) []byte {
	state := change.Zone{Settings: zones.ZoneSettings{}.With(listedParts, z.Settings)}.AppendState(nil)
	b = append(append(b, byte(len(z.Apex))), z.Apex...)
	b = binary.BigEndian.AppendUint64(b, uint64(z.Generation))
	b = binary.BigEndian.AppendUint32(b, uint32(len(state)))
	return append(b, state...)
}

// readListed reads the next zone; more is false at the end of the list.
func readListed(r io.Reader) (z catalogzones.Zone, more bool, err error) {
	var b [256]byte
	if _, err = io.ReadFull(r, b[:1]); err != nil || b[0] == 0 {
		return z, false, err
	}
	apex := b[:b[0]]
	if _, err = io.ReadFull(r, apex); err != nil {
		return z, false, err
	}
	name, used, err := zones.NameFromWire(apex)
	if err != nil || used != len(apex) {
		return z, false, fmt.Errorf("a list with the name %x", apex)
	}
	if _, err = io.ReadFull(r, b[:12]); err != nil {
		return z, false, err
	}
	size := binary.BigEndian.Uint32(b[8:])
	if size > maxListed {
		return z, false, fmt.Errorf("zone %s takes %d octets of a list", name, size)
	}
	state := make([]byte, size)
	if _, err = io.ReadFull(r, state); err != nil {
		return z, false, err
	}
	is, err := change.ParseZone(state)
	return catalogzones.Zone{Apex: name, Settings: is.Settings, Generation: int64(binary.BigEndian.Uint64(b[:]))}, true, err
}

// hostedZones lists zones for other nodes.
type hostedZones struct{ node catalogNode }

func (h hostedZones) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	number, err := strconv.ParseInt(query.Get(partitionQuery), 10, 32)
	if err != nil {
		http.Error(w, "which partition?", http.StatusBadRequest)
		return
	}
	partition := int32(number)
	if !h.node.Holds(partition) {
		http.Error(w, "this node does not hold the partition", http.StatusMisdirectedRequest)
		return
	}
	body := bufio.NewWriterSize(w, 64<<10)
	var b []byte
	put := func(z catalogzones.Zone) {
		b = appendListed(b[:0], z)
		_, _ = body.Write(b) // and Flush returns the error
	}
	if query.Has(catalogsQuery) {
		err = h.node.EachCatalog(r.Context(), partition, func(z store.ZoneInfo) { put(catalogzones.Zone{Apex: z.Apex, Settings: z.Settings}) })
	} else {
		err = h.node.eachHere(r.Context(), partition, query.Has(freshQuery), put)
	}
	if err == nil {
		_ = body.WriteByte(0)
		err = body.Flush()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // a list without its end is not used
	}
}

// newCatalogs makes who keeps catalogs; it does nothing before runCatalogs.
func newCatalogs(node *replication.Node, logger zerolog.Logger) *catalogzones.Keeper {
	return catalogzones.New(catalogzones.Options{Source: catalogNode{node}, Logger: logger})
}

// runCatalogs keeps catalogs until ctx ends.
func runCatalogs(ctx context.Context, node *replication.Node, k *catalogzones.Keeper) {
	stop := node.Changes(func(partition int32, changes []replication.ZoneChange) {
		if len(changes) == 0 {
			k.Reset(partition)
			return
		}
		all := make([]catalogzones.Change, 0, len(changes))
		for _, c := range changes {
			told := catalogzones.Change{Apex: c.Apex, Created: c.Created, Deleted: c.Deleted, Resettled: c.Resettled, Generation: c.Generation}
			if c.Peering != nil {
				told.Catalog = c.Peering.Settings.Catalog
			}
			if c.Created || c.Deleted || c.Resettled || told.Catalog.Role != zones.NoCatalog {
				all = append(all, told)
			}
		}
		if len(all) > 0 {
			k.Changed(partition, all)
		}
	})
	defer stop()
	distant := make(chan struct{})
	go func() {
		defer close(distant)
		followDistant(ctx, node, k)
	}()
	k.Run(ctx)
	<-distant
}

// followDistant has catalogs compared with what other nodes hold.
func followDistant(ctx context.Context, node *replication.Node, k *catalogzones.Keeper) {
	tick := time.NewTicker(distantLook)
	defer tick.Stop()
	for {
		select {
		case <-node.ListChanged():
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !node.HoldsAll() {
			k.Elsewhere()
		}
	}
}
