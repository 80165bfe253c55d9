package admin

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// exchange is one request under way, and the ResponseWriter that its handler gets.
type exchange struct {
	http.ResponseWriter
	id     string
	route  string // the pattern; "" when there is none
	status int    // 0 before the header is written
	cut    bool   // the connection, since the answer could not be ended
	stamp  func() // sets what of the header is known only when it is written; nil: nothing
}

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.begin(status)
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.begin(http.StatusOK)
	}
	return x.ResponseWriter.Write(p)
}

func (x *exchange) begin(status int) {
	x.status = status
	if x.stamp != nil {
		x.stamp()
	}
}

// Unwrap lets http.ResponseController set deadlines.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// admission lets a request in, perhaps with more known of it, or says why not.
type admission func(*http.Request) (*http.Request, *problem)

// entry is a route behind its checks.
type entry struct {
	route
	s     *Server
	admit admission
}

func (s *Server) enter(r route, admit admission) http.Handler { return entry{r, s, admit} }

// door is what every request goes through first.
func (s *Server) door(mux *http.ServeMux, admit admission) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		x := &exchange{ResponseWriter: w, id: requestID(r)}
		h := w.Header()
		h.Set("X-Request-Id", x.id)
		h.Set("X-Content-Type-Options", "nosniff")
		defer func() { // also when the connection is to be cut
			took := time.Since(began)
			s.metrics.request(x.route, x.status, took)
			s.log.Debug().Str("request_id", x.id).Str("method", r.Method).Str("route", x.route).
				Int("status", x.status).Bool("cut", x.cut).Dur("took", took).Msg("request")
		}()
		defer func() {
			if thrown := recover(); thrown != nil {
				s.caught(x, thrown)
			}
		}()
		// The mux would redirect paths that it can tidy up, and word refusals in its own way.
		handler, _ := mux.Handler(r)
		if e, ok := handler.(entry); ok {
			x.route = e.pattern
			mux.ServeHTTP(x, r)
			return
		}
		if _, p := admit(r); p != nil {
			s.refuse(x, p)
			return
		}
		s.refuse(x, unrouted(handler, r))
	})
}

// caught ends a request whose handler panicked. The connection is cut when an answer has begun, so that nobody takes it for whole.
func (s *Server) caught(x *exchange, thrown any) {
	if thrown == http.ErrAbortHandler {
		x.cut = true
		panic(thrown) // net/http cuts the connection, and says nothing
	}
	s.log.Error().Str("request_id", x.id).Str("route", x.route).Interface("panic", thrown).Bytes("stack", debug.Stack()).Msg("a request panicked")
	if x.status != 0 {
		x.cut = true
		panic(http.ErrAbortHandler)
	}
	s.refuse(x, problemOf(errors.New("panic")))
}

// unrouted says why no route takes a request.
func unrouted(handler http.Handler, r *http.Request) *problem {
	probe := &probe{header: http.Header{}}
	handler.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		p := newProblem(http.StatusMethodNotAllowed, "method-not-allowed", "allowed: %s", probe.header.Get("Allow"))
		p.allow = probe.header.Get("Allow")
		return p
	}
	return newProblem(http.StatusNotFound, "not-found", "no such path; /openapi.json describes those that there are")
}

// probe takes an answer that nobody gets.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// authorize lets requests with a valid token in.
func (s *Server) authorize(r *http.Request) (*http.Request, *problem) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || !s.opts.Token.accepts(strings.TrimSpace(secret)) {
		return nil, newProblem(http.StatusUnauthorized, "unauthorized", "send it as Authorization: Bearer TOKEN")
	}
	return r, nil
}

func (e entry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := w.(*exchange)
	if !e.open {
		if e.s.opts.Node != "" {
			x.Header().Set(nodeHeader, e.s.opts.Node)
		}
		admitted, p := e.admit(r)
		if p != nil {
			e.s.refuse(x, p)
			return
		}
		r = admitted
		select {
		case e.s.slots <- struct{}{}:
			defer func() { <-e.s.slots }()
		default:
			p := newProblem(http.StatusServiceUnavailable, "busy", "%d requests are under way, and no more are taken", cap(e.s.slots))
			p.retryAfter, p.declined = 1, e.s.relayed(r)
			e.s.refuse(x, p)
			return
		}
	}
	if r.ContentLength == 0 {
		patient(x)
	}
	if err := e.s.serveRoute(x, r, e.route); err != nil {
		e.s.refuse(x, problemOf(err))
	}
}

// patient lifts the time limit for reading, once a request is read to its end: net/http goes on reading, to see the
// client leave, and would take the limit for that. Before its end the limit must stay, as net/http also reads what a
// handler has left.
func patient(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // not supported only by tests' writers
}

// refuse answers with a problem, or cuts the connection when another answer has begun.
func (s *Server) refuse(x *exchange, p *problem) {
	if p.cause != nil {
		s.log.Warn().Err(p.cause).Str("request_id", x.id).Str("route", x.route).Int("status", p.Status).Msg("request failed")
	}
	if x.status != 0 {
		panic(http.ErrAbortHandler)
	}
	p.RequestID = x.id
	writeProblem(x, p)
}

// requestID takes the client's, when it is a plain one, so that it can be found in its logs and ours.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	plain := len(id) > 0 && len(id) <= 64
	for _, c := range []byte(id) {
		plain = plain && (c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z')
	}
	if plain {
		return id
	}
	var random [8]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// writeJSON answers with a JSON value.
func writeJSON(w http.ResponseWriter, status int, value any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // the client is gone: nobody to tell
	return nil
}
