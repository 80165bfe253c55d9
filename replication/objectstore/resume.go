package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// resuming reads an object by as many requests as it takes: when a connection ends in the middle, or is silent for too
// long, the rest of the same object is asked for. It gives up after some attempts in a row have brought nothing.
type resuming struct {
	ctx  context.Context
	open func(ctx context.Context, from int64) (io.ReadCloser, error) // the octets from there on, of that very object
	size int64
	wait time.Duration // how long it may be silent

	body   io.ReadCloser
	cancel context.CancelFunc // of body's request
	silent *time.Timer        // calls cancel
	at     int64
	failed int // attempts in a row that brought nothing
	err    error
}

// newResuming reads on from body, which was opened with a context that cancel ends.
func newResuming(ctx context.Context, body io.ReadCloser, cancel context.CancelFunc, size int64, open func(context.Context, int64) (io.ReadCloser, error)) *resuming {
	r := &resuming{ctx: ctx, open: open, size: size, wait: quiet}
	r.use(body, cancel)
	return r
}

func (r *resuming) use(body io.ReadCloser, cancel context.CancelFunc) {
	r.body, r.cancel = body, cancel
	r.silent = time.AfterFunc(r.wait, cancel)
	r.silent.Stop()
}

// Read implements io.Reader. It ends after size octets, and no earlier without an error.
func (r *resuming) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.at == r.size {
			return 0, io.EOF
		}
		if r.body == nil {
			r.reopen()
			continue
		}
		r.silent.Reset(r.wait)
		n, err := r.body.Read(p[:min(int64(len(p)), r.size-r.at)])
		r.silent.Stop()
		r.at += int64(n)
		if err != nil && r.at < r.size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			r.drop(err, n > 0)
		}
		if n > 0 {
			r.failed = 0
			return n, nil
		}
	}
	return 0, r.err
}

// drop gives a connection up, and, when too many have brought nothing, all.
func (r *resuming) drop(err error, progress bool) {
	r.release()
	if r.failed++; r.failed >= attempts && !progress || r.ctx.Err() != nil {
		r.err = fmt.Errorf("after %d of %d octets: %w", r.at, r.size, errors.Join(r.ctx.Err(), err))
	}
}

func (r *resuming) reopen() {
	ctx, cancel := context.WithCancel(r.ctx)
	body, err := r.open(ctx, r.at)
	if err != nil {
		cancel()
		// It has been tried some times already, and an object that is another one by now will not come back.
		r.err = fmt.Errorf("after %d of %d octets: %w", r.at, r.size, err)
		return
	}
	r.use(body, cancel)
}

func (r *resuming) release() {
	if r.body == nil {
		return
	}
	r.silent.Stop()
	r.cancel()
	r.body.Close()
	r.body = nil
}

// Close implements io.Closer.
func (r *resuming) Close() error {
	r.release()
	if r.err == nil {
		r.err = errors.New("read after close")
	}
	return nil
}
