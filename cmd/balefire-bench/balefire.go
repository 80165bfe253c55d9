package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const token = "benchmark-token-16"

// balefire is the server that is measured, with its admin API.
type balefire struct {
	server
	binary string
	admin  string
	client *http.Client
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

func newBalefire(binary, dir string) (*balefire, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	adminPort, err := freePort()
	if err != nil {
		return nil, err
	}
	b := &balefire{
		server: server{name: "Balefire", version: versionOf(binary, "version"), addr: loopback(port), dir: filepath.Join(dir, "balefire")},
		binary: binary,
		admin:  fmt.Sprintf("127.0.0.1:%d", adminPort),
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}, Timeout: 30 * time.Minute},
	}
	return b, os.MkdirAll(b.dir, 0o755)
}

// start starts the server on what its directory holds, and waits until it is ready.
func (b *balefire) start(ctx context.Context, cpu int) error {
	err := b.launch(cpu, []string{"BALEFIRE_TOKEN=" + token},
		b.binary, "serve", "--data-dir", filepath.Join(b.dir, "data"), "--dns-listen", b.addr.String(), "--admin-listen", b.admin,
		"--dns-rrl-rate", "0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		res, err := b.client.Get("http://" + b.admin + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	out, _ := os.ReadFile(filepath.Join(b.dir, "output"))
	return fmt.Errorf("balefire did not become ready: %w\n%s", ctx.Err(), out)
}

// call does one request, and decodes the answer's JSON into result, unless that is nil.
func (b *balefire) call(ctx context.Context, method, path, contentType string, body io.Reader, result any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+b.admin+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, text)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(text, result)
}

// load imports a zone file by the ordinary way, and returns how long it took and the highest memory seen.
func (b *balefire) load(ctx context.Context, origin, file string) (took time.Duration, peak int64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	watch, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watch.Err() == nil {
			if u, err := b.usage(); err == nil {
				peak = max(peak, u.rss)
			}
			select {
			case <-watch.Done():
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	begin := time.Now()
	err = b.call(ctx, "PUT", "/v1/zones/"+origin+"/file", "text/dns", f, nil)
	took = time.Since(begin)
	cancel()
	watcher.Wait()
	return took, peak, err
}

// put sets one A record of host i; third makes the value differ from time to time.
func (b *balefire) put(ctx context.Context, i, third int) error {
	body := fmt.Appendf(nil, `{"ttl":300,"records":["203.%d.%d.%d"]}`, third&127, i>>8&255, i&255)
	return b.call(ctx, "PUT", "/v1/zones/"+apex+"/rrsets/"+host(i)+"/A", "application/json", bytes.NewReader(body), nil)
}

// changes has clients change single records for a while, and returns how many were applied a second.
func (b *balefire) changes(ctx context.Context, clients, names int, length time.Duration) (float64, error) {
	var done atomic.Int64
	var failed atomic.Pointer[error]
	begin := time.Now()
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for k := 0; time.Since(begin) < length; k++ {
				if err := b.put(ctx, (c*7919+k)%names, k); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(begin).Seconds(), nil
}

// visibility changes a record again and again, and returns, for each, how long after the API's answer
// DNS gave the new value.
func (b *balefire) visibility(ctx context.Context, rounds int) ([]time.Duration, error) {
	conn, err := net.Dial("udp4", b.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := &dns.Conn{Conn: conn}
	var all []time.Duration
	for k := range rounds {
		if err := b.put(ctx, 1, k+1); err != nil {
			return nil, err
		}
		want := fmt.Sprintf("203.%d.0.1", (k+1)&127)
		begin := time.Now()
		for {
			q := new(dns.Msg).SetQuestion(host(1)+"."+apex, dns.TypeA)
			if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
				return nil, err
			}
			if err := c.WriteMsg(q); err != nil {
				return nil, err
			}
			r, err := c.ReadMsg()
			if err != nil {
				return nil, err
			}
			if len(r.Answer) == 1 && r.Answer[0].(*dns.A).A.String() == want {
				break
			}
			if time.Since(begin) > 5*time.Second {
				return nil, errors.New("a change that the API said was applied is not in DNS after 5 s")
			}
		}
		all = append(all, time.Since(begin))
	}
	return all, nil
}
