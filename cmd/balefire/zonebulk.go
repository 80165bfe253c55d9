package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"balefire/zones/zonefile"
)

// Small zones are sent many to a request, several requests at once: by itself each would wait for the log's sync, and for
// that of its partition.
const (
	bulkZones    = 256       // zones of a request, at most
	bulkOctets   = 768 << 10 // of zone files in a request, at most; the server takes 2 MiB of JSON, where an octet may take two
	bulkZoneMost = 32 << 10  // octets of a zone, in its file and as it is sent; larger ones go by themselves
	bulkRequests = 4         // at once: as many as the server takes
)

// smallZone is a zone that was read, checked, and made ready to be sent with others.
type smallZone struct {
	index  int // of its file
	source zoneSource
	size   int // octets of its file
	text   []byte
}

// bulk sends small zones. Its methods may be called by several goroutines at once, finish last.
type bulk struct {
	ctx     context.Context
	c       *client
	how     importOptions
	done    func(index int, got imported) // called once for each zone that was added, by any goroutine
	off     atomic.Bool                   // the server has no such request
	batches chan []*smallZone
	senders sync.WaitGroup

	mu     sync.Mutex
	batch  []*smallZone
	octets int
}

func startBulk(ctx context.Context, c *client, how importOptions, done func(int, imported)) *bulk {
	b := &bulk{ctx: ctx, c: c, how: how, done: done, batches: make(chan []*smallZone)}
	b.off.Store(how.onlyNew)
	for range bulkRequests {
		b.senders.Go(func() {
			for batch := range b.batches {
				b.send(batch)
			}
		})
	}
	return b
}

// prepare reads a zone file for a bulk import; nil when it is not for one. What is wrong with it is left to importFile to say.
func (b *bulk) prepare(index int, file string) *smallZone {
	if b.off.Load() || file == "-" || b.ctx.Err() != nil {
		return nil
	}
	content, ok := readSmall(file)
	if !ok {
		return nil
	}
	z := &smallZone{index: index, size: len(content), source: zoneSource{file: file, shown: file, how: b.how}}
	opts, err := z.source.options()
	if err != nil {
		return nil
	}
	z.text = make([]byte, 0, len(content)+len(content)/2)
	err = z.source.scanRecords(zonefile.NewReader(bytes.NewReader(content), opts), func(rec zonefile.Record) {
		if len(z.text) <= bulkZoneMost {
			z.text = appendRecord(z.text, rec)
		}
	})
	if err != nil || len(z.text) > bulkZoneMost {
		return nil
	}
	return z
}

// readSmall returns the content of a file that is small.
func readSmall(file string) ([]byte, bool) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	content := make([]byte, 0, 4<<10)
	for {
		n, err := f.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		switch {
		case errors.Is(err, io.EOF):
			return content, true
		case err != nil || len(content) > bulkZoneMost:
			return nil, false
		case len(content) == cap(content):
			content = append(content, 0)[:len(content)]
		}
	}
}

// add takes a zone, which is sent when there are enough, or at the end. It waits while too many are under way.
func (b *bulk) add(z *smallZone) {
	b.mu.Lock()
	var full []*smallZone
	if len(b.batch) == bulkZones || b.octets+len(z.text) > bulkOctets {
		full, b.batch, b.octets = b.batch, nil, 0
	}
	b.batch = append(b.batch, z)
	b.octets += len(z.text)
	b.mu.Unlock()
	if len(full) > 0 {
		b.batches <- full
	}
}

// finish sends what is left, and returns when all is done.
func (b *bulk) finish() {
	if len(b.batch) > 0 {
		b.batches <- b.batch
	}
	close(b.batches)
	b.senders.Wait()
}

// bulkAnswer is what the server says of many zones, in their order.
type bulkAnswer struct {
	Results []struct {
		Import  *importAnswer `json:"import"`
		Problem *problem      `json:"problem"`
	} `json:"results"`
}

func (b *bulk) send(batch []*smallZone) {
	var answer bulkAnswer
	err := b.ctx.Err()
	if err == nil && !b.off.Load() {
		err = b.c.call(b.ctx, request{
			method: http.MethodPost, path: []string{"v1", "imports"}, query: b.c.waiting(b.how.query()),
			body: bytes.NewReader(bulkBody(batch)), contentType: "application/json",
		}, &answer)
	}
	var p *problem
	if errors.As(err, &p) && (p.Status == http.StatusNotFound || p.Status == http.StatusMethodNotAllowed) {
		b.off.Store(true) // an older server
		err = nil
	}
	if err == nil && !b.off.Load() && len(answer.Results) != len(batch) {
		err = fmt.Errorf("%s: %d results for %d zones", b.c.base, len(answer.Results), len(batch))
	}
	for k, z := range batch {
		got := imported{
			File: z.source.shown, Result: "failed", Zone: z.source.apex.String(), Records: z.source.records, Warnings: z.source.warnings,
		}
		switch {
		case err != nil:
			got = z.source.failed(got, err)
		case b.off.Load():
			got = sendFile(b.ctx, b.c, &z.source, got, nil)
		case answer.Results[k].Problem != nil:
			got = z.source.failed(got, answer.Results[k].Problem)
		case answer.Results[k].Import == nil:
			got = z.source.failed(got, fmt.Errorf("%s: a result without content", b.c.base))
		default:
			got = z.source.settled(b.ctx, b.c, got, *answer.Results[k].Import)
		}
		b.done(z.index, got)
	}
}

// bulkBody is the request's body. Zone files are sent as JSON texts.
func bulkBody(batch []*smallZone) []byte {
	type item struct {
		Name string `json:"name"`
		File string `json:"file"`
	}
	body := struct {
		Zones []item `json:"zones"`
	}{make([]item, len(batch))}
	for k, z := range batch {
		body.Zones[k] = item{z.source.apex.String(), string(z.text)}
	}
	var encoded bytes.Buffer
	enc := json.NewEncoder(&encoded)
	enc.SetEscapeHTML(false) // six octets for one
	_ = enc.Encode(body)     // texts only: it can't fail
	return encoded.Bytes()
}
