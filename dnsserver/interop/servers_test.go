package interop

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
	"testing"
	"time"

	"balefire/replication/porttest"
)

// secondary is a server of another kind that fetches zones.
type secondary struct {
	name string
	addr string
	log  string // a file
	out  *bytes.Buffer
}

// from says how a secondary reaches its primary.
type from struct {
	addr string
	tls  bool
	key  *key // nil: without TSIG
}

type key struct{ name, secret string }

func startNSD(t *testing.T, primary from, zones []string) *secondary {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort(addr)
	var conf strings.Builder
	fmt.Fprintf(&conf, `
server:
  ip-address: %s@%s
  username: "%s"
  server-count: 1
  database: ""
  zonesdir: "%[4]s"
  pidfile: "%[4]s/nsd.pid"
  xfrdfile: "%[4]s/xfrd.state"
  xfrdir: "%[4]s"
  zonelistfile: "%[4]s/zone.list"
  logfile: "%[4]s/log"
  xfrd-reload-timeout: 0
  verbosity: 3
remote-control:
  control-enable: no
`, host, port, me.Username, dir)
	name := "NOKEY"
	if k := primary.key; k != nil {
		name = k.name
		fmt.Fprintf(&conf, "key:\n  name: \"%s\"\n  algorithm: hmac-sha256\n  secret: \"%s\"\n", k.name, k.secret)
	}
	for _, apex := range zones {
		fmt.Fprintf(&conf, "zone:\n  name: \"%[1]s\"\n  zonefile: \"%[1]szone\"\n  request-xfr: %[2]s %[3]s\n  allow-notify: 127.0.0.1 NOKEY\n  provide-xfr: 127.0.0.1 NOKEY\n",
			apex, strings.ReplaceAll(primary.addr, ":", "@"), name)
	}
	return start(t, "NSD", dir, addr, conf.String(), "nsd", "-d", "-c")
}

func startKnot(t *testing.T, primary from, zones []string) *secondary {
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	var conf strings.Builder
	fmt.Fprintf(&conf, `
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
`, dir, strings.ReplaceAll(addr, ":", "@"))
	if k := primary.key; k != nil {
		fmt.Fprintf(&conf, "key:\n  - id: \"%s\"\n    algorithm: hmac-sha256\n    secret: \"%s\"\n", k.name, k.secret)
	}
	fmt.Fprintf(&conf, "remote:\n  - id: primary\n    address: %s\n", strings.ReplaceAll(primary.addr, ":", "@"))
	if k := primary.key; k != nil {
		fmt.Fprintf(&conf, "    key: \"%s\"\n", k.name)
	}
	fmt.Fprintf(&conf, `
acl:
  - id: local
    address: 127.0.0.1
    action: [notify, transfer]
template:
  - id: default
    storage: "%s"
    zonefile-load: none
    zonefile-sync: -1
    journal-content: all
    master: primary
    acl: local
zone:
`, dir)
	for _, apex := range zones {
		fmt.Fprintf(&conf, "  - domain: \"%s\"\n", apex)
	}
	return start(t, "Knot", dir, addr, conf.String(), "knotd", "-c")
}

func startBIND(t *testing.T, primary from, zones []string) *secondary {
	dir, addr := t.TempDir(), porttest.Free(t, "127.0.0.1")
	_, port, _ := net.SplitHostPort(addr)
	var conf strings.Builder
	fmt.Fprintf(&conf, `
options {
	directory "%[1]s";
	pid-file "%[1]s/named.pid";
	session-keyfile "%[1]s/session.key";
	managed-keys-directory "%[1]s";
	listen-on port %[2]s { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	notify no;
	allow-transfer { 127.0.0.1; };
	allow-notify { 127.0.0.1; };
	serial-query-rate 1000;
};
controls { };
`, dir, port)
	with := ""
	if k := primary.key; k != nil {
		fmt.Fprintf(&conf, "key \"%s\" { algorithm hmac-sha256; secret \"%s\"; };\n", k.name, k.secret)
		with += fmt.Sprintf(" key \"%s\"", k.name)
	}
	if primary.tls {
		with += " tls ephemeral"
	}
	host, at, _ := net.SplitHostPort(primary.addr)
	for i, apex := range zones {
		fmt.Fprintf(&conf, "zone \"%s\" { type secondary; primaries { %s port %s%s; }; file \"%d.zone\"; masterfile-format text; };\n", apex, host, at, with, i)
	}
	return start(t, "BIND", dir, addr, conf.String(), "named", "-L", filepath.Join(dir, "log"), "-f", "-n", "1", "-c")
}

// start runs a server until the test ends.
func start(t *testing.T, name, dir, addr, conf, program string, args ...string) *secondary {
	path, err := exec.LookPath(program)
	if err != nil {
		for _, sbin := range []string{"/usr/sbin/", "/usr/local/sbin/"} {
			if _, statErr := os.Stat(sbin + program); statErr == nil {
				path, err = sbin+program, nil
				break
			}
		}
	}
	if err != nil {
		t.Fatalf("install nsd, knot and bind9 (on Debian: apt-get install nsd knot bind9): %v", err)
	}
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &secondary{name: name, addr: addr, log: filepath.Join(dir, "log"), out: new(bytes.Buffer)}
	cmd := exec.Command(path, append(args, file)...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// They leave by themselves when asked to, with their children.
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("stop %s: %v", name, err)
		}
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // the exit code after an interrupt says nothing
		late.Stop()
		if t.Failed() {
			log, _ := os.ReadFile(s.log)
			t.Logf("%s said: %s\n%s", name, s.out, log[max(0, len(log)-6000):])
		}
	})
	return s
}
