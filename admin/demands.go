package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"balefire/replication"
	"balefire/zones"
	"balefire/zones/change"
)

// demands are what a write's header and query ask for beside its body.
type demands struct {
	author string
	id     zones.ChangeID
	keep   uint32 // seconds; 0 without an Idempotency-Key
	wait   waiting
	// match are preconditions of the header. They come after those of the body, so that the indexes of
	// those are the client's.
	match  []zones.Precondition
	reason string
}

// maxKey bounds an Idempotency-Key, in octets.
const maxKey = 255

// demandsOf reads the header and the query of a write. Query parameters that are not known are refused; params has
// those that the handler knows besides.
func (s *Server) demandsOf(r *http.Request, apex zones.Name, params ...string) (d demands, query url.Values, err error) {
	from := s.originOf(r)
	d.author = from.author
	query, err = queryOf(r, append(params, "wait", "timeout", "reason")...)
	if err != nil {
		return d, nil, err
	}
	if d.wait, err = s.waitingOf(r, query, s.opts.Limits.Wait); err != nil {
		return d, nil, err
	}
	if d.reason = query.Get("reason"); len(d.reason) > change.MaxReason {
		return d, nil, badParameter("?reason", "%d octets; at most %d", len(d.reason), change.MaxReason)
	}
	if d.match, err = matchOf(r, apex); err != nil {
		return d, nil, err
	}
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		if d.id = from.id; d.id == (zones.ChangeID{}) {
			rand.Read(d.id[:])
		}
		return d, query, nil
	}
	key := keys[0]
	if len(keys) > 1 || key == "" || len(key) > maxKey {
		return d, nil, badParameter("Idempotency-Key", "want one, of 1 to %d octets", maxKey)
	}
	d.id = keyedID(d.author, key)
	d.keep = uint32(s.opts.Limits.KeepKeys / time.Second)
	return d, query, nil
}

// keyedID derives the ID of a change set from a client's key. The token's name keeps clients apart.
func keyedID(client, key string) (id zones.ChangeID) {
	h := sha256.New()
	h.Write([]byte("idempotency key\x00" + strconv.Itoa(len(client)) + "\x00" + client + key))
	copy(id[:], h.Sum(nil))
	return id
}

// queryOf reads the query, and refuses what is not known or there twice.
func queryOf(r *http.Request, known ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newProblem(http.StatusBadRequest, "bad-request", "query: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return nil, badParameter("?"+name, "unknown parameter; known here: %s", strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, badParameter("?"+name, "is there twice")
		}
	}
	return query, nil
}

// waiting is what a client waits for, and how long.
type waiting struct {
	scope replication.Scope
	time  time.Duration
}

// scopes are what ?wait can name.
var scopes = map[string]replication.Scope{"node": replication.ThisNode, "region": replication.Region, "everywhere": replication.Everywhere}

// waitingOf says what the client waits for: ?wait=SCOPE with ?timeout, or ?wait=TIME for this node. What can't be known
// here is refused before anything is changed.
func (s *Server) waitingOf(r *http.Request, query url.Values, otherwise time.Duration) (waiting, error) {
	scope, named := scopes[query.Get("wait")]
	if !named {
		if query.Has("timeout") {
			return waiting{}, badParameter("?timeout", "is for ?wait=node, region or everywhere")
		}
		wait, err := s.waitOf(r, query, otherwise)
		return waiting{time: wait}, err
	}
	if scope != replication.ThisNode {
		if _, err := s.groups(); err != nil {
			return waiting{}, badParameter("?wait", "this node knows only how far it is itself: want node, or a time")
		}
	}
	limit := s.opts.Limits.MaxWait
	if !query.Has("timeout") {
		return waiting{scope, min(otherwise, limit)}, nil
	}
	wait, err := time.ParseDuration(query.Get("timeout"))
	if err != nil || wait < 0 {
		return waiting{}, badParameter("?timeout", "%q: want a time such as 5s or 250ms", query.Get("timeout"))
	}
	return waiting{scope, min(wait, limit)}, nil
}

// waitOf says how long the client waits for its change to be applied: ?wait, Prefer (RFC 7240 §4.3), or the given time.
func (s *Server) waitOf(r *http.Request, query url.Values, otherwise time.Duration) (time.Duration, error) {
	limit := s.opts.Limits.MaxWait
	if query.Has("wait") {
		wait, err := time.ParseDuration(query.Get("wait"))
		if err != nil || wait < 0 {
			return 0, badParameter("?wait", "%q: want a time such as 5s or 250ms, or node, region or everywhere", query.Get("wait"))
		}
		return min(wait, limit), nil
	}
	// What can't be understood of a preference is passed over (RFC 7240 §2).
	for _, line := range r.Header.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			name, v, _ := strings.Cut(strings.TrimSpace(preference), "=")
			switch strings.ToLower(name) {
			case "respond-async":
				otherwise = min(otherwise, 0)
			case "wait":
				if seconds, err := strconv.ParseUint(v, 10, 16); err == nil {
					return min(time.Duration(seconds)*time.Second, limit), nil
				}
			}
		}
	}
	return otherwise, nil
}

// matchOf reads If-Match, whose entity tags are serials, and If-None-Match: *.
func matchOf(r *http.Request, apex zones.Name) (match []zones.Precondition, err error) {
	if values := r.Header.Values("If-Match"); len(values) > 0 {
		text := strings.TrimSpace(values[0])
		serial, ok := parseTag(text)
		switch {
		case len(values) > 1 || text != "*" && !ok:
			return nil, badParameter("If-Match", `want one serial in quotes, such as "7", or *`)
		case text == "*":
			match = append(match, zones.IfRRsetExists{Owner: apex, Type: zones.TypeSOA})
		default:
			match = append(match, zones.IfSerial{Serial: serial})
		}
	}
	if values := r.Header.Values("If-None-Match"); len(values) > 0 {
		if len(values) > 1 || strings.TrimSpace(values[0]) != "*" {
			return nil, badParameter("If-None-Match", "only * is understood: the zone must not be there")
		}
		match = append(match, zones.IfZoneAbsent{})
	}
	for _, name := range []string{"If-Unmodified-Since", "If-Modified-Since", "If-Range"} {
		if r.Header.Get(name) != "" {
			return nil, badParameter(name, "is not understood here: use If-Match with the serial")
		}
	}
	return match, nil
}

// tag is the entity tag of a zone at a serial.
func tag(serial zones.Serial) string { return `"` + strconv.FormatUint(uint64(serial), 10) + `"` }

func parseTag(text string) (zones.Serial, bool) {
	if len(text) < 3 || text[0] != '"' || text[len(text)-1] != '"' {
		return 0, false
	}
	n, err := strconv.ParseUint(text[1:len(text)-1], 10, 32)
	return zones.Serial(n), err == nil
}

// zoneOf reads {zone}. "@" is the root zone, beside ".", which some clients take out of paths.
func zoneOf(r *http.Request) (zones.Name, error) {
	apex, err := zones.ParseName(r.PathValue("zone"))
	if err != nil {
		return "", badParameter("{zone}", "%v", err)
	}
	return apex, nil
}

// rrsetOf reads {owner} and {type}.
func rrsetOf(r *http.Request, apex zones.Name) (owner zones.Name, t zones.Type, err error) {
	if owner, err = zones.ParseNameIn(r.PathValue("owner"), apex); err != nil {
		return "", 0, badParameter("{owner}", "%v", err)
	}
	if !owner.IsAtOrBelow(apex) {
		return "", 0, badParameter("{owner}", "%s is not in the zone %s: leave its final dot out to make it relative", owner, apex)
	}
	if t, err = zones.ParseType(r.PathValue("type")); err != nil {
		return "", 0, badParameter("{type}", "%v", err)
	}
	if t.IsMeta() {
		return "", 0, badParameter("{type}", "%s exists only in messages", t)
	}
	return owner, t, nil
}

// limitOf reads ?limit.
func limitOf(query url.Values, otherwise, maximum int) (int, error) {
	if !query.Has("limit") {
		return min(otherwise, maximum), nil
	}
	n, err := strconv.Atoi(query.Get("limit"))
	if err != nil || n < 1 || n > maximum {
		return 0, badParameter("?limit", "%q: want a whole number from 1 to %d", query.Get("limit"), maximum)
	}
	return n, nil
}

// flagOf reads a parameter that is true or false.
func flagOf(query url.Values, name string) (bool, error) {
	switch query.Get(name) {
	case "":
		if query.Has(name) {
			return true, nil
		}
		return false, nil
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, badParameter("?"+name, "%q: want true or false", query.Get(name))
}
