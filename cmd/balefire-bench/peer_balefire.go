package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const token = "benchmark-token-16"

// program is the Balefire that is measured, as an absolute path.
var program = "bin/balefire"

// balefire is the server of this project.
type balefire struct{}

func (balefire) about() (string, []string) { return "Balefire", []string{program, "version"} }

// prepare imports the zones, so that the measured start finds them on disk.
func (b balefire) prepare(ctx context.Context, s *server, site site) error {
	if site.imported != "" {
		return os.Symlink(site.imported, s.path("data"))
	}
	if len(site.zones) == 0 {
		return nil // they are there
	}
	site.cpu = -1
	if err := b.start(ctx, s, site); err != nil {
		return err
	}
	defer s.stop()
	err := s.ready(ctx)
	if err != nil {
		return err
	}
	if err := importZones(ctx, s, site.zones); err != nil {
		return err
	}
	if site.updateKey != "" {
		if err := grantUpdates(ctx, s, site.updateKey); err != nil {
			return err
		}
	}
	if site.follower.IsValid() {
		settings := fmt.Sprintf(`{"allow_transfer":[{"networks":["127.0.0.1/32"]}],"notify":[{"address":"127.0.0.1","port":%d}]}`, site.follower.Port())
		for _, z := range site.zones {
			if err := newClient(s).call(ctx, "PATCH", "/v1/zones/"+z.apex, "application/json", strings.NewReader(settings), nil); err != nil {
				return err
			}
		}
	}
	s.peak, err = s.highest()
	return err
}

// grantUpdates makes the key known, and lets it update all zones.
func grantUpdates(ctx context.Context, s *server, key string) error {
	c := newClient(s)
	body := fmt.Appendf(nil, `{"name":%q,"algorithm":"hmac-sha256","secret":%q}`, key, updateSecret)
	if err := c.call(ctx, "POST", "/v1/tsig-keys", "application/json", bytes.NewReader(body), nil); err != nil {
		return err
	}
	body = fmt.Appendf(nil, `{"allow":["update"],"key":%q}`, key)
	return c.call(ctx, "PUT", "/v1/acls/bench", "application/json", bytes.NewReader(body), nil)
}

func (b balefire) start(_ context.Context, s *server, site site) error { return b.serve(s, site) }

// serve starts Balefire with flags beside those that a site asks for.
func (balefire) serve(s *server, site site, flags ...string) error {
	connections := strconv.Itoa(max(512, site.connections))
	env := []string{"BALEFIRE_TOKEN=" + token}
	if site.hot != "" {
		env = append(env, "BALEFIRE_STORE_HOT_ZONES="+site.hot)
	}
	if site.pace != "" {
		env = append(env, "GOGC="+site.pace)
	}
	args := []string{
		program, "serve", "--data-dir", s.path("data"),
		"--dns-listen", s.addr.String(), "--admin-listen", s.control.String(), "--log-level", "error", "--dns-rrl-rate", "0",
		"--dns-tcp-connections", strconv.Itoa(max(4096, site.connections)), "--dns-tcp-per-network", connections,
		"--dns-tcp-idle-timeout", "1h",
	}
	if site.follower.IsValid() {
		args = append(args, "--dns-allow-peers", "127.0.0.0/8")
	}
	if site.cert != "" {
		args = append(args, "--dns-tls-listen", s.tls.String(), "--dns-tls-cert", site.cert, "--dns-tls-key", site.key)
	}
	return s.launch(site.cpu, env, append(args, flags...)...)
}

func (balefire) addZone(ctx context.Context, s *server, z zone) error {
	f, err := os.Open(z.file)
	if err != nil {
		return err
	}
	defer f.Close()
	return newClient(s).call(ctx, "PUT", "/v1/zones/"+z.apex+"/file", "text/dns", f, nil)
}

// importZones brings zones into a running server by the command that its users have.
func importZones(ctx context.Context, s *server, zones []zone) error {
	// All of them may be more than a command line holds; a directory is one argument.
	dir := s.path("import")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, z := range zones {
		if err := linkZone(z, dir+"/"+z.apex+"zone"); err != nil {
			return err
		}
	}
	defer os.RemoveAll(dir)
	return output(ctx, "env", "BALEFIRE_TOKEN="+token, program, "zone", "import", dir, "--server", "http://"+s.control.String(), "--timeout", "4h")
}

// ready waits until Balefire says that it is.
func (s *server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	client := http.Client{Timeout: time.Second}
	for ctx.Err() == nil {
		res, err := client.Get("http://" + s.control.String() + "/readyz")
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("%s has not become ready: %w\n%s", s.name, ctx.Err(), s.said())
}

// hot waits until Balefire has so many zones in memory.
func (s *server) hot(ctx context.Context, zones int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		got, err := s.metrics("balefire_store_hot_zones")
		if err != nil {
			return err
		}
		if int(got["balefire_store_hot_zones"]) >= zones {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s has not brought %d zones into memory: %w\n%s", s.name, zones, ctx.Err(), s.said())
}

// metrics reads those of Balefire's metrics whose names begin with one of these; a name has its labels.
func (s *server) metrics(names ...string) (map[string]float64, error) {
	res, err := http.Get("http://" + s.control.String() + "/metrics")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	return metricsIn(string(text), names), nil
}

// metricsIn reads metrics from Prometheus' text.
func metricsIn(text string, names []string) map[string]float64 {
	got := map[string]float64{}
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(line, n) }) {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64); err == nil {
			got[line[:at]] = v
		}
	}
	return got
}

// client calls Balefire's API.
type client struct {
	server string
	http   *http.Client
}

func newClient(s *server) *client {
	return &client{s.control.String(), &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}, Timeout: 30 * time.Minute}}
}

// call does one request, and decodes the answer's JSON into result, unless that is nil.
func (c *client) call(ctx context.Context, method, path, contentType string, body io.Reader, result any) error {
	return callJSON(ctx, c.http, method, "http://"+c.server+path, http.Header{
		"Authorization": {"Bearer " + token}, "Content-Type": {contentType},
	}, body, result)
}

// put sets the address of host i of a zone; value makes it differ from time to time.
func (c *client) put(ctx context.Context, apex string, i, value int) error {
	body := fmt.Appendf(nil, `{"ttl":300,"records":["%s"]}`, changedAddress(i, value))
	return c.call(ctx, "PUT", "/v1/zones/"+apex+"/rrsets/"+host(i)+"/A", "application/json", bytes.NewReader(body), nil)
}

func changedAddress(i, value int) string {
	return fmt.Sprintf("203.%d.%d.%d", value&127, i>>8&255, i&255)
}

// statusError is an API's answer that it has not done what it was asked for.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.text) }

// callJSON does one request of an API.
func callJSON(ctx context.Context, c *http.Client, method, url string, header http.Header, body io.Reader, result any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header = header
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %w", method, url, &statusError{res.StatusCode, string(text)})
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(text, result)
}
