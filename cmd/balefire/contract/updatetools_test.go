//go:build tools

package contract

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/porttest"
)

// background runs a program until the test ends, and shows what it said if that failed.
func background(t *testing.T, env []string, argv ...string) *balefiretest.Output {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		argv[0] = "/usr/sbin/" + argv[0]
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	said := new(balefiretest.Output)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (`make test-real` installs it)", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if t.Failed() {
			t.Logf("%s said: %.20000s", argv[0], said)
		}
	})
	return said
}

// certified returns the names of the first certificate in PEM, sorted.
func certified(t *testing.T, text []byte) []string {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate: %q", text)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(slices.Values(cert.DNSNames))
}

// TestToolsForCertificates: lego's library and certbot get certificates of an ACME server that asks Balefire whether they have answered its challenges; with keys that
// may do no more than that.
func TestToolsForCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../../../testdata/acme", "-o", dir, ".", "github.com/letsencrypt/pebble/v2/cmd/pebble")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	n := start(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1")

	cert, key := issue(t, dir, "localhost")
	addr := porttest.Free(t, "127.0.0.1")
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": addr, "certificate": cert, "privateKey": key, "keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, dir, "pebble.json", string(config))
	// It would wait as long as a slow network, and refuse what is right now and then, to try its clients.
	background(t, []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0"}, filepath.Join(dir, "pebble"), "-config", file, "-dnsserver", n.DNS)
	if err := n.Await(time.Minute, "beside a certificate authority", func() bool {
		res, err := http.Get("http://" + addr + "/dir") // it answers that it speaks TLS
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	directory := "https://localhost:" + port + "/dir"

	// made returns what somebody did to the zone's challenges: how often there was more of them, and less.
	made := func(author string) (more, less int) {
		t.Helper()
		for _, e := range jsonOf[[]struct {
			Author  string
			Changes []struct {
				Owner, Type   string
				Before, After *struct{ Records []string }
			}
		}](n, "zone", "history", "example.com.") {
			for _, c := range e.Changes {
				switch {
				case c.Type == "SOA" || e.Author != author:
				case !strings.HasPrefix(c.Owner, "_acme-challenge.") || c.Type != "TXT":
					t.Errorf("%s changed %s %s", author, c.Owner, c.Type)
				case c.Before == nil || c.After != nil && len(c.After.Records) > len(c.Before.Records):
					more++
				default:
					less++
				}
			}
		}
		return more, less
	}
	check := func(author string, certificate []byte, changes int, want ...string) {
		t.Helper()
		if got := certified(t, certificate); !slices.Equal(got, want) {
			t.Errorf("a certificate for %q, want %q", got, want)
		}
		if more, less := made(author); more != changes || less != changes {
			t.Errorf("%s has added %d challenges, and removed %d, want %d", author, more, less, changes)
		}
		for _, name := range []string{"", "www."} {
			if got := n.short("_acme-challenge."+name+"example.com", "TXT"); got != "" {
				t.Errorf("it was left behind: %s", got)
			}
		}
	}

	t.Run("lego", func(t *testing.T) {
		key := jsonOf[tsigKey](n, "tsig", "create", "lego.", "--algorithm", "hmac-sha512")
		n.cli("zone", "set", "example.com.", "--allow-update", "key:lego", "--update-names", "_acme-challenge,_acme-challenge.www", "--update-types", "TXT")
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "obtain"), directory, n.DNS, "www.example.com", "*.example.com")
		cmd.Env = append(os.Environ(), "LEGO_CA_CERTIFICATES="+cert, "KEY="+key.Name, "ALGORITHM="+key.Algorithm+".", "SECRET="+key.Secret)
		var said bytes.Buffer
		cmd.Stderr = &said
		got, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, said.String())
		}
		check("lego.", got, 2, "*.example.com", "www.example.com")
	})

	t.Run("certbot", func(t *testing.T) {
		key := jsonOf[tsigKey](n, "tsig", "create", "certbot.")
		n.cli("acl", "set", "certbot", "--allow", "update", "--key", "certbot.", "--zone", "example.com.", "--name", "+_acme-challenge.example.com.", "--type", "TXT")
		host, port, err := net.SplitHostPort(n.DNS)
		if err != nil {
			t.Fatal(err)
		}
		credentials := write(t, dir, "rfc2136.ini", fmt.Sprintf("dns_rfc2136_server = %s\ndns_rfc2136_port = %s\ndns_rfc2136_name = %s\ndns_rfc2136_secret = %s\ndns_rfc2136_algorithm = HMAC-SHA256\n",
			host, port, key.Name, key.Secret))
		if err := os.Chmod(credentials, 0o600); err != nil {
			t.Fatal(err)
		}
		where := filepath.Join(dir, "certbot")
		// Both names are challenged at one owner name, at once.
		cmd := exec.CommandContext(t.Context(), "certbot", "certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email", "--server", directory,
			"--config-dir", where, "--work-dir", where, "--logs-dir", where, "--dns-rfc2136", "--dns-rfc2136-credentials", credentials,
			"--dns-rfc2136-propagation-seconds", "0", "--key-type", "ecdsa", "-d", "example.com", "-d", "*.example.com")
		cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+cert)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got, err := os.ReadFile(filepath.Join(where, "live", "example.com", "fullchain.pem"))
		if err != nil {
			t.Fatal(err)
		}
		check("certbot.", got, 2, "*.example.com", "example.com")
	})
}

// TestToolsForLeases: Kea's DHCP-DDNS adds the addresses of leases, replaces those of the same client, leaves those of others, and removes them (RFC 4703).
func TestToolsForLeases(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1")
	n.cli("zone", "create", "2.0.192.in-addr.arpa.", "--ns", "ns1.example.com.")
	n.cli("record", "set", "example.com.", "static", "A", "300", "192.0.2.200")
	key := jsonOf[tsigKey](n, "tsig", "create", "kea.")
	n.cli("zone", "set", "example.com.", "--allow-update", "key:kea", "--update-names", "example.com.", "--update-types", "A,AAAA,DHCID")
	n.cli("acl", "set", "kea", "--allow", "update", "--key", "kea.", "--zone", "2.0.192.in-addr.arpa.", "--name", "*.2.0.192.in-addr.arpa.", "--type", "PTR,DHCID")

	host, port, err := net.SplitHostPort(n.DNS)
	if err != nil {
		t.Fatal(err)
	}
	addr := porttest.Free(t, "127.0.0.1")
	_, d2Port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	domains := func(name string) string {
		return fmt.Sprintf(`{"ddns-domains": [{"name": %q, "key-name": "kea.", "dns-servers": [{"ip-address": %q, "port": %s}]}]}`, name, host, port)
	}
	file := write(t, dir, "kea.json", fmt.Sprintf(`{"DhcpDdns": {
		"ip-address": "127.0.0.1", "port": %s, "dns-server-timeout": 20000, "ncr-protocol": "UDP", "ncr-format": "JSON",
		"tsig-keys": [{"name": "kea.", "algorithm": "HMAC-SHA256", "secret": %q}],
		"forward-ddns": %s, "reverse-ddns": %s,
		"loggers": [{"name": "kea-dhcp-ddns", "severity": "INFO", "output_options": [{"output": "stdout"}]}]}}`,
		d2Port, key.Secret, domains("example.com."), domains("2.0.192.in-addr.arpa.")))
	kea := background(t, []string{"KEA_PIDFILE_DIR=" + dir, "KEA_LOCKFILE_DIR=none"}, "kea-dhcp-ddns", "-c", file)
	wait := func(what string, holds func() bool) {
		t.Helper()
		if err := n.Await(2*time.Minute, what, holds); err != nil {
			t.Fatalf("%v\n%s", err, kea)
		}
	}
	says := func(text string, times int) {
		t.Helper()
		wait(fmt.Sprintf("a server of Kea's, that says %s", text), func() bool { return strings.Count(kea.String(), text) >= times })
	}
	says("DHCP_DDNS_STARTED", 1)

	server, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	// request says that a client has got, or given back, a lease, as Kea's DHCP server does.
	const add, remove = 0, 1
	request := func(change int, name, address string, client byte) {
		t.Helper()
		text, err := json.Marshal(map[string]any{
			"change-type": change, "forward-change": true, "reverse-change": true, "fqdn": name, "ip-address": address,
			"dhcid": fmt.Sprintf("000101%064x", client), "lease-expires-on": time.Now().Add(time.Hour).UTC().Format("20060102150405"),
			"lease-length": 3600, "use-conflict-resolution": true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.Write(append([]byte{byte(len(text) >> 8), byte(len(text))}, text...)); err != nil {
			t.Fatal(err)
		}
	}

	request(add, "host.example.com.", "192.0.2.11", 1)
	says("DHCP_DDNS_ADD_SUCCEEDED", 1)
	if got := n.addresses("host.example.com"); got != "192.0.2.11" {
		t.Errorf("a new lease: %q", got)
	}
	if got := n.short("11.2.0.192.in-addr.arpa", "PTR"); got != "host.example.com.\n" {
		t.Errorf("its address: %q", got)
	}
	request(add, "host.example.com.", "192.0.2.12", 1)
	says("DHCP_DDNS_ADD_SUCCEEDED", 2)
	if got := n.addresses("host.example.com"); got != "192.0.2.12" {
		t.Errorf("another lease of the same client: %q", got)
	}
	request(add, "host.example.com.", "192.0.2.13", 2)
	says("DHCP_DDNS_ADD_FAILED", 1)
	request(add, "static.example.com.", "192.0.2.14", 2)
	says("DHCP_DDNS_ADD_FAILED", 2)
	if got := n.addresses("host.example.com") + " " + n.addresses("static.example.com"); got != "192.0.2.12 192.0.2.200" {
		t.Errorf("after another client wanted them: %q", got)
	}
	request(remove, "host.example.com.", "192.0.2.12", 1)
	says("DHCP_DDNS_REMOVE_SUCCEEDED", 1)
	if got := n.short("host.example.com", "ANY") + n.short("12.2.0.192.in-addr.arpa", "PTR"); got != "" {
		t.Errorf("after the lease's end: %q", got)
	}
	if strings.Contains(n.cli("zone", "history", "example.com."), "127.0.0.1") {
		t.Error("a change has no key as its author")
	}
}
