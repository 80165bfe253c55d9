package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/cmd/balefire/balefiretest"
)

// binary is the server, built once for all tests, with its named crash points compiled in.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "balefire-crashtest")
	if err != nil {
		panic(err)
	}
	if binary, err = balefiretest.Build(dir, "crashpoints"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is one running server on a data directory.
type process struct {
	*balefiretest.Server
	t *testing.T
}

// start starts the server on dataDir and waits until it is ready.
func start(t *testing.T, dataDir string, env ...string) *process {
	t.Helper()
	return &process{balefiretest.Start(t, how(dataDir, env)), t}
}

// launch starts the server without waiting.
func launch(t *testing.T, dataDir string, env ...string) *process {
	t.Helper()
	return &process{balefiretest.Launch(t, how(dataDir, env)), t}
}

func how(dataDir string, env []string) balefiretest.How {
	return balefiretest.How{Binary: binary, Dir: dataDir, Env: env}
}

// answer is what the API says of a change.
type answer struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Serial uint32 `json:"serial"`
}

var (
	// errRefused means that the server certainly did not take the change.
	errRefused = errors.New("refused")
	// errFailed means that the server is there and could not say what became of the change, as when the disk is too slow for it.
	errFailed = errors.New("failed")
)

// send does one request. An error that is not errRefused leaves open what became of it.
func (p *process) send(ctx context.Context, method, path, contentType, body string) (answer, error) {
	var a answer
	req, err := http.NewRequestWithContext(ctx, method, "http://"+p.Admin+path, strings.NewReader(body))
	if err != nil {
		return a, fmt.Errorf("%w: %w", errRefused, err)
	}
	req.Header.Set("Authorization", "Bearer "+balefiretest.Token)
	req.Header.Set("Content-Type", contentType)
	res, err := p.HTTP().Do(req)
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
		return a, fmt.Errorf("%w: %s: %s", errFailed, res.Status, text)
	case res.StatusCode >= 300:
		return a, fmt.Errorf("%w: %s %s: %s: %s", errRefused, method, path, res.Status, text)
	}
	return a, json.Unmarshal(text, &a)
}

// createZone makes an empty zone.
func (p *process) createZone(apex string) {
	p.t.Helper()
	zone := fmt.Sprintf("$ORIGIN %s\n$TTL 60\n@ SOA ns1 hostmaster 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n", apex)
	_, err := p.send(p.t.Context(), "PUT", "/v1/zones/"+apex+"/file", "text/dns", zone)
	for tries := 0; tries < 5 && errors.Is(err, errFailed); tries++ {
		_, err = p.send(p.t.Context(), "PUT", "/v1/zones/"+apex+"/file", "text/dns", zone)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// text asks DNS for the TXT of a name; "" when there is none.
func (p *process) text(name string) string {
	p.t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
	client := dns.Client{Timeout: 10 * time.Second}
	r, _, err := client.Exchange(q, p.DNS)
	for tries := 0; tries < 4 && errors.Is(err, os.ErrDeadlineExceeded); tries++ {
		r, _, err = client.Exchange(q, p.DNS)
	}
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
