package admin

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"balefire/store"
	"balefire/zones"
)

// subject is what a route is about, and so which node answers.
type subject uint8

const (
	ofNode   subject = iota // this node, or what every node knows: answered here
	ofZone                  // {zone}: answered where the zone's partition is held
	ofDuty                  // {zone}: answered where it is kept for the region, or else where its partition is held
	ofBody                  // the zone that the body names; likewise
	ofFile                  // {zone}, with a zone file in the body, which may be too large to be kept; likewise
	ofRegion                // many partitions, or one that the handler finds out: it asks other nodes itself
)

// serveRoute answers a request itself, or passes it on to a node that holds what it is about.
func (s *Server) serveRoute(x *exchange, r *http.Request, to route) error {
	if s.opts.Peers == nil || to.subject == ofNode || to.subject == ofRegion {
		return to.serve(x, r)
	}
	var held *heldBody
	if to.subject == ofBody {
		var err error
		if held, err = s.hold(x, r, to.subject); err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(held.head))
	}
	partition, known := s.partitionOf(r, to.subject, held)
	if to.subject == ofDuty && known && !s.relayed(r) {
		if peer, ok := s.opts.Peers.Duty(partition); ok {
			c := &call{s: s, x: x, r: s.pinned(r), subject: to.subject}
			if done, err := c.passTo([]Peer{peer}, partition); done || err != nil {
				return err
			}
		}
	}
	if !known || s.opts.Peers.Holds(partition) {
		if known && s.relayed(r) {
			x.stamp = func() { s.stampPosition(x.Header(), partition) }
		}
		return to.serve(x, r) // what can't be made out, the handler says
	}
	if s.relayed(r) {
		return notHeld(partition)
	}
	if len(s.opts.Peers.Holders(partition)) > 0 {
		if held == nil {
			var err error
			if held, err = s.hold(x, r, to.subject); err != nil {
				return err
			}
		}
		r = s.pinned(r)
		c := &call{s: s, x: x, r: r, subject: to.subject, body: held}
		done, err := c.pass(partition)
		if done {
			return nil
		}
		if to.subject == ofFile {
			_ = http.NewResponseController(x).SetWriteDeadline(time.Now().Add(s.opts.Limits.BodyTimeout)) // reading it has lifted that
		}
		if err != nil {
			return err
		}
		if held != nil {
			r.Body = io.NopCloser(bytes.NewReader(held.head))
		}
	}
	// No node of the region holds it just now. A change that can be made without looking at the zone needs none; it goes
	// into the log under the ID that those who were asked have had, so that none makes it twice.
	if reads(to, r.Method) {
		return unheld(partition)
	}
	return to.serve(x, r)
}

// stampPosition says how far this node's copy is: the node that has passed the request on must not answer from before that any
// more, as its client has seen it.
func (s *Server) stampPosition(h http.Header, partition int32) {
	if p := s.opts.Reader.Partition(partition); p != nil && p.Settled() >= 0 {
		h.Set(PositionHeader, store.Position{Partition: partition, Offset: p.Settled()}.String())
	}
}

// partitionOf returns the partition of the zone that a request is about; known is false when that can't be made out.
func (s *Server) partitionOf(r *http.Request, about subject, body *heldBody) (partition int32, known bool) {
	var apex zones.Name
	var err error
	if about == ofBody {
		apex, err = namedIn(body.head)
	} else {
		apex, err = zoneOf(r)
	}
	if err != nil {
		return 0, false
	}
	return s.opts.Publisher.PartitionOf(apex)
}

// namedIn reads the name of a new zone as postZones does; what is wrong with it, that says.
func namedIn(body []byte) (zones.Name, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	v, err := readValue(dec, "", 0)
	if err != nil {
		return "", err
	}
	f := &form{}
	o := f.object(v)
	text, ok := o.required("name")
	name, _ := o.name(text, ok, zones.Root)
	return name, f.err()
}

// reads reports whether a route needs the zone as it is.
func reads(to route, method string) bool {
	return method == http.MethodGet || method == http.MethodHead || to.subject == ofFile || to.subject == ofDuty || strings.HasSuffix(to.pattern, "/rollback")
}

// unheld is the problem of a partition that no node of the region holds, as far as this one knows.
func unheld(partition int32) *problem {
	p := newProblem(http.StatusServiceUnavailable, "unavailable", "no node of this region holds partition %d just now", partition)
	p.retryAfter = 5
	return p
}

// holds reports whether this node answers for a partition itself. A node by itself does for all that it has.
func (s *Server) holds(partition int32) bool {
	if s.opts.Peers != nil {
		return s.opts.Peers.Holds(partition)
	}
	return s.opts.Reader.Partition(partition) != nil
}

// elsewhere reports whether a zone is in a partition that this node does not hold, though others may.
func (s *Server) elsewhere(apex zones.Name) (partition int32, elsewhere bool) {
	partition, known := s.opts.Publisher.PartitionOf(apex)
	return partition, known && s.opts.Peers != nil && !s.opts.Peers.Holds(partition)
}

// pinned gives a client's write the ID that its change set will have, whoever publishes it.
func (s *Server) pinned(r *http.Request) *http.Request {
	o := s.originOf(r)
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return withOrigin(r, o)
	}
	if keys := r.Header.Values("Idempotency-Key"); len(keys) > 0 {
		o.id = keyedID(o.author, keys[0])
	} else {
		rand.Read(o.id[:])
	}
	return withOrigin(r, o)
}
