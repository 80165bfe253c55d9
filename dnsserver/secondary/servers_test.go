package secondary

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"balefire/replication/porttest"

	"github.com/miekg/dns"
)

// realPrimary is a server of another kind that has zones.
type realPrimary struct {
	name string
	addr string // of DNS over UDP and TCP
	tls  string // of DNS over TLS; "" when it does not speak that
	// updates says that it takes updates; others read their file anew on reload.
	updates bool
	file    string
	reload  func(t *testing.T)
}

// startTimeout is how long a server may take to load its zone.
const startTimeout = 2 * time.Minute

func writeFile(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func startNSD(t *testing.T, zone string) *realPrimary {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	conf := fmt.Sprintf(`
server:
  ip-address: %[1]s
  username: "%[2]s"
  server-count: 1
  database: ""
  zonesdir: "%[3]s"
  pidfile: "%[3]s/nsd.pid"
  xfrdfile: "%[3]s/xfrd.state"
  xfrdir: "%[3]s"
  zonelistfile: "%[3]s/zone.list"
  logfile: "%[3]s/log"
remote-control:
  control-enable: no
zone:
  name: "%[4]s"
  zonefile: "%[3]s/zone"
  provide-xfr: 127.0.0.1 NOKEY
`, strings.ReplaceAll(addr, ":", "@"), me.Username, dir, apexText)
	p := &realPrimary{name: "NSD", addr: addr, file: writeFile(t, filepath.Join(dir, "zone"), zone)}
	cmd := start(t, p, dir, conf, "nsd", "-d", "-c")
	p.reload = func(t *testing.T) { hangUp(t, cmd) }
	return p
}

func hangUp(t *testing.T, cmd *exec.Cmd) {
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// startKnot starts Knot. extra are lines of its zone's template.
func startKnot(t *testing.T, zone string, extra ...string) *realPrimary {
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	conf := fmt.Sprintf(`
server:
    rundir: "%[1]s"
    listen: %[2]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "%[1]s"
log:
  - target: "%[1]s/log"
    any: info
acl:
  - id: local
    address: 127.0.0.1
    action: [transfer, update]
policy:
  - id: nsec3
    nsec3: on
    nsec3-iterations: 0
template:
  - id: default
    storage: "%[1]s"
    file: zone
    zonefile-load: difference-no-serial
    zonefile-sync: -1
    journal-content: all
    acl: local
    %[4]s
zone:
  - domain: "%[3]s"
`, dir, strings.ReplaceAll(addr, ":", "@"), apexText, strings.Join(extra, "\n    "))
	p := &realPrimary{name: "Knot", addr: addr, updates: true, file: writeFile(t, filepath.Join(dir, "zone"), zone)}
	start(t, p, dir, conf, "knotd", "-c")
	return p
}

func startBIND(t *testing.T, zone string) *realPrimary {
	dir, addr, overTLS := t.TempDir(), porttest.Free(t, "127.0.0.1"), porttest.Free(t, "127.0.0.1")
	_, port, _ := net.SplitHostPort(addr)
	_, portTLS, _ := net.SplitHostPort(overTLS)
	conf := fmt.Sprintf(`
options {
	directory "%[1]s";
	pid-file "%[1]s/named.pid";
	session-keyfile "%[1]s/session.key";
	managed-keys-directory "%[1]s";
	listen-on port %[2]s { 127.0.0.1; };
	listen-on port %[3]s tls ephemeral { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	notify no;
	allow-transfer { 127.0.0.1; };
};
controls { };
zone "%[4]s" { type primary; file "zone"; allow-update { 127.0.0.1; }; ixfr-from-differences yes; };
`, dir, port, portTLS, apexText)
	p := &realPrimary{name: "BIND", addr: addr, tls: overTLS, updates: true, file: writeFile(t, filepath.Join(dir, "zone"), zone)}
	start(t, p, dir, conf, "named", "-L", filepath.Join(dir, "log"), "-f", "-n", "1", "-c")
	return p
}

func startPowerDNS(t *testing.T, zone string) *realPrimary {
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort(addr)
	file := writeFile(t, filepath.Join(dir, "zone"), zone)
	writeFile(t, filepath.Join(dir, "named.conf"), fmt.Sprintf("zone %q { type master; file %q; };\n", strings.TrimSuffix(apexText, "."), file))
	conf := fmt.Sprintf(`
launch=bind
bind-config=%[1]s/named.conf
bind-check-interval=0
local-address=%[2]s
local-port=%[3]s
socket-dir=%[1]s
daemon=no
guardian=no
disable-axfr=no
allow-axfr-ips=127.0.0.1
primary=yes
only-notify=
version-string=powerdns
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
webserver=no
api=no
`, dir, host, port)
	p := &realPrimary{name: "PowerDNS", addr: addr, file: file}
	p.reload = func(t *testing.T) {
		out, err := exec.Command("pdns_control", "--socket-dir="+dir, "--config-dir="+dir, "bind-reload-now", strings.TrimSuffix(apexText, ".")).CombinedOutput()
		if err != nil {
			t.Fatalf("reload PowerDNS: %v\n%s", err, out)
		}
	}
	writeFile(t, filepath.Join(dir, "pdns.conf"), conf)
	start(t, p, dir, conf, "pdns_server", "--config-dir="+dir)
	return p
}

// start runs a server until the test ends, and waits until it has its zone. The file of its configuration is the last argument when that is
// an option without a value.
func start(t *testing.T, p *realPrimary, dir, conf, program string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(program)
	if err != nil {
		path = "/usr/sbin/" + program
	}
	if last := args[len(args)-1]; !strings.Contains(last, "=") {
		args = append(args, writeFile(t, filepath.Join(dir, "conf"), conf))
	}
	cmd := exec.Command(path, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("install nsd, knot, bind9 and pdns-server with its bind backend: %v", err)
	}
	t.Cleanup(func() {
		// They leave by themselves when asked to, with their children.
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("stop %s: %v", p.name, err)
		}
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // the exit code after an interrupt says nothing
		late.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s said: %s\n%s", p.name, &out, log[max(0, len(log)-4000):])
		}
	})
	p.await(t, 0)
	return cmd
}

// await waits until the zone is there, with a serial that is not the one before, and returns it.
func (p *realPrimary) await(t *testing.T, before uint32) uint32 {
	t.Helper()
	client := &dns.Client{Net: "tcp", Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(startTimeout); ; <-tick.C {
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(apexText, dns.TypeSOA), p.addr)
		if err == nil && reply.Rcode == dns.RcodeSuccess && reply.Authoritative && len(reply.Answer) > 0 {
			if soa, ok := reply.Answer[0].(*dns.SOA); ok && soa.Serial != before {
				return soa.Serial
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not serve the zone: %v %v", p.name, err, reply)
		}
	}
}
