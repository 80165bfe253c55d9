package differential

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

	"github.com/miekg/dns"
)

// startTimeout is how long a server may take to load the zones.
const startTimeout = 2 * time.Minute

// startNSD starts NSD on zones, given by apex, and returns its address.
func startNSD(t *testing.T, files map[string]string) string {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	addr := porttest.Free(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort(addr)
	var conf strings.Builder
	// Minimal responses are closest to what Balefire gives: ANSWERS.md row 3.
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
  ipv4-edns-size: 1232
  minimal-responses: yes
  rrl-ratelimit: 0
  tcp-timeout: 60
remote-control:
  control-enable: no
`, host, port, me.Username, dir)
	for apex, file := range files {
		fmt.Fprintf(&conf, "zone:\n  name: \"%s\"\n  zonefile: \"%s\"\n", apex, file)
	}
	start(t, dir, conf.String(), "nsd", "-V", "2", "-d", "-c")
	waitFor(t, "NSD", dir, addr, files)
	return addr
}

// startKnot starts Knot on zones, given by apex, and returns its address.
func startKnot(t *testing.T, files map[string]string) string {
	dir := t.TempDir()
	addr := porttest.Free(t, "127.0.0.1")
	host, port, _ := net.SplitHostPort(addr)
	var conf strings.Builder
	fmt.Fprintf(&conf, `
server:
    rundir: "%[1]s"
    listen: %[2]s@%[3]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    udp-max-payload: 1232
    tcp-idle-timeout: 60
database:
    storage: "%[1]s"
log:
  - target: "%[1]s/log"
    any: info
template:
  - id: default
    storage: "%[1]s"
    semantic-checks: off
    zonefile-load: whole
    zonefile-sync: -1
    journal-content: none
zone:
`, dir, host, port)
	for apex, file := range files {
		fmt.Fprintf(&conf, "  - domain: \"%s\"\n    file: \"%s\"\n", apex, file)
	}
	start(t, dir, conf.String(), "knotd", "-c")
	waitFor(t, "Knot", dir, addr, files)
	return addr
}

// start runs a server until the test ends.
func start(t *testing.T, dir, conf, program string, args ...string) {
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
		t.Fatalf("install nsd and knot (`make test` does; on Debian: apt-get install nsd knot): %v", err)
	}
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(args, file)...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Both leave by themselves when asked to, with their children.
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("stop %s: %v", program, err)
		}
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // the exit code after an interrupt says nothing
		late.Stop()
		if t.Failed() {
			t.Logf("%s said: %s", program, output.String())
		}
	})
}

// waitFor asks for the SOA of each zone until it is there.
func waitFor(t *testing.T, server, dir, addr string, files map[string]string) {
	deadline := time.Now().Add(startTimeout)
	client := &dns.Client{Net: "tcp", Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for apex := range files {
		for {
			m := new(dns.Msg).SetQuestion(apex, dns.TypeSOA)
			reply, _, err := client.Exchange(m, addr)
			if err == nil && reply.Rcode == dns.RcodeSuccess && reply.Authoritative {
				break
			}
			if time.Now().After(deadline) {
				log, _ := os.ReadFile(filepath.Join(dir, "log"))
				t.Fatalf("%s does not serve %s: %v %v\n%s", server, apex, err, reply, log)
			}
			<-tick.C
		}
	}
}
