package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"balefire/dnsserver"
	"balefire/dnsserver/wire"
	"balefire/replication"
	"balefire/replication/mutationlog"
	"balefire/replication/relay"
	"balefire/store"
	"balefire/zones"
)

// updates is how UPDATE messages change zones: by the log, as everything does.
type updates struct{ node *replication.Node }

var _ dnsserver.Updates = updates{}

func (u updates) Read(apex zones.Name) (*store.Reading, error) { return u.node.Store().Read(apex) }

func (u updates) CatchUp(ctx context.Context, partition int32) error {
	return u.node.CatchUp(ctx, partition)
}

// publishAttempts is how often a change set is published of which it is not known whether it is in the log. It has one ID, and is made once.
const publishAttempts = 3

func (u updates) Change(ctx context.Context, cs *zones.ChangeSet) (store.Outcome, error) {
	for attempt := 1; ; attempt++ {
		at, err := u.node.Publish(ctx, cs)
		if errors.Is(err, mutationlog.ErrUnknown) && attempt < publishAttempts && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return store.Outcome{}, err
		}
		return u.node.Wait(ctx, at, replication.ThisNode)
	}
}

// Messages for other nodes travel as calls over the relay (docs/formats/forward.md).
const (
	forwardPath    = "/dns/v1/update"
	forwardDecline = "Balefire-Decline" // of an answer: the zone is not there, and nothing was done
	// maxForwarded bounds the octets of an answer.
	maxForwarded = 4 << 10
	// forwardHolders is how many nodes are asked, when the first ones don't have the zone any more.
	forwardHolders = 3
)

// forwardedResult is what another node answers.
type forwardedResult struct {
	RCode    uint16 `json:"rcode"`
	Extended int32  `json:"extended"` // -1: none
	Text     string `json:"text,omitempty"`
	Position string `json:"position,omitempty"`
}

// forwarding passes messages on to nodes of the region that have their zones.
type forwarding struct{ node *replication.Node }

var _ dnsserver.Forward = forwarding{}

var errDeclined = errors.New("it does not have the zone")

// Forward asks one holder after the other until one does not decline. After any other failure the message may have been served, so that no
// other may serve it.
func (f forwarding) Forward(ctx context.Context, partition int32, m dnsserver.Message) (dnsserver.Result, error) {
	err := replication.ErrNoHolder
	for i, peer := range f.node.Holders(partition) {
		if i == forwardHolders {
			break
		}
		var r dnsserver.Result
		if r, err = f.ask(ctx, peer, m); err == nil {
			return r, nil
		}
		err = fmt.Errorf("forward to node %s: %w", peer.ID, err)
		if !notServed(err) {
			break
		}
	}
	return dnsserver.Result{}, err
}

// notServed reports whether a peer surely did nothing: it declined, or was never reached.
func notServed(err error) bool {
	var op *net.OpError
	return errors.Is(err, errDeclined) || errors.As(err, &op) && op.Op == "dial"
}

func (f forwarding) ask(ctx context.Context, peer relay.Peer, m dnsserver.Message) (r dnsserver.Result, err error) {
	// Who is reached is the transport's matter.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://peer.invalid"+forwardPath, bytes.NewReader(m.Packet))
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "application/dns-message")
	setCaller(req.Header, m.From, m.Key)
	resp, err := f.node.Transport(peer).RoundTrip(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if resp.Header.Get(forwardDecline) != "" {
		return r, errDeclined
	}
	if resp.StatusCode != http.StatusOK {
		return r, fmt.Errorf("it answered %s", resp.Status)
	}
	var answer forwardedResult
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxForwarded)).Decode(&answer); err != nil {
		return r, fmt.Errorf("its answer: %w", err)
	}
	r = dnsserver.Result{RCode: wire.RCode(answer.RCode), Why: wire.ExtendedError(answer.Extended), Text: answer.Text}
	if answer.Position != "" {
		if r.At, err = store.ParsePosition(answer.Position); err != nil {
			return dnsserver.Result{}, fmt.Errorf("its answer: %w", err)
		}
		r.Seen = true
		f.node.Saw(r.At)
	}
	return r, nil
}

// forwardPatience is how long another node's message may take to come.
const forwardPatience = 5 * time.Second

// forwarded answers the messages that other nodes pass on.
type forwarded struct{ server *dnsserver.Server }

func (f forwarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(forwardPatience)) // not supported only by tests' writers
	m, err := readForwarded(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	result, err := f.server.ServeForwarded(r.Context(), m)
	if errors.Is(err, dnsserver.ErrNotHeld) {
		w.Header().Set(forwardDecline, "true")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := forwardedResult{RCode: uint16(result.RCode), Extended: int32(result.Why), Text: result.Text}
	if result.Seen {
		answer.Position = result.At.String()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the peer will see that it is not whole
}

func readForwarded(w http.ResponseWriter, r *http.Request) (m dnsserver.Message, err error) {
	if m.From, m.Key, err = readCaller(r.Header); err != nil {
		return m, err
	}
	m.Packet, err = io.ReadAll(http.MaxBytesReader(w, r.Body, wire.MaxSize))
	return m, err
}
