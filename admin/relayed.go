package admin

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/url"
	"time"

	"balefire/zones"
	"balefire/zones/change"
)

// A node need not hold every partition. What it is asked about the others it passes on to a node of its region that
// holds them: one hop, since whoever is passed a request answers it or declines, and never passes it on.

// Peers says where the partitions are that this node does not hold, and how to reach who does. What it says of others may be
// old: they decline what they don't hold. Safe for concurrent use.
type Peers interface {
	// Partitions returns how many the namespace has; 0 while that is not known.
	Partitions() int32
	// Holds reports whether this node can answer for a partition itself.
	Holds(partition int32) bool
	// Holders returns the nodes of the region, other than this one, that say they hold a partition, the best first.
	Holders(partition int32) []Peer
	// Duty returns the node of the region, other than this one, that does for a partition what is done once for the region; ok is false
	// when this one does, or none is known.
	Duty(partition int32) (peer Peer, ok bool)
	// Transport carries requests for https URLs to a peer, whatever host they name, and closes their bodies as http.RoundTripper
	// wants it. Both sides have proved who they are, and it ends on the handler that the peer's Server.Relayed returns.
	Transport(peer Peer) http.RoundTripper
}

// Peer is another node of the region.
type Peer struct{ ID string }

// Headers between nodes; nodeHeader also in answers to clients.
const (
	relayedHeader  = "Balefire-Relayed"   // the node that passes a request on
	authorHeader   = "Balefire-Author"    // the name of the client's token, percent-encoded
	changeHeader   = "Balefire-Change-Id" // the ID that a write's change set is to have: sent twice, it is made once
	declinedHeader = "Balefire-Declined"  // of an answer: nothing was done, and another node may do it
	nodeHeader     = "Balefire-Node"      // of an answer: the node that gives it
)

// PositionHeader, of an answer to another node, says how far the partition is there: a store.Position. It is for the Transport of
// Peers.
const PositionHeader = "Balefire-Position"

// maxNodeID bounds the ID of a node in a header, in octets.
const maxNodeID = 255

// origin says where a request came from, when that is not a client of this node with nothing more to say.
type origin struct {
	node   string // that passed it on; "" when a client sent it here
	author string
	id     zones.ChangeID // of the change set; zero: not given
}

type originKey struct{}

// originOf returns where a request came from.
func (s *Server) originOf(r *http.Request) origin {
	if o, ok := r.Context().Value(originKey{}).(origin); ok {
		return o
	}
	return origin{author: s.opts.Token.Name}
}

func withOrigin(r *http.Request, o origin) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), originKey{}, o))
}

// relayed reports whether another node has passed a request on.
func (s *Server) relayed(r *http.Request) bool { return s.originOf(r).node != "" }

// Relayed answers what other nodes pass on, by the same routes and limits as clients' requests, but without a token: it is for
// a listener that has made sure that the peer is a node of the region. What is about a node itself is not among the routes.
// Its deadlines are its own; the server that it runs in needs one only for the header.
func (s *Server) Relayed() http.Handler {
	door := s.door(s.passed, identify)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := &s.opts.Limits
		ctl, now := http.NewResponseController(w), time.Now()
		_ = ctl.SetReadDeadline(now.Add(l.BodyTimeout)) // not supported only by tests' writers
		_ = ctl.SetWriteDeadline(now.Add(l.answerTimeout()))
		door.ServeHTTP(w, r)
	})
}

// identify reads on whose behalf a peer passes a request on.
func identify(r *http.Request) (*http.Request, *problem) {
	h := r.Header
	o := origin{node: h.Get(relayedHeader)}
	if o.node == "" || len(o.node) > maxNodeID {
		return nil, badParameter(relayedHeader, "want the ID of the node that passes the request on")
	}
	var err error
	if o.author, err = url.PathUnescape(h.Get(authorHeader)); err != nil || o.author == "" || len(o.author) > change.MaxAuthor {
		return nil, badParameter(authorHeader, "want a name of 1 to %d octets, percent-encoded", change.MaxAuthor)
	}
	if text := h.Get(changeHeader); text != "" {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(o.id) {
			return nil, badParameter(changeHeader, "%q: want %d hexadecimal digits", text, 2*len(o.id))
		}
		copy(o.id[:], b)
	}
	return withOrigin(r, o), nil
}

// writeTo puts the origin of a request into the header of one that is passed on by a node.
func (o origin) writeTo(h http.Header, node string) {
	h.Set(relayedHeader, node)
	h.Set(authorHeader, url.PathEscape(o.author))
	if o.id != (zones.ChangeID{}) {
		h.Set(changeHeader, o.id.String())
	}
}

// notHeld is what a node answers to a request that was passed to it in error.
func notHeld(partition int32) *problem {
	p := newProblem(http.StatusServiceUnavailable, "not-held", "partition %d is not held by this node", partition)
	p.declined = true
	return p
}
