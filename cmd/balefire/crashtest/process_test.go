package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const token = "crash-test-token-16"

// binary is the server, built once for all tests, with its named crash points compiled in.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "balefire-crashtest")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "balefire")
	build := exec.Command("go", "build", "-tags", "crashpoints", "-o", binary, "balefire/cmd/balefire")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the server: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is one running server on a data directory.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	out   *bytes.Buffer
	done  chan struct{} // closed when it has ended
	dns   string
	admin string
	http  *http.Client
}

// start starts the server on dataDir and waits until it is ready.
func start(t *testing.T, dataDir string, env ...string) *process {
	t.Helper()
	p := launch(t, dataDir, env...)
	if err := p.awaitReady(30 * time.Second); err != nil {
		p.kill()
		t.Fatalf("%v\n%s", err, p.out)
	}
	return p
}

// launch starts the server without waiting.
func launch(t *testing.T, dataDir string, env ...string) *process {
	t.Helper()
	p := &process{
		t: t, out: new(bytes.Buffer), done: make(chan struct{}),
		dns: freeAddr(t), admin: freeAddr(t),
		http: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
	p.cmd = exec.Command(binary, "serve", "--data-dir", dataDir, "--dns-listen", p.dns, "--admin-listen", p.admin)
	p.cmd.Env = append(append(os.Environ(), "BALEFIRE_TOKEN="+token), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // it is killed: its status says nothing
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) awaitReady(limit time.Duration) error {
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		res, err := p.http.Get("http://" + p.admin + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.done:
			return errors.New("the server ended before it was ready")
		case <-deadline:
			return fmt.Errorf("the server is not ready after %s", limit)
		}
	}
}

// kill ends the process as kill -9 does, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
	p.http.CloseIdleConnections()
}

// freeAddr returns an address of 127.0.0.1 whose port was free for TCP and UDP.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		u, err := net.ListenPacket("udp4", addr)
		l.Close()
		if err == nil {
			u.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// answer is what the API says of a change.
type answer struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Serial uint32 `json:"serial"`
}

// errRefused means that the server certainly did not take the change.
var errRefused = errors.New("refused")

// send does one request. An error that is not errRefused leaves open what became of it.
func (p *process) send(ctx context.Context, method, path, contentType, body string) (answer, error) {
	var a answer
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.admin+path, strings.NewReader(body))
	if err != nil {
		return a, fmt.Errorf("%w: %w", errRefused, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", contentType)
	res, err := p.http.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return a, err
	}
	switch {
	case res.StatusCode >= 500:
		return a, fmt.Errorf("%s: %s", res.Status, text)
	case res.StatusCode >= 300:
		return a, fmt.Errorf("%w: %s %s: %s: %s", errRefused, method, path, res.Status, text)
	}
	return a, json.Unmarshal(text, &a)
}

// createZone makes an empty zone.
func (p *process) createZone(apex string) {
	p.t.Helper()
	zone := fmt.Sprintf("$ORIGIN %s\n$TTL 60\n@ SOA ns1 hostmaster 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n", apex)
	if _, err := p.send(p.t.Context(), "PUT", "/v1/zones/"+apex+"/file", "text/dns", zone); err != nil {
		p.t.Fatal(err)
	}
}

// text asks DNS for the TXT of a name; "" when there is none.
func (p *process) text(name string) string {
	p.t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
	r, err := dns.Exchange(q, p.dns)
	if err != nil {
		p.t.Fatalf("%s: %v", name, err)
	}
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		p.t.Fatalf("%s: %s", name, dns.RcodeToString[r.Rcode])
	}
	for _, rr := range r.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			return txt.Txt[0]
		}
	}
	return ""
}
