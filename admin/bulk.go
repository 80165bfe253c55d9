package admin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"balefire/zones"
)

// A bulk import takes many small zone files in one request. They share what a request costs, and, since all are under
// way at once, the log's syncs and those of the partitions. Each has its own outcome: what fails stops no other.

// bulkZone is one zone of a bulk import.
type bulkZone struct {
	apex zones.Name
	file string
}

// bulkResult is what became of one zone: one of the two.
type bulkResult struct {
	Zone    string    `json:"zone"`
	Import  *imported `json:"import,omitempty"`
	Problem *problem  `json:"problem,omitempty"`
}

// bulkResults is the answer, in the order of the request.
type bulkResults struct {
	Results []bulkResult `json:"results"`
}

func (s *Server) postImports(w http.ResponseWriter, r *http.Request) error {
	for _, name := range []string{"Idempotency-Key", "If-Match", "If-None-Match"} {
		if len(r.Header.Values(name)) > 0 {
			return badParameter(name, "is for one zone: use PUT /v1/zones/{zone}/file")
		}
	}
	d, query, err := s.demandsOf(r, zones.Root, "force", "dry_run", "serial_policy", "default_ttl")
	if err != nil {
		return err
	}
	opts, err := importOptionsOf(query)
	if err != nil {
		return err
	}
	body, err := readJSON(w, r, s.opts.Limits.Body)
	if err != nil {
		return err
	}
	all, err := s.bulkOf(body)
	if err != nil {
		return err
	}
	release, err := s.imports.slot(r.Context(), s)
	if err != nil {
		return err
	}
	defer release()
	results := make([]bulkResult, len(all))
	own, others := s.divideZones(r, all, results)
	var work sync.WaitGroup
	for peer, which := range others {
		work.Go(func() { s.importElsewhere(r, peer, all, which, results) })
	}
	for _, i := range own {
		work.Go(func() { results[i] = s.importOne(r.Context(), all[i], d, opts) })
	}
	work.Wait()
	id := w.Header().Get("X-Request-Id")
	for _, result := range results {
		if p := result.Problem; p != nil {
			p.RequestID = id
			if p.cause != nil { // the request does not fail, so nobody else says it
				s.log.Warn().Err(p.cause).Str("request_id", id).Str("zone", result.Zone).Int("status", p.Status).Msg("import failed")
			}
		}
	}
	return writeJSON(w, http.StatusOK, bulkResults{results})
}

// bulkOf reads {"zones": [{"name", "file"}]}.
func (s *Server) bulkOf(body value) ([]bulkZone, error) {
	f := &form{}
	o := f.object(body)
	v, ok := o.required("zones")
	items := o.array(v, ok)
	o.end()
	switch most := s.opts.Limits.BulkZones; {
	case len(items) > most:
		return nil, newProblem(http.StatusRequestEntityTooLarge, "too-large", "%d zones; at most %d are taken at once", len(items), most)
	case ok && len(items) == 0 && v.what == "array":
		f.add(v.at, "is empty")
	}
	all := make([]bulkZone, 0, len(items))
	first := make(map[zones.Name]string, len(items)) // its place
	for _, item := range items {
		o := f.object(item)
		v, ok := o.required("name")
		apex, named := o.name(v, ok, zones.Root)
		if earlier, twice := first[apex]; named && twice {
			o.add(v.at, "%s is also at %s", apex, earlier)
		}
		first[apex] = v.at
		v, ok = o.required("file")
		text, _ := o.text(v, ok)
		o.end()
		all = append(all, bulkZone{apex, text})
	}
	return all, f.err()
}

// importOne imports one zone of many. What goes wrong is its result.
func (s *Server) importOne(ctx context.Context, z bulkZone, d demands, opts importOptions) bulkResult {
	result := bulkResult{Zone: z.apex.String()}
	got, err := s.importHeld(ctx, z, d, opts)
	if err != nil {
		result.Problem = problemOf(err)
		s.metrics.imports.WithLabelValues("failed").Inc()
		return result
	}
	s.metrics.imported(got)
	result.Import = &got
	return result
}

func (s *Server) importHeld(ctx context.Context, z bulkZone, d demands, opts importOptions) (got imported, err error) {
	defer func() { // one bug costs one zone
		if v := recover(); v != nil {
			err = fmt.Errorf("importing %s panicked: %v", z.apex, v)
		}
	}()
	leave, err := s.imports.claim(z.apex)
	if err != nil {
		return got, err
	}
	defer leave()
	rand.Read(d.id[:])
	job := &importJob{s: s, apex: z.apex, demands: d, importOptions: opts, file: fileName(z.apex)}
	return job.run(ctx, heldText{strings.NewReader(z.file)})
}

// heldText is a zone file that is in memory: reading it does not fail.
type heldText struct{ *strings.Reader }

func (heldText) failure() error { return nil }

// divideZones says which zones this node imports itself, and which go to a peer. Zones that nobody can import now have their
// results already.
func (s *Server) divideZones(r *http.Request, all []bulkZone, results []bulkResult) (own []int, others map[Peer][]int) {
	others = map[Peer][]int{}
	for i, z := range all {
		partition, elsewhere := s.elsewhere(z.apex)
		switch {
		case !elsewhere:
			own = append(own, i)
			continue
		case s.relayed(r):
			results[i] = bulkResult{Zone: z.apex.String(), Problem: notHeld(partition)}
			continue
		}
		if holders := s.opts.Peers.Holders(partition); len(holders) > 0 {
			others[holders[0]] = append(others[holders[0]], i)
			continue
		}
		results[i] = bulkResult{Zone: z.apex.String(), Problem: unheld(partition)}
	}
	return own, others
}

// importElsewhere has a peer import the zones that it holds. Importing again what it may have imported changes nothing, so
// the client is told to do that when the peer is lost.
func (s *Server) importElsewhere(r *http.Request, peer Peer, all []bulkZone, which []int, results []bulkResult) {
	got, err := s.askImports(r, peer, all, which)
	for k, i := range which {
		if err == nil {
			results[i] = got[k]
			continue
		}
		p := newProblem(http.StatusGatewayTimeout, "outcome-unknown",
			"node %s, which holds it, did not answer: the zone may be imported all the same. Import it again", peer.ID)
		results[i] = bulkResult{Zone: all[i].apex.String(), Problem: p}
	}
}

// bulkResultOctets is how much of an answer one zone takes at most, but for a problem with all its mistakes.
const bulkResultOctets = 16 << 10

func (s *Server) askImports(r *http.Request, peer Peer, all []bulkZone, which []int) ([]bulkResult, error) {
	type item struct {
		Name string `json:"name"`
		File string `json:"file"`
	}
	items := make([]item, len(which))
	for k, i := range which {
		items[k] = item{all[i].apex.String(), all[i].file}
	}
	body, err := json.Marshal(map[string]any{"zones": items})
	if err != nil {
		return nil, err
	}
	at := &url.URL{Path: "/v1/imports", RawQuery: r.URL.RawQuery}
	a, err := s.askPeer(r, peer, s.opts.Limits.answerTimeout(), int64(len(which)+1)*bulkResultOctets, http.MethodPost, at, body)
	if err != nil {
		return nil, err
	}
	var got bulkResults
	if err := a.json(&got); err != nil {
		return nil, err
	}
	if len(got.Results) != len(which) {
		return nil, fmt.Errorf("node %s gave %d results for %d zones", peer.ID, len(got.Results), len(which))
	}
	return got.Results, nil
}
