package contract

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/mutationlog"
	"balefire/replication/porttest"
)

// health is what /readyz says.
type health struct {
	Status            string
	Reasons, Troubles []string
}

func (n node) health() (h health, status int) {
	n.t.Helper()
	res := n.call("GET", "/readyz", "", "Authorization: ")
	if err := json.Unmarshal([]byte(res.body), &h); err != nil {
		n.t.Fatalf("/readyz: %d, %v\n%s", res.status, err, res.body)
	}
	return h, res.status
}

// tells waits until /readyz tells of a trouble, and looks whether `cluster status` does, and says what to do.
func (n node) tells(wanted ...string) {
	n.t.Helper()
	told := func(list []string) bool {
		return slices.ContainsFunc(list, func(trouble string) bool {
			return !slices.ContainsFunc(wanted, func(w string) bool { return !strings.Contains(trouble, w) })
		})
	}
	var last health
	if err := n.Await(90*time.Second, fmt.Sprintf("telling of %q", wanted), func() bool {
		res, err := n.HTTP().Get("http://" + n.Admin + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		last, _ = n.health()
		return told(last.Troubles)
	}); err != nil {
		n.t.Fatalf("%v\n%+v\n%s\n%s", err, last, n.cli("cluster", "status"), n.Log())
	}
	if err := n.Await(time.Minute, "cluster status", func() bool { // what it says may have another text for a moment
		return told([]string{n.cli("cluster", "status")})
	}); err != nil {
		contains(n.t, "cluster status", n.cli("cluster", "status"), wanted...)
	}
	if n.logged(wanted[0]) == 0 {
		if err := n.Await(time.Minute, fmt.Sprintf("logging %q", wanted[0]), func() bool { return n.logged(wanted[0]) > 0 }); err != nil {
			n.t.Errorf("%v\n%s", err, n.Log())
		}
	}
	if os.Getenv("SHOW") != "" {
		n.t.Logf("%s\n%s\n%+v\n%s", n.cli("node", "status"), n.cli("cluster", "status"), last, n.Log())
	}
}

// logged is how many lines of the log say all of some texts, beside an alarm of them, and the reasons of a start that is not ready.
func (n node) logged(texts ...string) (lines int) {
	for line := range strings.Lines(n.Log()) {
		missing := func(text string) bool { return !strings.Contains(line, strings.ReplaceAll(text, `"`, `\"`)) } // as in JSON
		if !slices.ContainsFunc(texts, missing) && !strings.Contains(line, `"message":"alarm"`) && !strings.Contains(line, "not ready; answering from what there is") {
			lines++
		}
	}
	return lines
}

// quiet fails the test unless one line of the log says some texts, whatever was tried again since.
func (n node) quiet(texts ...string) {
	n.t.Helper()
	if lines := n.logged(texts...); lines != 1 {
		n.t.Errorf("%q is logged %d times:\n%s", texts, lines, n.Log())
	}
}

// cleared waits until a trouble is over.
func (n node) cleared(text string) {
	n.t.Helper()
	if err := n.Await(time.Minute, fmt.Sprintf("without %q", text), func() bool {
		h, _ := n.health()
		return !strings.Contains(fmt.Sprint(h.Troubles), text)
	}); err != nil {
		n.t.Fatalf("%v\n%s", err, n.Log())
	}
}

// broker starts a fake broker that other processes reach.
func broker(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// counter lets connections come, ends them, and counts them.
func counter(t *testing.T) (address string, count *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	count = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
			count.Add(1)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), count
}

// TestBrokersRefuse: what a node says that can't get at its log for how it is set up, and that it says it once.
func TestBrokersRefuse(t *testing.T) {
	t.Parallel()
	// unready is a node that has never seen its log.
	unready := func(t *testing.T, tries func() bool, args []string, wanted ...string) {
		t.Helper()
		n := launchWith(t, balefiretest.How{Args: append(args, "--partitions", "1"), Env: []string{"BALEFIRE_KAFKA_PASSWORD=" + passwordOf(args)}})
		n.tells(wanted...)
		h, status := n.health()
		if status != 503 || !strings.Contains(fmt.Sprint(h.Reasons), wanted[0]) {
			t.Errorf("%d %+v", status, h)
		}
		if err := n.Await(time.Minute, "trying again", tries); err != nil {
			t.Fatal(err)
		}
		n.quiet(wanted[0])
	}
	t.Run("nobody is there", func(t *testing.T) {
		t.Parallel()
		ends := time.Now().Add(3 * time.Second) // some attempts
		unready(t, func() bool { return time.Now().After(ends) }, []string{"--brokers", porttest.Free(t, "127.0.0.1")},
			"no broker can be connected to", "look at brokers")
	})
	t.Run("the connection is closed", func(t *testing.T) {
		t.Parallel()
		address, count := counter(t)
		unready(t, func() bool { return count.Load() > 20 }, []string{"--brokers", address}, "the brokers close the connection at once", "look at the TLS and SASL settings")
	})
	t.Run("wrong password", func(t *testing.T) {
		t.Parallel()
		c := broker(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "balefire", "right"))
		var count atomic.Int64
		c.ControlKey(int16(kmsg.SASLAuthenticate), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			count.Add(1)
			return nil, nil, false
		})
		unready(t, func() bool { return count.Load() > 20 }, []string{"--brokers", c.ListenAddrs()[0], "--kafka-sasl", "scram-sha-256", "--kafka-user", "balefire"},
			"the brokers", "password", "SASL settings") // the fake one does not say more; a real one, see mutationlog's tests
	})
	t.Run("no password", func(t *testing.T) {
		t.Parallel()
		c := broker(t, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "balefire", "right"))
		ends := time.Now().Add(3 * time.Second)
		unready(t, func() bool { return time.Now().After(ends) }, []string{"--brokers", c.ListenAddrs()[0]}, "the brokers", "look at the TLS and SASL settings")
	})
	t.Run("another authority", func(t *testing.T) {
		t.Parallel()
		b, s := devBroker(t)
		other := authority(t)
		ends := time.Now().Add(3 * time.Second)
		unready(t, func() bool { return time.Now().After(ends) },
			[]string{"--brokers", b.Address(), "--kafka-tls", "--kafka-tls-ca", other.CertFile("ca"), "--kafka-tls-cert", s.Cert, "--kafka-tls-key", s.Key},
			"the brokers' certificate is of an unknown authority", "as the CA")
	})
	t.Run("another client's authority", func(t *testing.T) {
		t.Parallel()
		b, s := devBroker(t)
		other := authority(t)
		if err := other.Client("n1"); err != nil {
			t.Fatal(err)
		}
		ends := time.Now().Add(3 * time.Second)
		unready(t, func() bool { return time.Now().After(ends) },
			[]string{"--brokers", b.Address(), "--kafka-tls", "--kafka-tls-ca", s.CA, "--kafka-tls-cert", other.CertFile("n1"), "--kafka-tls-key", other.KeyFile("n1")},
			"look at its files")
	})
}

// passwordOf is a wrong one, where one is needed.
func passwordOf(args []string) string {
	if slices.Contains(args, "--kafka-sasl") {
		return "wrong"
	}
	return ""
}

func authority(t *testing.T) *mutationlog.Authority {
	t.Helper()
	a, err := mutationlog.OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// devBroker starts a development broker in this process.
func devBroker(t *testing.T) (*mutationlog.Broker, mutationlog.Security) {
	t.Helper()
	b, err := mutationlog.StartBroker(mutationlog.BrokerOptions{Dir: t.TempDir(), Listen: "127.0.0.1:0", Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	s, ok := b.ClientSecurity()
	if !ok {
		t.Fatal("no certificates for clients")
	}
	return b, s
}

// TestTopicIsAnother: a topic with other partitions than the namespace has, or another under its name: nothing is applied, answers go
// on, and it is said why, also after the next start.
func TestTopicIsAnother(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(ctx context.Context, admin *kadm.Client) error
		wanted []string
	}{
		{"more partitions", func(ctx context.Context, admin *kadm.Client) error {
			made, err := admin.CreatePartitions(ctx, 2, "balefire.mutations")
			if err == nil {
				err = made.Error()
			}
			return err
		}, []string{"has another number of partitions than the namespace has recorded: 5, not 3", "into a namespace of another name"}},
		{"made again", func(ctx context.Context, admin *kadm.Client) error {
			if _, err := admin.DeleteTopic(ctx, "balefire.mutations"); err != nil {
				return err
			}
			_, err := admin.CreateTopic(ctx, 3, 1, nil, "balefire.mutations")
			return err
		}, []string{"has another topic id than the namespace has recorded", "mend the setting brokers"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster := broker(t)
			n := start(t, "--brokers", cluster.ListenAddrs()[0], "--partitions", "3", "--node-id", "n1")
			n.cli("zone", "create", "example.com.", "--ns", "ns1.example.net.")
			client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if err := c.change(t.Context(), kadm.NewClient(client)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				n.tells(c.wanted...)
				n.quiet(c.wanted[0])
				if h, status := n.health(); status != 200 {
					t.Errorf("%d %+v", status, h)
				}
				if got := n.short("example.com", "NS"); got != "ns1.example.net.\n" {
					t.Errorf("it answers %q", got)
				}
				n.fails(1, "nothing was changed", "record", "set", "example.com.", "www", "A", "60", "192.0.2.1")
				alarms := func() (lines int) {
					for line := range strings.Lines(n.Log()) {
						if strings.Contains(line, `"message":"alarm"`) && strings.Contains(line, c.wanted[0]) {
							lines++
						}
					}
					return lines
				}
				if err := n.Await(time.Minute, "raising an alarm", func() bool { return alarms() > 0 || c.name == "made again" }); err != nil {
					t.Error(err)
				}
				if got := alarms(); got > 1 { // of the log, not of each partition
					t.Errorf("%d alarms:\n%s", got, n.Log())
				}
				n = n.again()
			}
		})
	}
}

// pair are two nodes that share a log, and are to be of one region.
type pair struct {
	t       *testing.T
	brokers []string
	join    string // gossip address of the first
}

func newPair(t *testing.T) *pair {
	t.Helper()
	return &pair{t: t, brokers: broker(t).ListenAddrs(), join: porttest.Free(t, "127.0.0.1")}
}

// launch starts a node, whose gossip is at an address, with more arguments and variables.
func (p *pair) launch(id, gossip string, args ...string) node {
	p.t.Helper()
	how := balefiretest.How{Args: []string{
		"--brokers", p.brokers[0], "--partitions", "4", "--node-id", id, "--region", "eu", "--replica-group", "a",
		"--gossip-listen", gossip, "--gossip-join", p.join,
	}}
	for _, a := range args {
		if strings.HasPrefix(a, "BALEFIRE_") {
			how.Env = append(how.Env, a)
		} else {
			how.Args = append(how.Args, a)
		}
	}
	return launchWith(p.t, how)
}

func relayAt(t *testing.T) []string {
	return []string{"--relay-listen", porttest.Free(t, "127.0.0.1")}
}

// TestNodesDisagree: two nodes of one region that are set up so that they don't fit together.
func TestNodesDisagree(t *testing.T) {
	t.Parallel()
	key := func(c byte) []string {
		return []string{"BALEFIRE_GOSSIP_KEY=" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(c), 32)))}
	}
	certificates := func(t *testing.T, id string) []string {
		t.Helper()
		ca, cert, key := certificate(t, id)
		return []string{"--relay-tls-ca", ca, "--relay-tls-cert", cert, "--relay-tls-key", key}
	}
	for _, c := range []struct {
		name   string
		ids    [2]string
		args   func(t *testing.T, which int) []string
		wanted [2][]string // what each says; nothing is said by one that has none
	}{
		{
			"one id in one group",
			[2]string{"n1", "n1"},
			func(*testing.T, int) []string { return nil },
			[2][]string{{"another process is in group balefire.eu.a as n1", "give each node a node-id of its own"}, nil},
		},
		{
			"one id in two groups",
			[2]string{"n1", "n1"},
			func(_ *testing.T, which int) []string { return []string{"--replica-group", string(rune('a' + which))} },
			[2][]string{{`two nodes gossip as "n1"`, "give one of them another node-id"}, {`"n1"`, "give one of them another node-id"}},
		},
		{
			"another key",
			[2]string{"n1", "n2"},
			func(t *testing.T, which int) []string { return slices.Concat(key(byte('a'+which)), relayAt(t)) },
			[2][]string{{"messages that can't be decrypted come from 127.0.0.1", "is gossip.key the same there?"}, {"no node of gossip.join could be reached"}},
		},
		{
			"gossip without relay",
			[2]string{"n1", "n2"},
			func(*testing.T, int) []string { return nil },
			[2][]string{{"not both gossip.listen and relay.listen"}, {"not both gossip.listen and relay.listen"}},
		},
		{
			"other authorities",
			[2]string{"n1", "n2"},
			func(t *testing.T, which int) []string {
				return slices.Concat(relayAt(t), certificates(t, fmt.Sprintf("n%d", which+1)))
			},
			[2][]string{{`node "n2" can't be asked`, "give all nodes of the region"}, {`node "n1" can't be asked`, "give all nodes of the region"}},
		},
		{
			"group protocols",
			[2]string{"n1", "n2"},
			func(t *testing.T, which int) []string {
				return append(relayAt(t), "--kafka-group-protocol", []string{"classic", "consumer"}[which])
			},
			[2][]string{nil, {"is of another protocol than consumer", "give all its nodes the same kafka.group-protocol"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			first := p.launch(c.ids[0], p.join, c.args(t, 0)...)
			if err := first.AwaitReady(time.Minute); err != nil {
				t.Fatalf("%v\n%s", err, first.Log())
			}
			second := p.launch(c.ids[1], porttest.Free(t, "127.0.0.1"), c.args(t, 1)...)
			for i, n := range []node{first, second} {
				if c.wanted[i] != nil {
					n.tells(c.wanted[i]...)
					n.quiet(c.wanted[i]...) // a connection may fail for another reason, too, when the machine is very busy
				}
			}
		})
	}
}

// TestBackupsCannotBeUsed: a directory for backups that is missing is a trouble until it is there.
func TestBackupsCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "backups")
	n := start(t, "--partitions", "1", "--backup-url", "file://"+dir, "--backup-create")
	n.tells("backups: ", "the bucket does not exist")
	if _, status := n.health(); status != 200 {
		t.Errorf("it is not ready: %d", status)
	}
	n.quiet("backups: ")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n.cleared("backups: ")
}

// certificate makes an authority, and by it a certificate that is good for servers and clients.
func certificate(t *testing.T, name string) (ca, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	key = write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return cert, cert, key // it vouches for itself
}
