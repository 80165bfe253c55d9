package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Some calls are about many partitions. This node answers for those that it holds, and asks others of the region for the
// rest: few of them, each for as much as it has.

const (
	spreadWidth  = 8    // peers asked at once for one call
	spreadRounds = 3    // how many peers are asked for one partition before it counts as held by nobody
	maxNamed     = 4096 // partitions that a request can name
)

// share is what one peer is asked for.
type share struct {
	peer       Peer
	partitions []int32
}

// divide splits partitions into what this node holds and what others do.
func (s *Server) divide(partitions []int32) (own, others []int32) {
	for _, p := range partitions {
		if s.holds(p) {
			own = append(own, p)
		} else {
			others = append(others, p)
		}
	}
	return own, others
}

// shares covers partitions with few peers; asked are those that were tried before. nobody lists partitions without a peer.
func (s *Server) shares(partitions []int32, asked map[Peer]map[int32]bool) (shares []share, nobody []int32) {
	holders := map[int32][]Peer{}
	for _, p := range partitions {
		for _, peer := range s.opts.Peers.Holders(p) {
			if !asked[peer][p] {
				holders[p] = append(holders[p], peer)
			}
		}
		if len(holders[p]) == 0 {
			nobody = append(nobody, p)
		}
	}
	for len(holders) > 0 {
		count := map[Peer]int{}
		var best Peer
		for _, p := range partitions { // in order, so that equals are decided alike
			for _, peer := range holders[p] {
				if count[peer]++; count[peer] > count[best] {
					best = peer
				}
			}
		}
		if count[best] == 0 {
			break
		}
		of := share{peer: best}
		for _, p := range partitions {
			if slices.Contains(holders[p], best) {
				of.partitions = append(of.partitions, p)
				delete(holders, p)
			}
		}
		shares = append(shares, of)
	}
	return shares, nobody
}

// spread asks peers about partitions that this node does not hold. ask returns those of a share that the peer did not answer for:
// others are asked for them then. ask is called by several goroutines at once, never after spread has returned. nobody lists
// the partitions that no node of the region has answered for, in order.
func (s *Server) spread(partitions []int32, ask func(share) (unanswered []int32)) (nobody []int32) {
	if s.opts.Peers == nil {
		return partitions
	}
	asked := map[Peer]map[int32]bool{}
	left := partitions
	for range spreadRounds {
		shares, without := s.shares(left, asked)
		nobody = append(nobody, without...)
		left = nil
		var mu sync.Mutex // guards left
		var asking sync.WaitGroup
		slots := make(chan struct{}, spreadWidth)
		for _, of := range shares {
			if asked[of.peer] == nil {
				asked[of.peer] = map[int32]bool{}
			}
			for _, p := range of.partitions {
				asked[of.peer][p] = true
			}
			slots <- struct{}{}
			asking.Go(func() {
				defer func() { <-slots }()
				unanswered := slices.DeleteFunc(ask(of), func(p int32) bool { return !slices.Contains(of.partitions, p) })
				mu.Lock()
				defer mu.Unlock()
				left = append(left, unanswered...)
			})
		}
		asking.Wait()
		if slices.Sort(left); len(left) == 0 {
			break
		}
	}
	nobody = append(nobody, left...)
	slices.Sort(nobody)
	return nobody
}

// peerAnswer is a peer's answer, whole.
type peerAnswer struct {
	status int
	header http.Header
	body   []byte
}

// askPeer makes a request of its own to a peer, on behalf of another request. Answers of more than limit octets, those that say
// that nothing was done, and what takes longer than patience, are errors.
func (s *Server) askPeer(r *http.Request, peer Peer, patience time.Duration, limit int64, method string, at *url.URL, body []byte) (a peerAnswer, err error) {
	defer func() {
		result := "answered"
		if err != nil {
			result = "failed"
			s.log.Debug().Err(err).Str("peer", peer.ID).Str("path", at.Path).Msg("a node was asked in vain")
		}
		s.metrics.passed.WithLabelValues(result).Inc()
	}()
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	req, err := s.newPeerRequest(ctx, r, requestID(r), method, at)
	if err != nil {
		return a, err
	}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.opts.Peers.Transport(peer).RoundTrip(req)
	if err != nil {
		return a, fmt.Errorf("ask node %s: %w", peer.ID, err)
	}
	defer resp.Body.Close()
	a = peerAnswer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1)); err != nil {
		return a, fmt.Errorf("answer of node %s: %w", peer.ID, err)
	}
	if int64(len(a.body)) > limit {
		return a, fmt.Errorf("answer of node %s: more than %d octets", peer.ID, limit)
	}
	if declines(peer, a.header) {
		return a, fmt.Errorf("node %s declines: %s", peer.ID, a.body)
	}
	return a, nil
}

// json reads the answer's body; what is not 200, or not JSON, is an error.
func (a peerAnswer) json(v any) error {
	if a.status != http.StatusOK {
		return fmt.Errorf("status %d: %.500s", a.status, a.body)
	}
	return json.Unmarshal(a.body, v)
}

// partitionsOf reads ?partitions. Without it, they are all of the namespace, or all that are open here when how many there are is
// not known.
func (s *Server) partitionsOf(query url.Values) ([]int32, error) {
	count := int32(0)
	if s.opts.Peers != nil {
		count = s.opts.Peers.Partitions()
	}
	if !query.Has("partitions") {
		var all []int32
		for p := range count {
			all = append(all, p)
		}
		if count == 0 {
			for _, p := range s.opts.Reader.Partitions() {
				all = append(all, p.Number())
			}
		}
		return all, nil
	}
	texts := strings.Split(query.Get("partitions"), ",")
	if len(texts) > maxNamed {
		return nil, badParameter("?partitions", "%d partitions; at most %d are allowed", len(texts), maxNamed)
	}
	var named []int32
	for _, text := range texts {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 || count > 0 && n >= int64(count) {
			return nil, badParameter("?partitions", "%q: want numbers of partitions, such as 1,5,9", text)
		}
		named = append(named, int32(n))
	}
	slices.Sort(named)
	return slices.Compact(named), nil
}

// partitionsText is the inverse.
func partitionsText(partitions []int32) string {
	texts := make([]string, len(partitions))
	for i, p := range partitions {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ",")
}
