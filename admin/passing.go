package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// call is a request that is passed on to another node, and its answer back to the client.
type call struct {
	s       *Server
	x       *exchange
	r       *http.Request // with its origin
	subject subject
	body    *heldBody // nil: none
}

// errSlowPeer is the cause of giving up a peer.
var errSlowPeer = errors.New("the node did not answer in time")

// pass tries the holders of a partition in turn, until one has answered. done is false when none did, and nothing is wrong with
// the request; what a peer may have done before it was lost has the ID of the request's origin.
func (c *call) pass(partition int32) (done bool, err error) {
	return c.passTo(c.s.opts.Peers.Holders(partition), partition)
}

func (c *call) passTo(peers []Peer, partition int32) (done bool, err error) {
	doubt := false
	write := c.r.Method != http.MethodGet && c.r.Method != http.MethodHead
	for _, peer := range peers {
		resp, err := c.ask(peer)
		if c.body != nil && c.body.failure() != nil {
			return false, c.body.failure()
		}
		if err == nil && !c.declined(peer, resp) {
			c.s.metrics.passed.WithLabelValues("answered").Inc()
			c.relay(peer, resp)
			return true, nil
		}
		result := "declined"
		if err == nil {
			resp.Body.Close()
		} else {
			result = "failed"
			doubt = doubt || write
			c.s.log.Debug().Err(err).Str("request_id", c.x.id).Str("peer", peer.ID).Msg("a request was passed on in vain")
		}
		c.s.metrics.passed.WithLabelValues(result).Inc()
		if c.body != nil && c.body.begun.Load() {
			return false, c.lost(partition)
		}
		if err := c.r.Context().Err(); err != nil { // also when the body was left: reading it in vain ends the context
			return false, err
		}
	}
	if doubt && reads(route{pattern: c.x.route, subject: c.subject}, c.r.Method) {
		return false, c.lost(partition)
	}
	return false, nil
}

// lost is the problem of a write whose peer was lost while it had it, and which can't be sent again.
func (c *call) lost(partition int32) *problem {
	if c.body != nil && c.body.rest != nil && !c.body.ended.Load() {
		p := newProblem(http.StatusServiceUnavailable, "unavailable",
			"nothing was changed: the node that holds partition %d was lost before it had all of the zone file", partition)
		p.retryAfter = 5
		return p
	}
	id := c.s.originOf(c.r).id.String()
	p := newProblem(http.StatusGatewayTimeout, "outcome-unknown",
		"the node that holds partition %d was lost before it answered: the change may be made all the same. Ask for /v1/changes/%s, or repeat the request with the same Idempotency-Key", partition, id)
	p.ChangeID = id
	return p
}

// declined reports whether an answer says that another node is to be asked. A read can be repeated at any node, whatever
// keeps this one from answering it.
func (c *call) declined(peer Peer, resp *http.Response) bool {
	if declines(peer, resp.Header) {
		return true
	}
	read := c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	return read && resp.StatusCode == http.StatusServiceUnavailable
}

// declines reports whether a peer has done nothing: it says so, or it is not its API that has answered.
func declines(peer Peer, answer http.Header) bool {
	return answer.Get(declinedHeader) != "" || answer.Get(nodeHeader) != peer.ID
}

// ask sends the request to a peer. A zone file that can't be sent twice goes only to one that has said that it holds the zone.
func (c *call) ask(peer Peer) (*http.Response, error) {
	if c.body != nil && c.body.rest != nil {
		at := &url.URL{Path: strings.TrimSuffix(c.r.URL.Path, "/file"), RawPath: strings.TrimSuffix(c.r.URL.RawPath, "/file")}
		resp, err := c.send(peer, http.MethodHead, at, nil)
		if err != nil {
			return nil, fmt.Errorf("ask whether it holds the zone: %w", err)
		}
		resp.Body.Close()
		if c.declined(peer, resp) || resp.StatusCode == http.StatusServiceUnavailable {
			resp.Header.Set(declinedHeader, "true")
			return resp, nil
		}
	}
	return c.send(peer, c.r.Method, c.r.URL, c.body)
}

func (c *call) send(peer Peer, method string, at *url.URL, body *heldBody) (resp *http.Response, err error) {
	ctx, cancel := context.WithCancelCause(c.r.Context())
	guard := newWatch(c.patience(method), cancel)
	defer func() {
		if err != nil {
			guard.stop()
			cancel(err)
		}
	}()
	req, err := c.s.newPeerRequest(ctx, c.r, c.x.id, method, at)
	if err != nil {
		return nil, err
	}
	for name, values := range c.r.Header {
		if goesOn(name) {
			req.Header[name] = values
		}
	}
	var sent *sentBody
	if body != nil {
		sent = body.open(guard)
		req.Body, req.ContentLength = sent, body.length
		if body.rest == nil {
			req.GetBody = func() (io.ReadCloser, error) { return body.open(guard), nil }
		}
	}
	resp, err = c.s.opts.Peers.Transport(peer).RoundTrip(req)
	if err != nil {
		sent.wait(body)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("pass on to node %s: %w", peer.ID, err)
	}
	guard.pace(c.s.opts.Limits.StallTimeout)
	resp.Body = &watchedBody{ReadCloser: resp.Body, guard: guard, done: func() {
		guard.stop()
		cancel(nil)
		sent.wait(body)
	}}
	return resp, nil
}

// patience is how long a peer may take until its answer begins.
func (c *call) patience(method string) time.Duration {
	l := &c.s.opts.Limits
	waits := c.r.URL.Query().Has("wait") || c.r.Header.Get("Prefer") != ""
	switch {
	case method == http.MethodHead || method == http.MethodGet && !waits:
		return l.PeerWait
	case c.subject == ofFile:
		return l.LongWait
	}
	return l.answerTimeout()
}

// goesOn says whether a client's header is passed on: all but what is about its connection with this node, and who it is.
func goesOn(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Expect", "Content-Length", "X-Request-Id":
		return false
	}
	return !strings.HasPrefix(name, "Balefire-")
}

// newPeerRequest makes a request to a peer on behalf of another request.
func (s *Server) newPeerRequest(ctx context.Context, r *http.Request, id, method string, at *url.URL) (*http.Request, error) {
	// Who is reached is the transport's matter.
	to := &url.URL{Scheme: "https", Host: "peer.invalid", Path: at.Path, RawPath: at.RawPath, RawQuery: at.RawQuery}
	req, err := http.NewRequestWithContext(ctx, method, "https://peer.invalid/", http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make a request to a peer: %w", err)
	}
	req.URL = to
	s.originOf(r).writeTo(req.Header, s.opts.Node)
	req.Header.Set("X-Request-Id", id)
	// A connection that the peer has closed meanwhile is no reason to give up: all of these may be sent twice. The header has
	// no value, and is not sent.
	req.Header["X-Idempotency-Key"] = nil
	return req, nil
}

// relay gives the peer's answer to the client as it is. When it can't be given whole, the connection is cut.
func (c *call) relay(peer Peer, resp *http.Response) {
	defer resp.Body.Close()
	h := c.x.Header()
	for name, values := range resp.Header {
		if (goesOn(name) || name == nodeHeader) && name != "Date" && name != "X-Content-Type-Options" {
			h[name] = values
		}
	}
	if resp.ContentLength >= 0 {
		h.Set("Content-Length", fmt.Sprint(resp.ContentLength))
	}
	out := newPacedWriter(c.x, &c.s.opts.Limits)
	_ = out.ctl.SetWriteDeadline(out.deadline()) // not supported only by tests' writers
	c.x.WriteHeader(resp.StatusCode)
	if c.r.Method == http.MethodHead {
		return
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		c.s.log.Debug().Err(err).Str("request_id", c.x.id).Str("peer", peer.ID).Msg("an answer was not passed on whole")
		resp.Body.Close()
		panic(http.ErrAbortHandler)
	}
}

// heldBody is a client's body that is kept, in whole or at least its beginning, to be sent more than once.
type heldBody struct {
	head   []byte
	rest   *pacedBody // what comes after head, and can be sent only once; nil: nothing
	length int64      // in all; -1: not known

	begun  atomic.Bool // something was read of rest
	ended  atomic.Bool // rest was read to its end
	failed atomic.Pointer[error]
}

// hold reads the body of a request: all of it or, of a zone file, as much as a JSON body may have. nil: it has none.
func (s *Server) hold(x *exchange, r *http.Request, about subject) (*heldBody, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete {
		return nil, nil
	}
	l := &s.opts.Limits
	if about == ofFile {
		in := newPacedBody(x, r, l)
		head := make([]byte, 0, min(max(r.ContentLength, 64<<10), l.Body)+1)
		b := bytes.NewBuffer(head)
		n, err := io.Copy(b, io.LimitReader(in, l.Body))
		if err != nil {
			in.done(l)
			return nil, in.err
		}
		if n < l.Body {
			return &heldBody{head: b.Bytes(), length: n}, nil
		}
		return &heldBody{head: b.Bytes(), rest: in, length: r.ContentLength}, nil
	}
	content, err := io.ReadAll(http.MaxBytesReader(x, r.Body, l.Body))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, newProblem(http.StatusRequestTimeout, "bad-request", "the body came too slowly")
	}
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return nil, newProblem(http.StatusBadRequest, "bad-request", "the body ends in the middle: %v", err)
	}
	if err != nil {
		return nil, err
	}
	patient(x)
	return &heldBody{head: content, length: int64(len(content))}, nil
}

// failure is what went wrong with reading the client's body.
func (b *heldBody) failure() error {
	if err := b.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// open begins to send the body once more.
func (b *heldBody) open(guard *watch) *sentBody {
	return &sentBody{b: b, head: bytes.NewReader(b.head), guard: guard, closed: make(chan struct{})}
}

// sentBody is the body of one request to a peer.
type sentBody struct {
	b      *heldBody
	head   *bytes.Reader
	guard  *watch
	once   sync.Once
	closed chan struct{}
}

func (s *sentBody) Read(p []byte) (int, error) {
	s.guard.touch()
	if s.head.Len() > 0 || s.b.rest == nil {
		return s.head.Read(p)
	}
	s.b.begun.Store(true)
	n, err := s.b.rest.Read(p)
	switch {
	case err == io.EOF:
		s.b.ended.Store(true)
	case err != nil && !s.b.rest.left.Load():
		failure := s.b.rest.err
		s.b.failed.CompareAndSwap(nil, &failure)
	}
	return n, err
}

func (s *sentBody) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// wait waits until the transport has let go of a body whose rest it may be reading.
func (s *sentBody) wait(b *heldBody) {
	if s == nil || b.rest == nil {
		return
	}
	select {
	case <-s.closed:
		return
	default:
	}
	b.rest.leave()
	<-s.closed
}

// watch gives up a peer that lets too much time pass between two signs of life.
type watch struct {
	timer  *time.Timer
	period atomic.Int64
}

func newWatch(period time.Duration, cancel context.CancelCauseFunc) *watch {
	w := &watch{timer: time.AfterFunc(period, func() { cancel(errSlowPeer) })}
	w.period.Store(int64(period))
	return w
}

func (w *watch) touch() { w.timer.Reset(time.Duration(w.period.Load())) }

// pace sets what may pass from now on.
func (w *watch) pace(period time.Duration) {
	w.period.Store(int64(period))
	w.touch()
}

func (w *watch) stop() { w.timer.Stop() }

// watchedBody is an answer's body.
type watchedBody struct {
	io.ReadCloser
	guard *watch
	once  sync.Once
	done  func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.guard.touch()
	return b.ReadCloser.Read(p)
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.done)
	return err
}
