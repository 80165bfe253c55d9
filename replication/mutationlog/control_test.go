package mutationlog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cluster is a broker in memory that several logs can share and that can be out of reach.
type cluster struct {
	network *kfake.VirtualNetwork
	broker  *kfake.Cluster
	granted atomic.Bool // what a test refuses until then

	mu    sync.Mutex
	away  bool
	conns []net.Conn
}

func newCluster(t *testing.T, opts ...kfake.Opt) *cluster {
	t.Helper()
	c := &cluster{network: new(kfake.VirtualNetwork)}
	broker, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(c.network.Listen)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	c.broker = broker
	return c
}

func (c *cluster) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return nil, errors.New("out of reach")
	}
	conn, err := c.network.DialContext(ctx, network, addr)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cluster) setAway(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func (c *cluster) options(t *testing.T, node string) Options {
	t.Helper()
	return Options{
		Namespace: "test", Brokers: []string{"127.0.0.1:9092"}, Partitions: 4, CacheFile: filepath.Join(t.TempDir(), node+".json"),
		DeliveryTimeout: 20 * time.Second, Logger: zerolog.Nop(), Client: []kgo.Opt{kgo.Dialer(c.dial)},
		watch: 2 * metadataAge,
	}
}

func TestNodesShareTheControlTopic(t *testing.T) {
	c := newCluster(t)
	one, two := c.options(t, "one"), c.options(t, "two")
	two.Partitions = 32
	a, b := open(t, one), open(t, two)
	if a.TopicID() != b.TopicID() || a.Partitions() != 4 || b.Partitions() != 4 {
		t.Fatalf("%x %d, %x %d", a.TopicID(), a.Partitions(), b.TopicID(), b.Partitions())
	}
	before := a.CookieSecrets()
	if len(before) != 2 || before[0] == before[1] || b.CookieSecrets()[0] != before[0] {
		t.Fatalf("%d secrets", len(before))
	}
	changed := b.Control().Changed()
	if err := a.RotateCookieSecret(deadline(t)); err != nil {
		t.Fatal(err)
	}
	after := a.CookieSecrets()
	if len(after) != 3 || after[0] != before[1] || after[2] != before[0] {
		t.Fatal("the next secret is not in use, or the previous one is gone")
	}
	select {
	case <-changed:
	case <-deadline(t).Done():
		t.Fatal("the other node was not told")
	}
	if got := b.CookieSecrets(); len(got) != 3 || got[0] != after[0] {
		t.Fatal("the other node has other secrets")
	}
	if err := b.RotateCookieSecret(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if got := b.CookieSecrets(); len(got) != 3 || got[0] != after[1] || got[2] != after[0] {
		t.Fatal("the second rotation went wrong")
	}
	if err := a.PutControl(deadline(t), "policy/x", []byte(`{"v":9}`)); err != nil {
		t.Fatal(err)
	}
	if value, ok := a.Control().Get("policy/x"); !ok || string(value) != `{"v":9}` {
		t.Fatalf("read back %q", value)
	}
	if list := a.Control().List("policy/"); len(list) != 1 || string(list["policy/x"]) != `{"v":9}` {
		t.Fatalf("listed %q", list)
	}
	if list := a.Control().List("polic/"); len(list) != 0 {
		t.Fatalf("listed %q", list)
	}
	if err := a.PutControl(deadline(t), "x", make([]byte, maxControlRecord+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if err := a.PutControl(deadline(t), "x", nil); !errors.Is(err, ErrRefused) {
		t.Fatal(err)
	}
}

func TestStartsWithoutTheLog(t *testing.T) {
	c := newCluster(t)
	opts := c.options(t, "node")
	l := open(t, opts)
	id, secrets := l.TopicID(), l.CookieSecrets()
	if info, err := os.Stat(opts.CacheFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the copy holds secrets: %v, %v", info.Mode(), err)
	}
	l.Close()
	c.setAway(true)
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.TopicID() != id || l.Partitions() != 4 || len(l.CookieSecrets()) != 2 || l.CookieSecrets()[0] != secrets[0] {
		t.Fatal("what the control topic said last is not known")
	}
	c.setAway(false)
	select {
	case <-l.Established():
	case <-deadline(t).Done():
		t.Fatalf("never established: %+v", l.Status())
	}
	if s := l.Status(); !s.Reachable || s.Trying != nil {
		t.Fatalf("status %+v", s)
	}
}

func TestControlIsReplayedWithoutACopy(t *testing.T) {
	c := newCluster(t)
	opts := c.options(t, "node")
	l := open(t, opts)
	for i := range 300 {
		if err := l.PutControl(deadline(t), fmt.Sprint("key/", i%7), fmt.Appendf(nil, `{"v":1,"n":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	secrets := l.CookieSecrets()
	l.Close()
	for name, spoil := range map[string]func() error{
		"missing": func() error { return os.Remove(opts.CacheFile) },
		"damaged": func() error {
			data, err := os.ReadFile(opts.CacheFile)
			if err != nil {
				return err
			}
			return os.WriteFile(opts.CacheFile, []byte(strings.Replace(string(data), `"partitions"`, `"partition5"`, 1)[:len(data)-1]), 0o600)
		},
		"of another namespace": func() error {
			cache := cacheFile{V: controlVersion, Namespace: "other", Topic: hex.EncodeToString(make([]byte, 16))}
			text, err := cache.seal()
			return errors.Join(err, os.WriteFile(opts.CacheFile, text, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			l := open(t, opts)
			defer l.Close()
			if value, _ := l.Control().Get("key/5"); string(value) != `{"v":1,"n":299}` {
				t.Fatalf("key/5 is %s", value)
			}
			if l.CookieSecrets()[0] != secrets[0] {
				t.Fatal("other secrets")
			}
		})
	}
}

func TestAnotherTopicUnderTheSameName(t *testing.T) {
	c := newCluster(t)
	opts := c.options(t, "node")
	l := open(t, opts)
	publish(t, l, 0, "x")
	s, err := l.Consume(0, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	read(t, s, 1)
	ctx := deadline(t)
	if err := errors.Join(c.broker.DeleteTopic(l.mutations), c.broker.CreateTopic(l.mutations, 4, nil)); err != nil {
		t.Fatal(err)
	}
	// While running: found by the watch, and the stream ends.
	var mismatch *MismatchError
	for !errors.As(err, &mismatch) {
		if _, err = s.Next(ctx); ctx.Err() != nil {
			t.Fatalf("the stream gives %v", err)
		}
	}
	if _, err := l.Publish(ctx, 0, nil, []byte("y")); !errors.Is(err, ErrRefused) || !errors.As(err, &mismatch) {
		t.Fatalf("publish: %v", err)
	}
	l.Close()
	// At the next start too, with and without the copy.
	for range 2 {
		l, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		waitForFault(t, l)
		if !errors.As(l.Status().Fault, &mismatch) || mismatch.What != "topic id" || l.Status().Established {
			t.Fatalf("status %+v", l.Status())
		}
		if l.Partitions() != 4 {
			t.Fatal("the recorded count is not known")
		}
		l.Close()
		os.Remove(opts.CacheFile)
	}
}

func TestAnotherPartitionCount(t *testing.T) {
	c := newCluster(t)
	opts := c.options(t, "node")
	l := open(t, opts)
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: l.mutations, Count: 6}}
	grown, err := grow.RequestWith(deadline(t), l.client)
	if err != nil || grown.Topics[0].ErrorCode != 0 {
		t.Fatalf("%+v, %v", grown, err)
	}
	waitForFault(t, l)
	var mismatch *MismatchError
	if !errors.As(l.Status().Fault, &mismatch) || mismatch.Recorded != "4" || mismatch.Found != "6" {
		t.Fatalf("fault %v", l.Status().Fault)
	}
	if l.Partitions() != 4 {
		t.Fatal("the count that counts is the recorded one")
	}
}

func TestMissingTopicsAreNotMadeAgain(t *testing.T) {
	c := newCluster(t)
	opts := c.options(t, "node")
	l := open(t, opts)
	topics := []string{l.mutations, l.controls}
	l.Close()
	for _, name := range topics {
		if err := c.broker.DeleteTopic(name); err != nil {
			t.Fatal(err)
		}
		l, err := Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		for ctx := deadline(t); l.Status().Trying == nil; {
			if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
				t.Fatalf("status %+v", l.Status())
			}
		}
		if err := l.Status().Trying; !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "missing") {
			t.Fatalf("trying: %v", err)
		}
		if c.broker.TopicInfo(name) != nil {
			t.Fatalf("topic %s was made again", name)
		}
		l.Close()
	}
}

func waitForFault(t *testing.T, l *Log) {
	t.Helper()
	for ctx := deadline(t); l.Status().Fault == nil; {
		if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
			t.Fatalf("no fault: %+v", l.Status())
		}
	}
}

func TestPublishTellsRefusedFromUnknown(t *testing.T) {
	c := newCluster(t)
	opts := c.options(t, "node")
	opts.DeliveryTimeout = 2 * time.Second // it is waited for
	l := open(t, opts)
	publish(t, l, 0, "in")
	c.setAway(true)
	// Nobody knows yet that the connection is gone: the record may have been on it.
	if _, err := l.Publish(deadline(t), 0, nil, []byte("perhaps")); !errors.Is(err, ErrUnknown) {
		t.Fatalf("over a broken connection: %v", err)
	}
	for ctx := deadline(t); l.Status().Reachable; {
		if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
			t.Fatal("the loss of the log was not noticed")
		}
	}
	if _, err := l.Publish(deadline(t), 0, nil, []byte("never sent")); !errors.Is(err, ErrRefused) {
		t.Fatalf("without a connection: %v", err)
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Publish(over, 0, nil, []byte("never sent")); !errors.Is(err, ErrRefused) {
		t.Fatalf("with a context that is over: %v", err)
	}
	c.setAway(false)
	for ctx := deadline(t); !l.Status().Reachable; {
		if !l.sleep(10*time.Millisecond) || ctx.Err() != nil {
			t.Fatal("the return of the log was not noticed")
		}
	}
	last := publish(t, l, 0, "again")
	s, err := l.Consume(0, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range read(t, s, int(last)+1) {
		if string(r.Value) == "never sent" {
			t.Fatal("what was refused is in the log")
		}
	}
	// Sent, but without an answer.
	answered := make(chan struct{})
	c.broker.ControlKey(0, func(kmsg.Request) (kmsg.Response, error, bool) {
		defer close(answered)
		return nil, errors.New("the connection breaks"), true
	})
	slow, cancelSlow := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancelSlow()
	offset, err := l.Publish(slow, 0, nil, []byte("lost answer"))
	select {
	case <-answered:
	case <-deadline(t).Done():
		t.Fatal("it was not sent")
	}
	if err != nil && !errors.Is(err, ErrUnknown) {
		t.Fatalf("without an answer: %d, %v", offset, err)
	}
}

func TestUnsafeSettings(t *testing.T) {
	safe := map[string]string{
		settingCleanup: "delete", settingRetention: "-1", settingBytes: "-1", settingInSync: "2",
		settingUnclean: "false", settingTimestamps: "LogAppendTime", settingMessage: "1048588",
	}
	if got := unsafeSettings("t", safe, 3, "delete", 0); len(got) != 0 {
		t.Fatalf("safe, but %v", got)
	}
	for _, test := range []struct {
		setting, value string
		replicas       int16
		keep           time.Duration
		want           string
	}{
		{settingCleanup, "compact", 3, 0, settingCleanup},
		{settingCleanup, "compact,delete", 3, 0, settingCleanup},
		{settingRetention, "604800000", 3, 0, settingRetention},
		{settingRetention, "3600000", 3, 2 * time.Hour, settingRetention},
		{settingRetention, "10800000", 3, 2 * time.Hour, ""},
		{settingBytes, "1000000", 3, 0, settingBytes},
		{settingInSync, "1", 3, 0, settingInSync},
		{settingInSync, "3", 3, 0, settingInSync},
		{settingUnclean, "true", 3, 0, settingUnclean},
		{settingTimestamps, "CreateTime", 3, 0, settingTimestamps},
		{settingMessage, "500000", 3, 0, settingMessage},
		{settingMessage, "1048588", 1, 0, replication},
	} {
		settings := make(map[string]string)
		for k, v := range safe {
			settings[k] = v
		}
		settings[test.setting] = test.value
		got := unsafeSettings("t", settings, test.replicas, "delete", test.keep)
		switch {
		case test.want == "" && len(got) != 0:
			t.Errorf("%s=%s: %v", test.setting, test.value, got)
		case test.want != "" && (len(got) != 1 || got[0].Setting != test.want || got[0].Why == "" || got[0].Want == ""):
			t.Errorf("%s=%s: %v, want a complaint about %s", test.setting, test.value, got, test.want)
		}
	}
}

func TestCookieRecordIsChecked(t *testing.T) {
	good := cookieRecord{}.rotated().rotated().rotated().rotated()
	if len(good.Secrets) != 3 || good.Secrets[2].Generation != 4 || good.Secrets[0].Generation != 2 {
		t.Fatalf("%+v", good)
	}
	for name, spoil := range map[string]func(r *cookieRecord){
		"newer version": func(r *cookieRecord) { r.V = 2 },
		"short secret":  func(r *cookieRecord) { r.Secrets[1].Secret = "abcd" },
		"one secret":    func(r *cookieRecord) { r.Secrets = r.Secrets[:1] },
	} {
		r := cookieRecord{V: good.V, Secrets: append([]cookieSecret(nil), good.Secrets...)}
		spoil(&r)
		value, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseCookieRecord(value); err == nil || strings.Contains(err.Error(), good.Secrets[1].Secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
