package admin

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Zone files may take as long as they need, but not stay behind a least rate for longer than a while, in either
// direction: whoever sends or reads more slowly is cut, and holds nothing any more.

// pace moves a deadline with the octets that went through.
type pace struct {
	began time.Time
	stall time.Duration
	rate  int64 // octets a second
	count int64
}

func newPace(l *Limits) pace { return pace{began: time.Now(), stall: l.StallTimeout, rate: l.MinRate} }

func (p *pace) deadline() time.Time {
	return p.began.Add(p.stall + time.Duration(p.count/p.rate)*time.Second)
}

// pacedBody is the body of an import. It remembers its error, as a zone-file reader would only see a file that ends.
type pacedBody struct {
	pace
	in  io.Reader
	ctl *http.ResponseController
	err error
	// left is set when nobody waits for the client any more.
	left atomic.Bool
}

func newPacedBody(w http.ResponseWriter, r *http.Request, l *Limits) *pacedBody {
	b := &pacedBody{pace: newPace(l), in: http.MaxBytesReader(w, r.Body, l.ImportBody), ctl: http.NewResponseController(w)}
	// An import takes as long as its own steps may; each of them has a limit.
	_ = b.ctl.SetWriteDeadline(time.Time{}) // not supported only by tests' writers
	return b
}

func (b *pacedBody) Read(p []byte) (int, error) {
	_ = b.ctl.SetReadDeadline(b.deadline())
	if b.left.Load() { // before or after: the earlier deadline is the last one set
		_ = b.ctl.SetReadDeadline(longAgo)
	}
	n, err := b.in.Read(p)
	b.count += int64(n)
	switch {
	case err == io.EOF:
		_ = b.ctl.SetReadDeadline(time.Time{}) // see patient
		return n, err
	case err == nil:
		return n, nil
	}
	b.err = err
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b.err = newProblem(http.StatusRequestTimeout, "bad-request", "the zone file came too slowly")
	}
	return n, err
}

func (b *pacedBody) failure() error { return b.err }

// longAgo is a deadline that ends what waits.
var longAgo = time.Unix(1, 0)

// leave ends a Read that waits for the client, and all that come; it may be called while one is under way.
func (b *pacedBody) leave() {
	b.left.Store(true)
	_ = b.ctl.SetReadDeadline(longAgo)
}

// done gives the answer a time limit again.
func (b *pacedBody) done(l *Limits) { _ = b.ctl.SetWriteDeadline(time.Now().Add(l.BodyTimeout)) }

// pacedWriter is the body of an export.
type pacedWriter struct {
	pace
	out io.Writer
	ctl *http.ResponseController
	err error
}

func newPacedWriter(w http.ResponseWriter, l *Limits) *pacedWriter {
	return &pacedWriter{pace: newPace(l), out: w, ctl: http.NewResponseController(w)}
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	_ = w.ctl.SetWriteDeadline(w.deadline())
	n, err := w.out.Write(p)
	w.count += int64(n)
	w.err = err
	return n, err
}
