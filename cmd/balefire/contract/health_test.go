package contract

import (
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// TestReadiness: 503 with reasons until the node can answer, 200 from then on. The log is a broker that is not there yet.
func TestReadiness(t *testing.T) {
	t.Parallel()
	broker := porttest.Free(t, "127.0.0.1")
	n := launchWith(t, balefiretest.How{Args: []string{"--brokers", broker, "--partitions", "3"}})
	if err := n.Await(time.Minute, "listening", func() bool {
		c, err := net.Dial("tcp", n.Admin)
		if err == nil {
			c.Close()
		}
		return err == nil
	}); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	type readiness struct {
		Status  string
		Reasons []string
	}
	got := api[readiness](n, 503, "GET", "/readyz", "", "Authorization: ")
	if got.Status != "not ready" || len(got.Reasons) == 0 {
		t.Errorf("not ready: %+v", got)
	}
	if res := n.call("GET", "/healthz", "", "Authorization: "); res.status != 200 {
		t.Errorf("alive, and not ready: /healthz is %d", res.status)
	}
	if res := n.call("PUT", "/v1/zones/example.com./rrsets/www/A", `{"ttl":1,"records":["192.0.2.1"]}`); res.status != 503 {
		t.Errorf("a write without a log: %d, want 503\n%s", res.status, res.body)
	}

	_, port, _ := net.SplitHostPort(broker)
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := kfake.NewCluster(kfake.Ports(number))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	if err := n.AwaitReady(time.Minute); err != nil {
		t.Fatalf("with the broker there: %v\n%s\n%s", err, n.call("GET", "/readyz", "").body, n.Log())
	}
	if got := api[readiness](n, 200, "GET", "/readyz", "", "Authorization: "); got.Status != "ready" {
		t.Errorf("ready: %+v", got)
	}
	n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
	n.cli("record", "set", "example.com.", "www", "A", "60", "192.0.2.1")
	if got := n.short("www.example.com", "A"); got != "192.0.2.1\n" {
		t.Errorf("www.example.com: %q", got)
	}

	// The log is gone again: no writes, but answers, and ready, also after a start without it.
	cluster.Close()
	if got := n.short("www.example.com", "A"); got != "192.0.2.1\n" {
		t.Errorf("without the log: %q", got)
	}
	if res := n.call("GET", "/readyz", ""); res.status != 200 {
		t.Errorf("losing the log made the node unready: %s", res.body)
	}
	n = n.again()
	if got := n.short("www.example.com", "A"); got != "192.0.2.1\n" {
		t.Errorf("started without the log: %q", got)
	}
}

// TestHealthMetricsAndDescription: what is open to all.
func TestHealthMetricsAndDescription(t *testing.T) {
	t.Parallel()
	n := start(t, "--sample", sampleZones)
	awaitSamples(n)
	health := api[struct{ Status, Version string }](n, 200, "GET", "/healthz", "", "Authorization: ")
	version := jsonOf[struct{ Version string }](n, "version")
	if health.Status != "ok" || health.Version != version.Version {
		t.Errorf("/healthz: %+v, the program's version is %q", health, version.Version)
	}

	for range 3 {
		n.dig("mail.example.com", "A")
	}
	metrics := n.call("GET", "/metrics", "", "Authorization: ")
	if kind := metrics.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") {
		t.Errorf("/metrics is %s", kind)
	}
	contains(t, "/metrics", metrics.body, "\nprocess_resident_memory_bytes ", "\ngo_goroutines ", "\nbalefire_")
	for _, line := range strings.Split(metrics.body, "\n") {
		if strings.Contains(line, "example.com") {
			t.Errorf("a metric names a zone: %s", line)
		}
	}

	description := n.call("GET", "/openapi.json", "", "Authorization: ")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(description.body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("OpenAPI %s, want 3.1", doc.OpenAPI)
	}
	for _, path := range []string{"/v1/zones", "/v1/zones/{zone}/rrsets/{owner}/{type}", "/v1/changes/{id}", "/v1/lookup", "/readyz"} {
		if doc.Paths[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
	// Nothing is answered with 404 or 405 that is described.
	for path, methods := range doc.Paths {
		for method := range methods {
			if !slices.Contains([]string{"get", "put", "post", "patch", "delete"}, method) {
				continue
			}
			at := strings.NewReplacer("{zone}", "example.com.", "{owner}", "www", "{type}", "A", "{id}", "0@0").Replace(path)
			if res := n.call(strings.ToUpper(method), at, ""); res.status == 405 {
				t.Errorf("%s %s is described, and %d\n%s", method, path, res.status, res.body)
			}
		}
	}
}
