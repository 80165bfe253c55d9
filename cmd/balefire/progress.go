package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
)

// progress draws a bar on a terminal while files are sent; elsewhere, and when nil, it does nothing.
type progress struct {
	w             io.Writer
	octets, files int64 // in all
	began         time.Time
	read, sent    atomic.Int64
	stop          chan struct{}
	stopped       sync.WaitGroup
}

// progressEvery is how often the bar is drawn.
const progressEvery = 200 * time.Millisecond

func newProgress(w io.Writer, files []string) *progress {
	if f, ok := w.(*os.File); !ok || !isatty.IsTerminal(f.Fd()) {
		return nil
	}
	p := &progress{w: w, files: int64(len(files)), began: time.Now(), stop: make(chan struct{})}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			p.octets += info.Size()
		}
	}
	p.stopped.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			p.draw()
			select {
			case <-tick.C:
			case <-p.stop:
				return
			}
		}
	})
	return p
}

const barWidth = 30

func (p *progress) draw() {
	read, part := p.read.Load(), 0.0
	if p.octets > 0 {
		part = min(float64(read)/float64(p.octets), 1)
	}
	full := int(part * barWidth)
	rate := float64(read) / time.Since(p.began).Seconds() / (1 << 20)
	fmt.Fprintf(p.w, "\r[%s%s] %d of %d zones, %.1f MiB/s ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), p.sent.Load(), p.files, rate)
}

// count passes a file through, and counts what is read of it.
func (p *progress) count(f io.Reader) io.Reader {
	if p == nil {
		return f
	}
	return countingReader{f, &p.read}
}

type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.n.Add(int64(n))
	return n, err
}

// passed counts what was read of a file at once.
func (p *progress) passed(octets int64) {
	if p != nil {
		p.read.Add(octets)
	}
}

func (p *progress) fileDone() {
	if p != nil {
		p.sent.Add(1)
	}
}

// done takes the bar away.
func (p *progress) done() {
	if p == nil {
		return
	}
	close(p.stop)
	p.stopped.Wait()
	fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", barWidth+50))
}
