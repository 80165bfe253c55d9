package admin

import (
	"net/http"
	"net/url"
	"sync"
	"time"

	"balefire/store"
	"balefire/zones"
)

// askPeersAgain is how often other nodes are asked for a change that is known only by its ID, while its client waits.
const askPeersAgain = 250 * time.Millisecond

// maxChangeAnswer bounds a peer's answer about one change, in octets: what its record did, twice, as text.
const maxChangeAnswer = 8 << 20

// changeElsewhere tells what became of a change in a partition that this node does not hold: as a node says that does. When none
// is there, the groups can still say how far they are.
func (s *Server) changeElsewhere(w http.ResponseWriter, r *http.Request, pending changeDetail, at store.Position, groups bool) error {
	if s.relayed(r) {
		return notHeld(at.Partition)
	}
	if x, ok := w.(*exchange); ok {
		c := &call{s: s, x: x, r: r, subject: ofRegion}
		if done, err := c.pass(at.Partition); done || err != nil {
			return err
		}
	}
	if s.beyondLog(r, at) {
		return newProblem(http.StatusNotFound, "not-found", "there is no record at %s: the log does not reach so far", at)
	}
	if groups {
		return s.writeChange(w, r, pending, at, groups)
	}
	return unheld(at.Partition)
}

// askForChange asks other nodes about a change in partitions that they hold. found is the answer of one that remembers it.
func (s *Server) askForChange(r *http.Request, id zones.ChangeID, partitions []int32, groups bool) (found *peerAnswer, nobody []int32) {
	var mu sync.Mutex // guards found
	nobody = s.spread(partitions, func(of share) []int32 {
		query := url.Values{"partitions": {partitionsText(of.partitions)}}
		if groups {
			query.Set("groups", "true")
		}
		at := &url.URL{Path: "/v1/changes/" + id.String(), RawQuery: query.Encode()}
		a, err := s.askPeer(r, of.peer, s.opts.Limits.PeerWait, maxChangeAnswer, http.MethodGet, at, nil)
		switch {
		case err == nil && a.status == http.StatusOK:
			mu.Lock()
			defer mu.Unlock()
			found = &a
		case err != nil || a.status != http.StatusNotFound:
			return of.partitions
		}
		return nil
	})
	return found, nobody
}

// writePeerAnswer answers with what another node has answered.
func writePeerAnswer(w http.ResponseWriter, a *peerAnswer) error {
	h := w.Header()
	for _, name := range []string{"Content-Type", "Cache-Control", nodeHeader} {
		if v := a.header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client is gone: nobody to tell
	return nil
}
