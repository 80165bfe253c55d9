package main

import (
	"context"
	"net/http"

	"balefire/admin"
	"balefire/replication"
	"balefire/replication/relay"
	"balefire/store"
)

// peers are the other nodes of the region, as the API knows them.
type peers struct{ node *replication.Node }

var _ admin.Peers = peers{}

func (p peers) Partitions() int32          { return p.node.Log().Partitions() }
func (p peers) Holds(partition int32) bool { return p.node.Holds(partition) }

func (p peers) Holders(partition int32) []admin.Peer {
	known := p.node.Holders(partition)
	list := make([]admin.Peer, len(known))
	for i, k := range known {
		list[i].ID = k.ID
	}
	return list
}

func (p peers) Duty(partition int32) (admin.Peer, bool) {
	known, ok := p.node.Duty(partition)
	return admin.Peer{ID: known.ID}, ok
}

func (p peers) Transport(peer admin.Peer) http.RoundTripper {
	known, ok := p.node.Peer(peer.ID)
	if !ok {
		return unknownPeer{}
	}
	return seeing{p.node, p.node.Transport(known)}
}

// seeing carries requests, and notes from which positions they were answered: the client has seen what was there.
type seeing struct {
	node *replication.Node
	http.RoundTripper
}

func (s seeing) RoundTrip(r *http.Request) (*http.Response, error) {
	// The API leaves to its transport how a peer is reached; the relay sends nothing in the clear.
	r = r.Clone(r.Context())
	r.URL.Scheme = "https"
	response, err := s.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if at, err := store.ParsePosition(response.Header.Get(admin.PositionHeader)); err == nil {
		s.node.Saw(at)
	}
	response.Header.Del(admin.PositionHeader)
	return response, nil
}

// unknownPeer is the transport to a node that has gone meanwhile.
type unknownPeer struct{}

func (unknownPeer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body.Close()
	}
	return nil, relay.ErrNoPeer
}

// backups makes backups for the API.
type backups struct{ node *replication.Node }

var _ admin.Backups = backups{}

func (b backups) BackUp(ctx context.Context, partitions []int32) ([]admin.BackupMade, error) {
	made, err := b.node.BackUp(ctx, partitions)
	list := make([]admin.BackupMade, len(made))
	for i, m := range made {
		list[i] = admin.BackupMade(m)
	}
	return list, err
}
