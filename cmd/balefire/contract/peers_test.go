//go:build peers

package contract

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/replication/porttest"

	"github.com/miekg/dns"
)

// peer is a server of another kind, at an address of loopback. It is told of changes only by NOTIFY: its own interest in the serial comes too late for a test.
type peer struct {
	name, addr string
	dir        string
	key        tsigKey // that its transfers and the NOTIFYs to it are signed with
	tls        bool    // it fetches over TLS
}

func newPeer(t *testing.T, name string, key tsigKey, tls bool) *peer {
	return &peer{name: name, addr: porttest.Free(t, "127.0.0.1"), dir: t.TempDir(), key: key, tls: tls}
}

// notice is the term for `--notify`.
func (p *peer) notice() string { return "key:" + p.key.Name + "@" + p.addr }

// upstream is a primary as its secondaries know it.
type upstream struct {
	addr, tls string // host:port
	name, ca  string // of its certificate, and a file that vouches for it
}

// run runs the server in the foreground until the test ends.
func (p *peer) run(t *testing.T, program string, args ...string) {
	t.Helper()
	p.start(t, program, args...)
}

// start is run, and returns the process, to be sent signals.
func (p *peer) start(t *testing.T, program string, args ...string) *os.Process {
	t.Helper()
	log, err := os.Create(filepath.Join(p.dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (`make test-real` installs what this needs)", err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("stop %s: %v", p.name, err)
		}
		late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // the exit code after an interrupt says nothing
		late.Stop()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("%s said: %s", p.name, said[max(0, len(said)-6000):])
		}
	})
	return cmd.Process
}

func (p *peer) hostPort() (host, port string) {
	host, port, _ = net.SplitHostPort(p.addr) // as FreeAddr has made it
	return host, port
}

// between is host:port with another character between.
func between(addr, sign string) string {
	host, port, _ := net.SplitHostPort(addr) // as FreeAddr has made it
	return host + sign + port
}

func startNSD(t *testing.T, p *peer, from upstream, zone string) *peer {
	request, auth := between(from.addr, "@")+" "+p.key.Name, ""
	if p.tls {
		request = between(from.tls, "@") + " " + p.key.Name + " upstream"
		auth = fmt.Sprintf("tls-auth:\n  name: upstream\n  auth-domain-name: %q\n", from.name)
	}
	conf := write(t, p.dir, "nsd.conf", fmt.Sprintf(`
server:
  ip-address: %[1]s
  username: ""
  server-count: 1
  database: ""
  zonesdir: "%[2]s"
  pidfile: "%[2]s/nsd.pid"
  xfrdfile: "%[2]s/xfrd.state"
  xfrdir: "%[2]s"
  zonelistfile: "%[2]s/zone.list"
  tls-cert-bundle: "%[3]s"
  xfrd-reload-timeout: 0
  verbosity: 2
remote-control:
  control-enable: no
key:
  name: "%[4]s"
  algorithm: %[5]s
  secret: "%[6]s"
%[7]szone:
  name: "%[8]s"
  zonefile: "zone"
  request-xfr: %[9]s
  allow-notify: 127.0.0.1 %[4]s
  provide-xfr: 127.0.0.1 NOKEY
`, between(p.addr, "@"), p.dir, from.ca, p.key.Name, p.key.Algorithm, p.key.Secret, auth, zone, request))
	p.run(t, "nsd", "-d", "-c", conf)
	return p
}

// knotHead is what all of Knot's configurations here begin with; more are lines of its section for the server.
func knotHead(p *peer, more string) string {
	return fmt.Sprintf(`
server:
    rundir: "%[1]s"
    listen: %[2]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1%[6]s
database:
    storage: "%[1]s"
log:
  - target: stderr
    any: info
key:
  - id: "%[3]s"
    algorithm: %[4]s
    secret: "%[5]s"
`, p.dir, between(p.addr, "@"), p.key.Name, p.key.Algorithm, p.key.Secret, more)
}

func startKnot(t *testing.T, p *peer, from upstream, zone string) *peer {
	program, at := "knotd", between(from.addr, "@")
	if p.tls {
		program, at = knotTLS(t), between(from.tls, "@")+"\n    tls: on"
	}
	conf := write(t, p.dir, "knot.conf", knotHead(p, "")+fmt.Sprintf(`
remote:
  - id: upstream
    address: %[4]s
    key: "%[2]s"
acl:
  - id: notices
    address: 127.0.0.1
    key: "%[2]s"
    action: notify
  - id: local
    address: 127.0.0.1
    action: transfer
zone:
  - domain: "%[3]s"
    storage: "%[1]s"
    zonefile-load: none
    zonefile-sync: -1
    journal-content: all
    master: upstream
    acl: [notices, local]
`, p.dir, p.key.Name, zone, at))
	p.run(t, program, "-c", conf)
	return p
}

// knotTLS is a knotd that transfers zones over TLS.
func knotTLS(t *testing.T) string {
	t.Helper()
	return filepath.Join(strings.TrimSpace(tool(t, "../../../.ci/knot-tls")), "knotd")
}

func startBIND(t *testing.T, p *peer, from upstream, zone string) *peer {
	_, own := p.hostPort()
	primary, with := between(from.addr, " port "), ""
	if p.tls {
		primary, with = between(from.tls, " port "), "tls upstream"
	}
	conf := write(t, p.dir, "named.conf", fmt.Sprintf(`
options {
	directory "%[1]s";
	pid-file none;
	session-keyfile "%[1]s/session.key";
	managed-keys-directory "%[1]s";
	listen-on port %[2]s { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	notify no;
	allow-transfer { 127.0.0.1; };
};
controls { };
key "%[3]s" { algorithm %[4]s; secret "%[5]s"; };
tls upstream { ca-file "%[6]s"; remote-hostname "%[7]s"; };
zone "%[8]s" {
	type secondary;
	primaries { %[9]s key "%[3]s" %[10]s; };
	allow-notify { key "%[3]s"; };
	file "zone";
};
`, p.dir, own, p.key.Name, p.key.Algorithm, p.key.Secret, from.ca, from.name, zone, primary, with))
	p.run(t, "named", "-g", "-n", "1", "-c", conf)
	return p
}

// powerDNSSchema is a file of Debian's package.
const powerDNSSchema = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"

// startPowerDNS starts PowerDNS with a database of its own, which fetches differences: of itself it fetches whole zones.
func startPowerDNS(t *testing.T, p *peer, from upstream, zone string) *peer {
	host, port := p.hostPort()
	database := filepath.Join(p.dir, "zones.db")
	write(t, p.dir, "pdns.conf", fmt.Sprintf(`
launch=gsqlite3
gsqlite3-database=%s
local-address=%s
local-port=%s
socket-dir=%s
secondary=yes
allow-axfr-ips=127.0.0.1
cache-ttl=0
query-cache-ttl=0
negquery-cache-ttl=0
zone-cache-refresh-interval=0
zone-metadata-cache-ttl=0
domain-metadata-cache-ttl=0
security-poll-suffix=
guardian=no
daemon=no
disable-syslog=yes
loglevel=5
`, database, host, port, p.dir))
	tool(t, "sqlite3", database, ".read "+powerDNSSchema)
	for _, args := range [][]string{
		{"create-secondary-zone", zone, from.addr},
		{"import-tsig-key", p.key.Name, p.key.Algorithm, p.key.Secret},
		{"activate-tsig-key", zone, p.key.Name, "secondary"},
		{"set-meta", zone, "IXFR", "1"},
	} {
		tool(t, "pdnsutil", append([]string{"--config-dir=" + p.dir}, args...)...)
	}
	p.run(t, "pdns_server", "--config-dir="+p.dir)
	return p
}

// serial asks for a zone's serial.
func (p *peer) serial(zone string) (uint32, bool) { return serialAt(p.addr, zone) }

// follow waits until all peers have a serial of a zone.
func follow(t *testing.T, all []*peer, zone string, want uint32) {
	t.Helper()
	late := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, p := range all {
		for {
			got, ok := p.serial(zone)
			if ok && got == want {
				break
			}
			if time.Now().After(late) {
				t.Fatalf("%s has serial %d of %s (%v), not %d", p.name, got, zone, ok, want)
			}
			<-tick.C
		}
	}
}

// transferred is a zone as a server gives it, its records as sorted text, the SOA once.
func transferred(t *testing.T, what, addr, zone string, key *tsigKey) (all []string) {
	t.Helper()
	tr := dns.Transfer{DialTimeout: time.Minute, ReadTimeout: time.Minute}
	q := new(dns.Msg).SetAxfr(zone)
	if key != nil {
		tr.TsigSecret = map[string]string{key.Name: key.Secret}
		q.SetTsig(key.Name, key.Algorithm+".", 300, time.Now().Unix())
	}
	in, err := tr.In(q, addr)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for e := range in {
		if e.Error != nil {
			t.Fatalf("%s: %v after %d records", what, e.Error, len(all))
		}
		for _, rr := range e.RR {
			all = append(all, rr.String())
		}
	}
	if len(all) < 2 || all[0] != all[len(all)-1] {
		t.Fatalf("%s gives %d records", what, len(all))
	}
	all = all[1:]
	slices.Sort(all)
	return all
}

// alike fails the test unless a peer has the same records.
func alike(t *testing.T, name string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s has %d records, not %d: %s", name, len(got), len(want), difference(strings.Join(got, "\n"), strings.Join(want, "\n")))
	}
}
