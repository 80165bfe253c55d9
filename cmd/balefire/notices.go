package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"balefire/dnsserver"
	"balefire/replication"
	"balefire/replication/relay"
	"balefire/store"
	"balefire/zones"
)

// Being notified: whoever gets a NOTIFY decides about it, if it has the zone, and tells the node on duty, which refreshes the zone. Both go to
// other nodes the way of the API's calls.

const (
	// noticePath is where a node is told of a NOTIFY; decide says that it is to decide about it, too.
	noticePath  = "/dns/v1/notify"
	decideQuery = "decide"

	// noticePatience is how long another node may take.
	noticePatience = time.Second
	// waitingNotices are how many wait to be told to other nodes; more are dropped: their senders' servers are asked again by and by anyway.
	waitingNotices = 1024
	noticeWorkers  = 4
	maxNotice      = 4 << 10
)

// notice is a NOTIFY between nodes.
type notice struct {
	Apex   string  `json:"apex"`
	From   string  `json:"from"`
	Key    string  `json:"key,omitempty"`
	Serial *uint32 `json:"serial,omitempty"`
}

func noticeOf(n dnsserver.Notification) notice {
	v := notice{Apex: n.Apex.String(), From: n.From.String(), Key: n.Key.String()}
	if n.HasSerial {
		serial := uint32(n.Serial)
		v.Serial = &serial
	}
	return v
}

func (v notice) notification() (n dnsserver.Notification, err error) {
	if n.Apex, err = zones.ParseName(v.Apex); err != nil {
		return n, err
	}
	if n.From, err = netip.ParseAddr(v.From); err != nil {
		return n, err
	}
	if v.Key != "" {
		if n.Key, err = zones.ParseName(v.Key); err != nil {
			return n, err
		}
	}
	if v.Serial != nil {
		n.Serial, n.HasSerial = zones.Serial(*v.Serial), true
	}
	return n, nil
}

// notices takes NOTIFYs to the node on duty.
type notices struct {
	node    *replication.Node
	heed    func(dnsserver.Notification) // on duty, the zone is to be refreshed; it does not wait
	waiting chan dnsserver.Notification
	logger  zerolog.Logger // a few each second
}

var _ dnsserver.Notifies = (*notices)(nil)

func newNotices(node *replication.Node, heed func(dnsserver.Notification), logger zerolog.Logger) *notices {
	return &notices{
		node: node, heed: heed, waiting: make(chan dnsserver.Notification, waitingNotices),
		logger: logger.Sample(&zerolog.BurstSampler{Burst: 2, Period: time.Second}),
	}
}

func (n *notices) Zone(apex zones.Name) (store.ZoneInfo, error) { return n.node.Zone(apex) }

func (n *notices) Notified(what dnsserver.Notification) {
	partition, ok := n.node.PartitionOf(what.Apex)
	if !ok || n.node.OnDuty(partition) {
		n.heed(what)
		return
	}
	select {
	case n.waiting <- what:
	default:
		n.logger.Warn().Stringer("zone", what.Apex).Msg("a NOTIFY was dropped: too many wait to be told to other nodes")
	}
}

// run tells other nodes what they are on duty for, until ctx ends.
func (n *notices) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range noticeWorkers {
		workers.Go(func() {
			for {
				select {
				case what := <-n.waiting:
					n.tell(ctx, what)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	workers.Wait()
}

// tell tells the node on duty; when it can't, this node heeds the NOTIFY itself: two that refresh a zone do no harm.
func (n *notices) tell(ctx context.Context, what dnsserver.Notification) {
	partition, _ := n.node.PartitionOf(what.Apex)
	peer, ok := n.node.Duty(partition)
	if ok {
		if _, err := n.call(ctx, peer, what, false); err == nil {
			return
		} else if ctx.Err() == nil {
			n.logger.Warn().Err(err).Str("peer", peer.ID).Stringer("zone", what.Apex).Msg("the node on duty was not told of a NOTIFY; this one refreshes the zone")
		}
	}
	n.heed(what)
}

// Pass has a node that holds the zone decide.
func (n *notices) Pass(what dnsserver.Notification) (v dnsserver.Verdict, err error) {
	partition, ok := n.node.PartitionOf(what.Apex)
	if !ok {
		return v, errors.New("the partitions are not known yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), noticePatience)
	defer cancel()
	err = replication.ErrNoHolder
	for _, peer := range n.node.Holders(partition) {
		if v, err = n.call(ctx, peer, what, true); err == nil || ctx.Err() != nil {
			break
		}
	}
	return v, err
}

func (n *notices) call(ctx context.Context, peer relay.Peer, what dnsserver.Notification, decide bool) (v dnsserver.Verdict, err error) {
	ctx, cancel := context.WithTimeout(ctx, noticePatience)
	defer cancel()
	body, err := json.Marshal(noticeOf(what))
	if err != nil {
		return v, err
	}
	url := "https://node" + noticePath
	if decide {
		url += "?" + decideQuery
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(string(body)))
	if err != nil {
		return v, err
	}
	resp, err := n.node.Transport(peer).RoundTrip(req)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return v, fmt.Errorf("node %s: status %s", peer.ID, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxNotice)).Decode(&v); err != nil {
		return v, fmt.Errorf("node %s: %w", peer.ID, err)
	}
	return v, nil
}

// passedNotices answers what other nodes pass on.
type passedNotices struct {
	notices *notices
	server  *dnsserver.Server
}

func (p passedNotices) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var v notice
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxNotice)).Decode(&v)
	var what dnsserver.Notification
	if err == nil {
		what, err = v.notification()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := dnsserver.Verdict{ExtendedError: -1}
	if r.URL.Query().Has(decideQuery) {
		answer = p.server.AnswerNotify(what)
	} else {
		p.notices.heed(what) // not told on: who was on duty for the other may not be any more
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}
