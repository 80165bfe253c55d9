//go:build kafka

package anycasttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/kafkatest"
)

const (
	anycast = "192.0.2.53"
	zone    = `$ORIGIN example.test.
$TTL 60
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
	await(t, 10*time.Second, "BIRD's socket", func() bool { _, err := os.Stat(socket); return err == nil })
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

// TestKafkaAnycast is one story: both sites, one killed and back, one cut off from the log, one told to end.
func TestKafkaAnycast(t *testing.T) {
	binaryDir := t.TempDir()
	binary, err := balefiretest.Build(binaryDir)
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
	broker := kafkatest.StartOn(t, backbone.Host())
	router := internet.Namespace()
	routing := fmt.Sprintf("router id %s;\nprotocol device { }\nprotocol kernel { ipv4 { export all; }; }\n", router.Address)
	var sites []*site
	for _, name := range []string{"a", "b"} {
		s := &site{t: t, name: name, ns: backbone.Namespace(), dir: t.TempDir()}
		outside := internet.Attach(s.ns)
		s.ns.Run("ip", "address", "add", anycast+"/32", "dev", "lo")
		s.ns.Run("ip", "route", "add", "default", "via", router.Address)
		s.how = balefiretest.How{
			Binary: binary, Dir: s.dir, DNS: []string{anycast + ":53"}, Admin: s.ns.Address + ":8053", Wrap: s.ns.Wrap(),
			Args: []string{
				"--brokers", broker.Address(), "--partitions", "2", "--region", name, "--node-id", "site-" + name,
				"--store-disk-reserve", "64MiB",
			},
		}
		s.server = balefiretest.Launch(t, s.how)
		config := strings.NewReplacer(
			"198.51.100.2", outside, "198.51.100.1", router.Address, "65001", "65001",
		).Replace(string(recipe))
		socket := bird(t, s.ns, config)
		run(t, s.ns.Wrap(), filepath.Join(deploy, "anycast-check"), "http://"+s.how.Admin+"/readyz", "anycast", socket)
		routing += fmt.Sprintf("protocol bgp %s {\n  local %s as 65000;\n  neighbor %s as 65001;\n  ipv4 { import all; export none; };\n}\n", name, router.Address, outside)
		sites = append(sites, s)
	}
	routes := bird(t, router, routing)
	for _, s := range sites {
		if err := s.server.AwaitReady(time.Minute); err != nil {
			t.Fatalf("%v\n%s", err, s.server.Log())
		}
	}
	announced := func(name string) bool {
		out, err := exec.Command("birdc", "-s", routes, "show", "route", "protocol", name).CombinedOutput()
		return err == nil && strings.Contains(string(out), anycast)
	}
	await(t, time.Minute, "both sites are announced", func() bool { return announced("a") && announced("b") })

	importZone(t, sites[0])
	// answering is the site that a client gets to, and whether its answer is right.
	answering := func() string {
		ask := func(args ...string) string {
			line := append(router.Wrap(), append([]string{"dig", "+short", "+time=1", "+tries=1", "@" + anycast}, args...)...)
			out, err := exec.Command(line[0], line[1:]...).Output()
			if err != nil {
				return ""
			}
			return strings.TrimSpace(string(out))
		}
		if ask("www.example.test.", "A") != "192.0.2.1" {
			return ""
		}
		return strings.Trim(ask("CH", "TXT", "id.server."), `"`)
	}
	await(t, 30*time.Second, "an answer", func() bool { return answering() == "site-a" || answering() == "site-b" })
	first, second := sites[0], sites[1]
	if answering() == "site-b" {
		first, second = second, first
	}

	// Killed: the other one answers. Back: announced again.
	first.server.Kill()
	await(t, 20*time.Second, "the other site answers", func() bool { return answering() == "site-"+second.name })
	if announced(first.name) {
		t.Error("a site that was killed is still announced")
	}
	first.server = balefiretest.Launch(t, first.how)
	await(t, time.Minute, "the site is announced again", func() bool { return announced(first.name) })

	// Cut off from the log, both of them: nobody withdraws, and answers go on.
	for _, s := range sites {
		s.ns.Cut(broker.Address())
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
	if err := first.server.Stop(20 * time.Second); err != nil {
		t.Errorf("%v\n%s", err, first.server.Log())
	}
	await(t, 20*time.Second, "the other site answers", func() bool { return answering() == "site-"+second.name })
}

func importZone(t *testing.T, s *site) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "example.test.zone")
	if err := os.WriteFile(file, []byte(zone), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.how.Binary, "zone", "import", file, "--server", "http://"+s.how.Admin)
	cmd.Env = balefiretest.Environ("BALEFIRE_TOKEN=" + balefiretest.Token)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("import: %v\n%s\n%s", err, out, s.server.Log())
	}
}
