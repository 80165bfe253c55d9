//go:build kafka

package anycasttest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/kafkatest"
)

const (
	anycast  = "192.0.2.53"
	zoneName = "example.test."
	zone     = `$TTL 60
@ SOA ns1 hostmaster 1 7200 900 1209600 300
@ NS ns1
ns1 A 192.0.2.53
www A 192.0.2.1
`
)

// site is one place that announces the address.
type site struct {
	t      *testing.T
	name   string
	ns     *balefiretest.Namespace
	dir    string
	how    balefiretest.How
	server *balefiretest.Server
}

// run starts a program that lives as long as the test.
func run(t *testing.T, wrap []string, args ...string) {
	t.Helper()
	line := append(append([]string{}, wrap...), args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // says that it was killed
		if t.Failed() {
			t.Logf("%s: %s", strings.Join(args, " "), out.String())
		}
	})
}

// bird starts BIRD in a namespace.
func bird(t *testing.T, ns *balefiretest.Namespace, config string) (socket string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "bird.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "bird.ctl")
	run(t, ns.Wrap(), "bird", "-f", "-c", file, "-s", socket, "-P", filepath.Join(dir, "bird.pid"))
	await(t, time.Minute, "BIRD's socket", func() bool { _, err := os.Stat(socket); return err == nil })
	return socket
}

func await(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// world is some sites, each with BIRD and the check from deploy, and a router that hears all of them.
type world struct {
	t      *testing.T
	broker *kafkatest.Broker
	router *balefiretest.Namespace
	routes string // the socket of the router's BIRD
	sites  []*site
}

// newWorld starts everything, and waits until all sites are announced. more are a node's further arguments and variables, by its site.
func newWorld(t *testing.T, names []string, more func(*site) (args, env []string)) *world {
	t.Helper()
	binary, err := balefiretest.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Abs("../../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	recipe, err := os.ReadFile(filepath.Join(deploy, "bird.conf"))
	if err != nil {
		t.Fatal(err)
	}
	backbone, internet := balefiretest.NewNetwork(t), balefiretest.NewNetwork(t)
	w := &world{t: t, broker: kafkatest.StartOn(t, backbone.Host()), router: internet.Namespace()}
	routing := fmt.Sprintf("router id %s;\nprotocol device { }\nprotocol kernel { ipv4 { export all; }; }\n", w.router.Address)
	for _, name := range names {
		s := &site{t: t, name: name, ns: backbone.Namespace(), dir: t.TempDir()}
		outside := internet.Attach(s.ns)
		s.ns.Run("ip", "address", "add", anycast+"/32", "dev", "lo")
		s.ns.Run("ip", "route", "add", "default", "via", w.router.Address)
		args, env := more(s)
		s.how = balefiretest.How{
			Binary: binary, Dir: s.dir, DNS: []string{anycast + ":53"}, Admin: s.ns.Address + ":8053", Wrap: s.ns.Wrap(),
			Args: append([]string{
				"--brokers", w.broker.Address(), "--partitions", "4", "--node-id", "site-" + name, "--store-disk-reserve", "64MiB",
			}, args...),
			Env: env,
		}
		s.server = balefiretest.Launch(t, s.how)
		config := strings.NewReplacer(
			"198.51.100.2", outside, "198.51.100.1", w.router.Address, "65001", "65001",
		).Replace(string(recipe))
		socket := bird(t, s.ns, config)
		run(t, s.ns.Wrap(), filepath.Join(deploy, "anycast-check"), "http://"+s.how.Admin+"/readyz", "anycast", socket)
		routing += fmt.Sprintf("protocol bgp %s {\n  local %s as 65000;\n  neighbor %s as 65001;\n  ipv4 { import all; export none; };\n}\n", name, w.router.Address, outside)
		w.sites = append(w.sites, s)
	}
	w.routes = bird(t, w.router, routing)
	for _, s := range w.sites {
		if err := s.server.AwaitReady(time.Minute); err != nil {
			t.Fatalf("%v\n%s", err, s.server.Log())
		}
	}
	await(t, time.Minute, "all sites are announced", func() bool {
		return !slices.ContainsFunc(w.sites, func(s *site) bool { return !w.announced(s) })
	})
	return w
}

// announced reports whether the router hears the address from a site.
func (w *world) announced(s *site) bool {
	out, err := exec.Command("birdc", "-s", w.routes, "show", "route", "protocol", s.name).CombinedOutput()
	return err == nil && strings.Contains(string(out), anycast)
}

// ask asks at the address, from a namespace.
func ask(from *balefiretest.Namespace, args ...string) string {
	line := append(from.Wrap(), append([]string{"dig", "+short", "+time=5", "+tries=1", "@" + anycast}, args...)...)
	out, err := exec.Command(line[0], line[1:]...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// answering is the site that answers in a namespace, when its answers are right; "" otherwise.
func answering(from *balefiretest.Namespace, zones ...string) string {
	for _, zone := range zones {
		if ask(from, "www."+zone, "A") != "192.0.2.1" {
			return ""
		}
	}
	return strings.Trim(ask(from, "CH", "TXT", "id.server."), `"`)
}

// TestKafkaAnycast is one story: both sites, one drained and back, killed and back, cut off from the log, told to end.
func TestKafkaAnycast(t *testing.T) {
	w := newWorld(t, []string{"a", "b"}, func(s *site) (args, env []string) { return []string{"--region", s.name}, nil })
	sites := w.sites
	sites[0].importZones(zoneName)
	answering := func() string { return answering(w.router, zoneName) }
	announced := func(name string) bool {
		return w.announced(sites[slices.IndexFunc(sites, func(s *site) bool { return s.name == name })])
	}
	await(t, time.Minute, "an answer", func() bool { return answering() == "site-a" || answering() == "site-b" })
	first, second := sites[0], sites[1]
	if answering() == "site-b" {
		first, second = second, first
	}

	// Drained: the other one answers whoever comes by the route; who comes all the same is answered here. And back.
	w.drain(first, second, zoneName)
	first.cli("node", "drain", "--undo")
	await(t, time.Minute, "the site is announced again", func() bool { return announced(first.name) })

	// Killed: the other one answers. Back: announced again.
	first.server.Kill()
	await(t, time.Minute, "the other site answers", func() bool { return answering() == "site-"+second.name })
	if announced(first.name) {
		t.Error("a site that was killed is still announced")
	}
	first.server = balefiretest.Launch(t, first.how)
	await(t, time.Minute, "the site is announced again", func() bool { return announced(first.name) })

	// Cut off from the log, both of them: nobody withdraws, and answers go on.
	for _, s := range sites {
		s.ns.Cut(w.broker.Address())
	}
	for end := time.Now().Add(8 * time.Second); time.Now().Before(end); {
		if !announced("a") || !announced("b") {
			t.Fatal("a site was withdrawn since the log is out of its reach")
		}
		if got := answering(); got == "" {
			t.Fatal("no answer while the log is out of reach")
		}
	}
	// Started anew without the log, it answers from its disk.
	first.server.Kill()
	first.server = balefiretest.Launch(t, first.how)
	await(t, time.Minute, "the site is announced without the log", func() bool { return announced(first.name) })
	for _, s := range sites {
		s.ns.Heal()
	}
	await(t, time.Minute, "an answer", func() bool { return answering() != "" })

	// Told to end.
	if err := first.server.Stop(time.Minute); err != nil {
		t.Errorf("%v\n%s", err, first.server.Log())
	}
	await(t, time.Minute, "the other site answers", func() bool { return answering() == "site-"+second.name })
}

// drain drains a site, and looks that readiness goes first, then the route, and that it answers to the end; the other one has
// the clients.
func (w *world) drain(s, other *site, zones ...string) {
	w.t.Helper()
	s.cli("node", "drain")
	if res, err := s.server.HTTP().Get("http://" + s.how.Admin + "/readyz"); err != nil || res.StatusCode != 503 {
		w.t.Errorf("a drained site: %v, %v", res, err)
	} else {
		res.Body.Close()
	}
	await(w.t, time.Minute, "the route is withdrawn", func() bool { return !w.announced(s) })
	await(w.t, time.Minute, "the other site answers", func() bool { return answering(w.router, zones...) == "site-"+other.name })
	if got := answering(s.ns, zones...); got != "site-"+s.name {
		w.t.Errorf("a drained site that is asked directly: %q answered", got)
	}
}

// cli runs a command with a site's node, which must succeed, and returns what it printed.
func (s *site) cli(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(s.how.Binary, append(args, "--server", "http://"+s.how.Admin)...)
	cmd.Env = balefiretest.Environ("BALEFIRE_TOKEN=" + balefiretest.Token)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s\n%s", args, err, out, s.server.Log())
	}
	return string(out)
}

// holds is how many partitions the site's node has.
func (s *site) holds() int {
	s.t.Helper()
	var status struct {
		Nodes []struct {
			ID         string
			Partitions []struct{ State string }
		}
	}
	if err := json.Unmarshal([]byte(s.cli("cluster", "status", "-o", "json")), &status); err != nil {
		s.t.Fatal(err)
	}
	for _, n := range status.Nodes {
		if n.ID == "site-"+s.name {
			return len(n.Partitions)
		}
	}
	return 0
}

// importZones makes zones that are alike.
func (s *site) importZones(names ...string) {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name+"zone"), []byte("$ORIGIN "+name+"\n"+zone), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.cli("zone", "import", dir)
}
