package mutationlog

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"balefire/replication/porttest"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func startBroker(t *testing.T, opts BrokerOptions) *Broker {
	t.Helper()
	b, err := StartBroker(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func brokerOptions(dir string) BrokerOptions {
	return BrokerOptions{Dir: dir, Listen: "127.0.0.1:0", Logger: zerolog.Nop()}
}

// nodeOptions are those of a node that uses a broker.
func nodeOptions(t *testing.T, b *Broker, namespace string) Options {
	t.Helper()
	s, ok := b.ClientSecurity()
	if !ok {
		t.Fatal("no certificates were made")
	}
	client, err := s.Options()
	if err != nil {
		t.Fatal(err)
	}
	return Options{
		Namespace: namespace, Brokers: []string{b.Address()}, Partitions: 4, CacheFile: filepath.Join(t.TempDir(), "control.json"),
		DeliveryTimeout: 20 * time.Second, Logger: zerolog.Nop(), Client: client,
		watch: 2 * metadataAge,
	}
}

func TestDevelopmentBroker(t *testing.T) {
	b := startBroker(t, brokerOptions(t.TempDir()))
	use := backend{patience: patience, options: func(t *testing.T, namespace, _ string) Options { return nodeOptions(t, b, namespace) }}
	runEveryLog(t, use)
	runShared(t, use)
	select {
	case err := <-b.Failed():
		t.Fatal(err)
	default:
	}
}

// What was acknowledged or committed is there when the broker comes back, at the same address, and nodes find it again.
func TestDevelopmentBrokerRestarts(t *testing.T) {
	opts := brokerOptions(t.TempDir())
	opts.Listen = porttest.Free(t, "127.0.0.1")
	b := startBroker(t, opts)
	l := open(t, nodeOptions(t, b, "ns"))
	if err := l.RegisterGroup(deadline(t), "r", "g"); err != nil {
		t.Fatal(err)
	}
	want := Progress{Partition: 2, Next: 5, Epoch: -1, Time: time.UnixMilli(1790000000123).UTC(), Node: "n", Catalog: 3}
	for i := range 5 {
		publish(t, l, 2, string(rune('a'+i)))
	}
	commit(t, l, l.GroupName("r", "g"), want)
	second := opts
	second.Listen = "127.0.0.1:0"
	if _, err := StartBroker(second); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second broker on the same directory: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, opts)
	if b.Address() != opts.Listen {
		t.Fatalf("address %s, was %s", b.Address(), opts.Listen)
	}
	var offset int64
	await(t, l, "a publish", func() bool {
		var err error
		offset, err = l.Publish(deadline(t), 2, []byte("k"), []byte("more"))
		return err == nil
	})
	if offset < 5 {
		t.Fatalf("offset %d is given twice", offset)
	}
	s, err := l.Consume(2, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range read(t, s, 5)[:5] {
		if string(r.Value) != string(rune('a'+i)) {
			t.Fatalf("record %d is %q", i, r.Value)
		}
	}
	got, err := l.FetchProgress(deadline(t), l.Groups())
	if err != nil || len(got[l.Groups()[0]]) != 1 || got[l.Groups()[0]][0] != want {
		t.Fatalf("committed %+v, %v", got, err)
	}
}

// A node that restarts under the same instance id has its partitions again, without anything moving.
func TestDevelopmentBrokerKeepsStaticMembers(t *testing.T) {
	b := startBroker(t, brokerOptions(t.TempDir()))
	l := open(t, nodeOptions(t, b, "ns"))
	described := func() kadm.DescribedGroup {
		groups, err := l.admin.DescribeGroups(deadline(t), l.GroupName("r", "g"))
		if err != nil {
			t.Fatal(err)
		}
		return groups[l.GroupName("r", "g")]
	}
	assigned := func(d kadm.DescribedGroup) map[string]int {
		all := make(map[string]int)
		for _, m := range d.Members {
			if a, ok := m.Assigned.AsConsumer(); ok && m.InstanceID != nil {
				for _, topic := range a.Topics {
					for _, p := range topic.Partitions {
						all[*m.InstanceID] |= 1 << p
					}
				}
			}
		}
		return all
	}
	one, _ := join(t, l, "r", "g", "one"), join(t, l, "r", "g", "two")
	var before map[string]int
	await(t, l, "two members with two partitions each", func() bool {
		before = assigned(described())
		return len(before) == 2 && before["one"]|before["two"] == 0b1111 && before["one"]&before["two"] == 0
	})
	one.Close()
	for _, m := range described().Members {
		if !strings.HasPrefix(m.ClientHost, "127.0.0.1:") {
			t.Errorf("the broker does not see where its client is: %q", m.ClientHost)
		}
	}
	if n := len(described().Members); n != 2 {
		t.Fatalf("%d members after one went away for a while", n)
	}
	join(t, l, "r", "g", "one")
	await(t, l, "the member to be back, with what it had", func() bool {
		group := described()
		return group.State == "Stable" && maps.Equal(assigned(group), before)
	})
}

// Nothing is ever removed from its topics, whatever a client asks for.
func TestDevelopmentBrokerRemovesNothing(t *testing.T) {
	b := startBroker(t, brokerOptions(t.TempDir()))
	l := open(t, nodeOptions(t, b, "ns"))
	configs, err := l.admin.DescribeTopicConfigs(deadline(t), l.mutations, l.controls, l.catalogs)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range configs {
		have := settingsOf(c)
		if have[settingCleanup] != "delete" || have[settingRetention] != "-1" || have[settingBytes] != "-1" {
			t.Errorf("topic %s: %s %s %s", c.Name, have[settingCleanup], have[settingRetention], have[settingBytes])
		}
	}
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: settingCleanup, Value: value("compact")}}
	if done, err := l.admin.AlterTopicConfigs(deadline(t), change, l.controls); err == nil && done[0].Err == nil {
		t.Fatal("a client has changed a topic's settings")
	}
}

// Only clients with a certificate of the broker's authority come in.
func TestDevelopmentBrokerWantsCertificates(t *testing.T) {
	b := startBroker(t, brokerOptions(t.TempDir()))
	right, _ := b.ClientSecurity()
	stranger, err := OpenAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Client("me"); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Security{
		"none":         {TLS: true, CA: right.CA},
		"a stranger's": {TLS: true, CA: right.CA, Cert: stranger.CertFile("me"), Key: stranger.KeyFile("me")},
		"no TLS":       {},
	} {
		if err := ping(t, b, s); err == nil {
			t.Errorf("a client came in with certificate: %s", name)
		}
	}
	if err := ping(t, b, right); err != nil {
		t.Fatalf("the right certificate: %v", err)
	}
	// The client's side of it.
	if err := ping(t, b, Security{TLS: true, CA: stranger.CertFile("ca"), Cert: right.Cert, Key: right.Key}); err == nil {
		t.Error("a client spoke to another authority's broker")
	}
	opts := brokerOptions(t.TempDir())
	opts.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven}
	second := opts
	second.Listen = "127.0.0.1:0"
	if _, err := StartBroker(second); err == nil || !strings.Contains(err.Error(), "verify") {
		t.Errorf("a broker for anyone: %v", err)
	}
}

func ping(t *testing.T, b *Broker, s Security) error {
	t.Helper()
	opts, err := s.Options()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Address()), kgo.RequestRetries(0))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	return client.Ping(deadline(t))
}

// frame is a request as octets: its length, as it says, and the rest.
func frame(length uint32, key, version int16, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	b = binary.BigEndian.AppendUint16(b, uint16(key))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	return append(b, rest...)
}

// What the broker can't bear does not reach it, and it goes on.
func TestGuard(t *testing.T) {
	b := startBroker(t, brokerOptions(t.TempDir()))
	s, _ := b.ClientSecurity()
	cfg, err := s.tlsConfig()
	if err != nil {
		t.Fatal(err)
	}
	header := []byte{0, 0, 0, 1, 0xff, 0xff} // correlation id, no client id
	for name, text := range map[string][]byte{
		"an unknown key":         frame(10, 9999, 0, header...),
		"a negative key":         frame(10, -1, 0, header...),
		"a key that changes":     frame(10, int16(kmsg.IncrementalAlterConfigs), 1, header...),
		"an unknown version":     frame(10, int16(kmsg.Metadata), 99, header...),
		"a negative version":     frame(10, int16(kmsg.Metadata), -1, header...),
		"2 GiB":                  frame(1<<31-1, int16(kmsg.Metadata), 1, header...),
		"a negative length":      frame(1<<32-4, int16(kmsg.Metadata), 1, header...),
		"no length":              frame(0, int16(kmsg.Metadata), 1, header...),
		"a client id of 32767":   frame(10, int16(kmsg.Metadata), 1, 0, 0, 0, 1, 0x7f, 0xff),
		"no body":                frame(10, int16(kmsg.Produce), 9, header...),
		"an array of 2147483647": frame(14, int16(kmsg.Metadata), 1, append(header, 0x7f, 0xff, 0xff, 0xff)...),
		"HTTP":                   []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		conn, err := tls.Dial("tcp", b.Address(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(text); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if answer, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays, after %d octets", name, len(answer))
		}
		conn.Close()
		if err := ping(t, b, s); err != nil {
			t.Fatalf("after %s: %v", name, err)
		}
	}
}

// trickle is a connection from which some octets come, and then no more.
type trickle struct {
	net.Conn
	from io.Reader
}

func (c trickle) Read(b []byte) (int, error)      { return c.from.Read(b) }
func (c trickle) SetReadDeadline(time.Time) error { return nil }

func TestGuardMemoryGrowsWithWhatArrives(t *testing.T) {
	allowed := map[int16]versionRange{0: {0, 9}}
	said := frame(maxFrame, 0, 9, make([]byte, 1000)...)
	var buffer bytes.Buffer
	if err := readFrame(&buffer, trickle{from: bytes.NewReader(said)}, allowed); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if buffer.Cap() > 16<<10 {
		t.Fatalf("%d octets for %d", buffer.Cap(), len(said))
	}
	whole := frame(10, 0, 9, 1, 2, 3, 4, 5, 6)
	buffer.Reset()
	if err := readFrame(&buffer, trickle{from: bytes.NewReader(append(whole, 7, 8))}, allowed); err != nil || !bytes.Equal(buffer.Bytes(), whole) {
		t.Fatalf("%x, %v", buffer.Bytes(), err)
	}
}

// The guard does not count on the broker to refuse these.
func TestGuardRefuses(t *testing.T) {
	allowed := map[int16]versionRange{3: {1, 9}}
	header := []byte{0, 0, 0, 1, 0xff, 0xff}
	for name, text := range map[string][]byte{
		"a key that is not taken": frame(10, 4, 1, header...),
		"a version too high":      frame(10, 3, 10, header...),
		"a version too low":       frame(10, 3, 0, header...),
		"shorter than a header":   frame(minFrame-1, 3, 1, header...),
		"too long":                frame(maxFrame+1, 3, 1, header...),
	} {
		if err := readFrame(new(bytes.Buffer), trickle{from: bytes.NewReader(text)}, allowed); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := readFrame(new(bytes.Buffer), trickle{from: bytes.NewReader(frame(10, 3, 9, header...))}, allowed); err != nil {
		t.Error(err)
	}
}

func FuzzGuard(f *testing.F) {
	f.Add(frame(10, 0, 9, 1, 2, 3, 4, 5, 6))
	f.Add(frame(maxFrame+1, 0, 9))
	f.Fuzz(func(t *testing.T, text []byte) {
		var buffer bytes.Buffer
		err := readFrame(&buffer, trickle{from: bytes.NewReader(text)}, map[int16]versionRange{0: {3, 9}, 18: {0, 4}})
		if err != nil {
			return
		}
		passed := buffer.Bytes()
		if len(passed) != int(binary.BigEndian.Uint32(passed))+4 || !bytes.HasPrefix(text, passed) || passed[4] != 0 || passed[5] != 0 && passed[5] != 18 {
			t.Fatalf("passed on %x", passed)
		}
	})
}

func TestBrokerThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*BrokerOptions)
		want   string
	}{
		"all addresses":   {func(o *BrokerOptions) { o.Listen = ":0" }, "what to advertise"},
		"no port":         {func(o *BrokerOptions) { o.Advertise = "host" }, "advertise"},
		"no such address": {func(o *BrokerOptions) { o.Listen = "192.0.2.1:1" }, "192.0.2.1"},
		"damaged segments": {func(o *BrokerOptions) {
			segment := filled(t, Options{Namespace: "test", Dir: o.Dir, CacheFile: filepath.Join(o.Dir, "..", "control.json"), Partitions: 4}, 5)
			damageFile(t, segment, func(d []byte) []byte { d[len(d)/2] ^= 1; return d })
		}, ErrCorrupt.Error()},
	} {
		opts := brokerOptions(filepath.Join(t.TempDir(), "log"))
		c.change(&opts)
		if b, err := StartBroker(opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
			if err == nil {
				b.Close()
			}
		}
	}
	opts := brokerOptions(t.TempDir())
	opts.Listen, opts.Advertise = "0.0.0.0:0", "127.0.0.1:9"
	if b := startBroker(t, opts); b.Address() != "127.0.0.1:9" {
		t.Errorf("address %s", b.Address())
	}
}

func TestAuthority(t *testing.T) {
	dir := t.TempDir()
	a, err := OpenAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Client("c"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(a.CertFile("c"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(a.KeyFile("ca")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key's mode: %v, %v", info, err)
	}
	again, err := OpenAuthority(dir)
	if err != nil || !again.cert.Equal(a.cert) {
		t.Fatalf("another authority: %v", err)
	}
	if err := again.Client("c"); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(a.CertFile("c")); err != nil || !bytes.Equal(before, after) {
		t.Fatalf("the certificate was made again: %v", err)
	}
	if err := os.Remove(a.CertFile("ca")); err != nil {
		t.Fatal(err)
	}
	other, err := OpenAuthority(dir)
	if err != nil || other.cert.Equal(a.cert) {
		t.Fatalf("without its certificate: %v", err)
	}
	if err := other.Client("c"); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(a.CertFile("c")); err != nil || bytes.Equal(before, after) {
		t.Fatalf("a certificate of the old authority was kept: %v", err)
	}
}
