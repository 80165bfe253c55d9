package balefiretest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// Network is a bridge of this machine's, with an address of its own, to which network namespaces are attached. It takes
// root, and ip(8) of iproute2.
type Network struct {
	tb     testing.TB
	prefix string // "10.98.7"
	bridge string
	count  int
}

var networks atomic.Int32

// NewNetwork makes a network, which is gone when the test ends.
func NewNetwork(tb testing.TB) *Network {
	tb.Helper()
	k := int(networks.Add(1))
	n := &Network{
		tb: tb, prefix: fmt.Sprintf("10.%d.%d", 64+os.Getpid()%128, k%256),
		bridge: fmt.Sprintf("bf%d-%d", os.Getpid()%100000, k),
	}
	n.run("ip", "link", "add", n.bridge, "type", "bridge")
	tb.Cleanup(func() { n.run("ip", "link", "del", n.bridge) })
	n.run("ip", "addr", "add", n.Host()+"/24", "dev", n.bridge)
	n.run("ip", "link", "set", n.bridge, "up")
	return n
}

// Host is this machine's address in the network.
func (n *Network) Host() string { return n.prefix + ".1" }

func (n *Network) run(args ...string) {
	n.tb.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		n.tb.Fatalf("%s: %v: %s (this test needs root)", strings.Join(args, " "), err, out)
	}
}

// Namespace is a network namespace: a machine of its own, as far as the network goes.
type Namespace struct {
	network *Network
	Name    string
	Address string // in the network
}

// Namespace makes a namespace and attaches it.
func (n *Network) Namespace() *Namespace {
	n.tb.Helper()
	n.count++
	ns := &Namespace{network: n, Name: fmt.Sprintf("%s-%d", n.bridge, n.count), Address: fmt.Sprintf("%s.%d", n.prefix, n.count+1)}
	n.run("ip", "netns", "add", ns.Name)
	n.tb.Cleanup(func() { n.run("ip", "netns", "del", ns.Name) })
	ns.Run("ip", "link", "set", "lo", "up")
	n.Attach(ns)
	return ns
}

// Attach gives a namespace, perhaps of another network, an interface in this one, and returns its address here.
func (n *Network) Attach(ns *Namespace) string {
	n.tb.Helper()
	address := ns.Address
	if ns.network != n {
		n.count++
		address = fmt.Sprintf("%s.%d", n.prefix, n.count+1)
	}
	outside := fmt.Sprintf("v%s-%d", strings.TrimPrefix(n.bridge, "bf"), n.count)
	inside := n.inside()
	n.run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", ns.Name)
	n.run("ip", "link", "set", outside, "master", n.bridge, "up")
	ns.Run("ip", "addr", "add", address+"/24", "dev", inside)
	ns.Run("ip", "link", "set", inside, "up")
	return address
}

// Run runs a command inside.
func (ns *Namespace) Run(args ...string) {
	ns.network.tb.Helper()
	ns.network.run(append(ns.Wrap(), args...)...)
}

// Wrap is what a command line begins with to run inside.
func (ns *Namespace) Wrap() []string { return []string{"ip", "netns", "exec", ns.Name} }

// Cut drops everything that goes to, or comes from, the ports of some HOST:PORT, on this machine and others, until Heal.
// It takes nft(8).
func (ns *Namespace) Cut(addresses ...string) {
	ns.network.tb.Helper()
	ns.Run("nft", "add table inet cut")
	for _, hook := range []string{"input", "output"} {
		ns.Run("nft", "add chain inet cut "+hook+" { type filter hook "+hook+" priority 0; }")
		for _, address := range addresses {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				ns.network.tb.Fatal(err)
			}
			for _, side := range []string{"dport", "sport"} {
				ns.Run("nft", "add rule inet cut "+hook+" meta l4proto { tcp, udp } th "+side+" "+port+" drop")
			}
		}
	}
}

// Heal undoes Cut.
func (ns *Namespace) Heal() {
	ns.network.tb.Helper()
	ns.Run("nft", "delete table inet cut")
}

// Unplug takes the namespace off its network until Plug: to everybody else, the machine is gone.
func (ns *Namespace) Unplug() {
	ns.network.tb.Helper()
	ns.Run("ip", "link", "set", ns.network.inside(), "down")
}

// Plug undoes Unplug.
func (ns *Namespace) Plug() {
	ns.network.tb.Helper()
	ns.Run("ip", "link", "set", ns.network.inside(), "up")
}

// inside is the name of the network's interface in a namespace.
func (n *Network) inside() string { return "eth-" + n.bridge[strings.LastIndex(n.bridge, "-")+1:] }
