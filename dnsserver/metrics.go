package dnsserver

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"balefire/dnsserver/wire"
	"balefire/zones"
)

// dropReason says why a query got no answer.
type dropReason uint8

const (
	dropNoQuery     dropReason = iota // not a query at all (row 50)
	dropRateLimited                   // over the rate limit
	dropSlowFull                      // the slow lane had no room
	dropSend                          // the answer could not be sent
	dropReceive                       // the kernel gave an error instead of a query
	dropReasons
)

var dropNames = [dropReasons]string{"not-a-query", "rate-limited", "slow-lane-full", "send-failed", "receive-failed"}

// The RCODEs and types that are counted by name; all others are "other".
var (
	rcodeNames = [...]string{
		wire.NoError: "NOERROR", wire.FormErr: "FORMERR", wire.ServFail: "SERVFAIL", wire.NXDomain: "NXDOMAIN", wire.NotImp: "NOTIMP",
		wire.Refused: "REFUSED", wire.YXDomain: "YXDOMAIN", wire.YXRRSet: "YXRRSET", wire.NXRRSet: "NXRRSET", wire.NotAuth: "NOTAUTH", wire.NotZone: "NOTZONE",
		wire.BadVers: "BADVERS", wire.BadCookie: "BADCOOKIE",
	}
	countedTypes = [...]zones.Type{
		0, zones.TypeA, zones.TypeNS, zones.TypeCNAME, zones.TypeSOA, zones.TypePTR, zones.TypeMX, zones.TypeTXT, zones.TypeAAAA,
		zones.TypeSRV, zones.TypeNAPTR, zones.TypeDS, zones.TypeDNSKEY, zones.TypeSVCB, zones.TypeHTTPS, zones.TypeANY, zones.TypeCAA,
	}
	// typeSlot finds a type in countedTypes; 0 is "other".
	typeSlot = func() (slots [258]uint8) {
		for i, t := range countedTypes {
			slots[t] = uint8(i)
		}
		return slots
	}()
)

// tally is what an exchange counted since it was last flushed. It is plain memory of one goroutine.
type tally struct {
	queries    [transports]uint64
	edns, do   uint64
	types      [len(countedTypes)]uint64
	rcodes     [len(rcodeNames)]uint64
	drops      [dropReasons]uint64
	cookies    [2]uint64 // not valid, valid
	signatures [signatures]uint64
	truncated  uint64
	limited    uint64
	slipped    uint64
	slow       uint64 // put off to the slow lane
	unreadable uint64 // zones that could not be read
	asked      uint64 // answered by another node
	unasked    uint64 // for another node, and not answered
	kept       uint64 // answered from what was kept for the question
	shared     uint64 // … for its family
	latency    [lanes]latency
}

// counters are the sums, for whoever scrapes.
type counters struct {
	queries                                                [transports]atomic.Uint64
	edns, do                                               atomic.Uint64
	types                                                  [len(countedTypes)]atomic.Uint64
	rcodes                                                 [len(rcodeNames)]atomic.Uint64
	drops                                                  [dropReasons]atomic.Uint64
	cookies                                                [2]atomic.Uint64
	signatures                                             [signatures]atomic.Uint64
	truncated, limited, slipped, slow, unreadable, batches atomic.Uint64
	asked, unasked, kept, shared                           atomic.Uint64
	latency                                                [lanes]latencySums
}

func (t *tally) query(via transport, q *wire.Query) {
	t.queries[via]++
	slot := uint8(0)
	if int(q.Type) < len(typeSlot) {
		slot = typeSlot[q.Type]
	}
	t.types[slot]++
	if q.EDNS {
		t.edns++
		if q.DO {
			t.do++
		}
	}
}

func (t *tally) reply(rcode wire.RCode, truncated bool) {
	t.rcodes[rcode]++
	if truncated {
		t.truncated++
	}
}

func (t *tally) drop(why dropReason) { t.drops[why]++ }

func (t *tally) cookie(valid bool) {
	if valid {
		t.cookies[1]++
	} else {
		t.cookies[0]++
	}
}

// flush adds what was counted to the sums: once for a batch, so that counting itself needs no atomics.
func (x *exchange) flush() {
	t, c := &x.count, &x.counters
	addAll(c.queries[:], t.queries[:])
	addAll(c.types[:], t.types[:])
	addAll(c.rcodes[:], t.rcodes[:])
	addAll(c.drops[:], t.drops[:])
	addAll(c.cookies[:], t.cookies[:])
	addAll(c.signatures[:], t.signatures[:])
	add(&c.edns, t.edns)
	add(&c.do, t.do)
	add(&c.truncated, t.truncated)
	add(&c.limited, t.limited)
	add(&c.slipped, t.slipped)
	add(&c.slow, t.slow)
	add(&c.unreadable, t.unreadable)
	add(&c.asked, t.asked)
	add(&c.unasked, t.unasked)
	add(&c.kept, t.kept)
	add(&c.shared, t.shared)
	if t.queries != [transports]uint64{} {
		c.batches.Add(1)
	}
	if x.timed {
		for i := range t.latency {
			c.latency[i].add(&t.latency[i])
		}
		x.timed = false
	}
	*t = tally{}
}

// observe notes what n answers took that were sent just now.
func (x *exchange) observe(where lane, since int64, n int) {
	x.timed = true
	x.count.latency[where].observe(x.server.opts.Now().UnixNano()-since, n)
}

func addAll(sums []atomic.Uint64, counts []uint64) {
	for i, n := range counts {
		if n != 0 {
			sums[i].Add(n)
		}
	}
}

func add(sum *atomic.Uint64, n uint64) {
	if n != 0 {
		sum.Add(n)
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("balefire_dns_"+name, help, labels, nil)
}

var (
	descQueries     = desc("queries_total", "Queries read, by transport.", "transport")
	descTypes       = desc("queries_by_type_total", "Queries read, by type.", "type")
	descEDNS        = desc("queries_edns_total", "Queries with an OPT record.")
	descDO          = desc("queries_do_total", "Queries that ask for DNSSEC.")
	descReplies     = desc("replies_total", "Replies made, by RCODE.", "rcode")
	descDropped     = desc("dropped_total", "Queries without a reply, by reason.", "reason")
	descCookies     = desc("cookies_total", "Queries with a cookie, by whether its server part was valid.", "valid")
	descSignatures  = desc("tsig_total", "Queries signed with TSIG, by what became of the signature.", "result")
	descTruncated   = desc("truncated_total", "Replies with TC.")
	descLimited     = desc("rate_limited_total", "Queries over the rate limit, those that slipped included.")
	descSlipped     = desc("rate_limit_slipped_total", "Queries over the rate limit answered with TC.")
	descSlow        = desc("slow_lane_total", "Queries over UDP put off to the slow lane.")
	descUnreadable  = desc("unreadable_total", "Questions answered with SERVFAIL because the zone could not be read.")
	descElsewhere   = desc("elsewhere_total", "Questions about zones that other nodes have, by whether one of them answered.", "answered")
	descKept        = desc("answers_kept_total", "Questions answered with an answer that was made before, and is right still.")
	descShared      = desc("answers_shared_total", "Questions answered with an answer that was made for another name before: below a delegation, by a wildcard, or that there is no such name.")
	descPanics      = desc("panics_total", "Queries that made the server panic.")
	descBatches     = desc("batches_total", "Batches of queries served.")
	descConnections = desc("tcp_connections", "TCP connections open, those with TLS included.")
	descRefused     = desc("tcp_refused_total", "TCP connections closed at once, by the limit that was reached.", "limit")
	descCut         = desc("tcp_cut_total", "TCP connections closed because their client did not take the replies.")
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector: it sums what each worker counted.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	exchanges := s.exchanges[:len(s.exchanges):len(s.exchanges)]
	s.mu.Unlock()
	var t tally
	var batches uint64
	for _, x := range exchanges {
		c := &x.counters
		sumAll(t.queries[:], c.queries[:])
		sumAll(t.types[:], c.types[:])
		sumAll(t.rcodes[:], c.rcodes[:])
		sumAll(t.drops[:], c.drops[:])
		sumAll(t.cookies[:], c.cookies[:])
		sumAll(t.signatures[:], c.signatures[:])
		t.edns += c.edns.Load()
		t.do += c.do.Load()
		t.truncated += c.truncated.Load()
		t.limited += c.limited.Load()
		t.slipped += c.slipped.Load()
		t.slow += c.slow.Load()
		t.unreadable += c.unreadable.Load()
		t.asked += c.asked.Load()
		t.unasked += c.unasked.Load()
		t.kept += c.kept.Load()
		t.shared += c.shared.Load()
		for i := range t.latency {
			t.latency[i].sum(&c.latency[i])
		}
		batches += c.batches.Load()
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	counter(descQueries, t.queries[overUDP], "udp")
	counter(descQueries, t.queries[overTCP], "tcp")
	counter(descQueries, t.queries[overTLS], "tls")
	for i, n := range t.types {
		name := "other"
		if i > 0 {
			name = countedTypes[i].String()
		}
		counter(descTypes, n, name)
	}
	for i, n := range t.rcodes {
		if rcodeNames[i] != "" {
			counter(descReplies, n, rcodeNames[i])
		}
	}
	for i, n := range t.drops {
		counter(descDropped, n, dropNames[i])
	}
	counter(descCookies, t.cookies[0], "no")
	counter(descCookies, t.cookies[1], "yes")
	for i, n := range t.signatures {
		counter(descSignatures, n, signatureNames[i])
	}
	counter(descEDNS, t.edns)
	counter(descDO, t.do)
	counter(descTruncated, t.truncated)
	counter(descLimited, t.limited)
	counter(descSlipped, t.slipped)
	counter(descSlow, t.slow)
	counter(descUnreadable, t.unreadable)
	counter(descElsewhere, t.asked, "yes")
	counter(descElsewhere, t.unasked, "no")
	counter(descKept, t.kept)
	counter(descShared, t.shared)
	for i := range t.latency {
		ch <- t.latency[i].metric(lane(i))
	}
	counter(descPanics, s.panics.Load())
	counter(descBatches, batches)
	counter(descRefused, s.tcp.refusedTotal.Load(), "connections")
	counter(descRefused, s.tcp.refusedNetwork.Load(), "network")
	counter(descCut, s.tcp.cut.Load())
	ch <- prometheus.MustNewConstMetric(descConnections, prometheus.GaugeValue, float64(s.tcp.open()))
	s.tls.collect(ch)
	s.out.collect(ch)
	s.updates.collect(ch)
}

func sumAll(sums []uint64, counts []atomic.Uint64) {
	for i := range counts {
		sums[i] += counts[i].Load()
	}
}
