package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"balefire/dnsserver"
	"balefire/replication"
	"balefire/replication/relay"
	"balefire/store"
)

// Transfers of zones that another node has go the way of the API's calls: a request has the query, and what this node knows of the
// client; the answer's header the verdict, and its body the messages, each with its length before it. It is cut off when they are not all
// (docs/formats/transfer.md).
const (
	transferPath = "/dns/v1/transfer"

	partitionHeader = "Balefire-Partition" // of a request: the zone's
	leastHeader     = "Balefire-Least"     // the offset that the zone must be from, or a later one
	roomHeader      = "Balefire-Room"      // octets to be left free in each message
	onlyHeader      = "Balefire-Only"      // the greatest length of the only message; 0: there may be more
	rcodeHeader     = "Balefire-Rcode"     // of an answer
	whyHeader       = "Balefire-Extended-Error"
	atHeader        = "Balefire-Position"

	// verdictPatience is how long all nodes together may take to say whether they do a transfer.
	verdictPatience = 2 * time.Second
	// takePatience is how long the other node may take for some messages; its client has less.
	takePatience = 5 * time.Minute
	maxQuery     = 1<<16 - 1
)

// transferNode is what transfers between nodes need of a node.
type transferNode interface {
	Store() *store.Store
	Holds(partition int32) bool
	Holders(partition int32) []relay.Peer
	Transport(peer relay.Peer) http.RoundTripper
	Seen(partition int32) int64
	Saw(at store.Position)
}

var _ transferNode = (*replication.Node)(nil)

// distantTransfers has zones transferred that other nodes have.
type distantTransfers struct{ node transferNode }

var _ dnsserver.DistantTransfers = distantTransfers{}

func (d distantTransfers) Transfer(ctx context.Context, h store.Holding, q dnsserver.TransferQuery) (*dnsserver.DistantTransfer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(verdictPatience, func() { cancel(errors.New("no node has decided in time")) })
	defer late.Stop()
	err := replication.ErrNoHolder
	for _, peer := range d.node.Holders(h.Partition) {
		var got *dnsserver.DistantTransfer
		if got, err = d.ask(ctx, peer, h.Partition, q); err == nil {
			got.Messages = closing{got.Messages, cancel}
			return got, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	cancel(nil)
	return nil, fmt.Errorf("partition %d: %w", h.Partition, err)
}

// closing ends what a body comes by, too.
type closing struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c closing) Close() error {
	c.cancel(nil)
	return c.ReadCloser.Close()
}

func (d distantTransfers) ask(ctx context.Context, peer relay.Peer, partition int32, q dnsserver.TransferQuery) (*dnsserver.DistantTransfer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://node"+transferPath, bytes.NewReader(q.Packet))
	if err != nil {
		return nil, err
	}
	req.Header.Set(partitionHeader, strconv.Itoa(int(partition)))
	req.Header.Set(leastHeader, strconv.FormatInt(d.node.Seen(partition), 10))
	setCaller(req.Header, q.From, q.Key)
	req.Header.Set(roomHeader, strconv.Itoa(q.Room))
	req.Header.Set(onlyHeader, strconv.Itoa(q.Only))
	resp, err := d.node.Transport(peer).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	got, err := readVerdict(resp)
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("node %s: %w", peer.ID, err)
	}
	if got.RCode == 0 {
		d.node.Saw(got.At)
	}
	return got, nil
}

func readVerdict(resp *http.Response) (*dnsserver.DistantTransfer, error) {
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	rcode, err := strconv.ParseUint(resp.Header.Get(rcodeHeader), 10, 12)
	if err != nil {
		return nil, err
	}
	why, err := strconv.ParseInt(resp.Header.Get(whyHeader), 10, 17)
	if err != nil {
		return nil, err
	}
	got := &dnsserver.DistantTransfer{Messages: resp.Body}
	got.RCode, got.ExtendedError = uint16(rcode), int32(why)
	if got.RCode == 0 {
		got.At, err = store.ParsePosition(resp.Header.Get(atHeader))
	}
	return got, err
}

// passedTransfers answers what other nodes pass on.
type passedTransfers struct {
	node   transferNode
	server *dnsserver.Server
}

func (p passedTransfers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(verdictPatience)) // not supported only by tests' writers
	partition, least, q, err := readPassed(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	at := p.node.Store().Partition(partition)
	if !p.node.Holds(partition) || at == nil || at.Settled() < least {
		http.Error(w, "the partition is not here, or not as far", http.StatusServiceUnavailable)
		return
	}
	begun := false
	err = p.server.AnswerTransfer(r.Context(), q, func(v dnsserver.TransferVerdict) error {
		begun = true
		h := w.Header()
		h.Set("Content-Type", "application/dns-message")
		h.Set(rcodeHeader, strconv.Itoa(int(v.RCode)))
		h.Set(whyHeader, strconv.Itoa(int(v.ExtendedError)))
		if v.RCode == 0 {
			h.Set(atHeader, v.At.String())
		}
		w.WriteHeader(http.StatusOK)
		return ctl.Flush()
	}, func(framed []byte) error {
		_ = ctl.SetWriteDeadline(time.Now().Add(takePatience))
		_, err := w.Write(framed)
		return err
	})
	switch {
	case err != nil && begun:
		panic(http.ErrAbortHandler) // the other node sees that this is not all
	case err != nil:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// readPassed reads a request.
func readPassed(w http.ResponseWriter, r *http.Request) (partition int32, least int64, q dnsserver.TransferQuery, err error) {
	fail := func(what string, err error) (int32, int64, dnsserver.TransferQuery, error) {
		return 0, 0, q, fmt.Errorf("%s: %w", what, err)
	}
	n, err := strconv.ParseInt(r.Header.Get(partitionHeader), 10, 32)
	if err != nil {
		return fail(partitionHeader, err)
	}
	if least, err = strconv.ParseInt(r.Header.Get(leastHeader), 10, 64); err != nil {
		return fail(leastHeader, err)
	}
	if q.From, q.Key, err = readCaller(r.Header); err != nil {
		return 0, 0, q, err
	}
	if q.Room, err = strconv.Atoi(r.Header.Get(roomHeader)); err != nil {
		return fail(roomHeader, err)
	}
	if q.Only, err = strconv.Atoi(r.Header.Get(onlyHeader)); err != nil {
		return fail(onlyHeader, err)
	}
	if q.Packet, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuery)); err != nil {
		return fail("the query", err)
	}
	return int32(n), least, q, nil
}
