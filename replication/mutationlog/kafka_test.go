//go:build kafka

package mutationlog

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"balefire/replication/kafkatest"
)

func kafkaOptions(t *testing.T, broker *kafkatest.Broker) Options {
	t.Helper()
	return Options{
		Namespace: "real", Brokers: []string{broker.Address()}, Partitions: 5,
		CacheFile: filepath.Join(t.TempDir(), "control.json"), DeliveryTimeout: 20 * time.Second, Logger: zerolog.Nop(),
	}
}

// openKafka opens a log and waits for longer than the start of a Java program takes.
func openKafka(t *testing.T, opts Options) *Log {
	t.Helper()
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	select {
	case <-l.Established():
	case <-time.After(3 * time.Minute):
		t.Fatalf("not established: %+v", l.Status())
	}
	return l
}

func TestKafka(t *testing.T) {
	broker := kafkatest.Start(t)
	opts := kafkaOptions(t, broker)
	l := openKafka(t, opts)
	t.Run("topics are made safe, and complained about", func(t *testing.T) {
		settings, err := l.admin.DescribeTopicConfigs(deadline(t), l.mutations, l.controls, l.catalogs)
		if err != nil {
			t.Fatal(err)
		}
		for topic, want := range map[string]map[string]string{
			l.mutations: {settingCleanup: "delete", settingRetention: "-1", settingBytes: "-1", settingUnclean: "false", settingTimestamps: "LogAppendTime"},
			l.controls:  {settingCleanup: "compact", settingUnclean: "false"},
			l.catalogs:  {settingCleanup: "compact", settingUnclean: "false", settingSegment: "67108864"},
		} {
			config, err := settings.On(topic, nil)
			if err != nil {
				t.Fatal(err)
			}
			have := settingsOf(config)
			for setting, value := range want {
				if have[setting] != value {
					t.Errorf("topic %s: %s is %s, want %s", topic, setting, have[setting], value)
				}
			}
		}
		var about []string
		await(t, l, "what is unsafe about each topic", func() bool { // the catalog's settings may be known at the next look only
			about = nil
			for _, c := range l.Status().Complaints {
				about = append(about, c.Topic+" "+c.Setting)
			}
			return len(about) == 6
		})
		// One broker can't do better, and that is said.
		want := "[real.mutations replication factor real.mutations min.insync.replicas real.control replication factor real.control min.insync.replicas " +
			"real.catalog replication factor real.catalog min.insync.replicas]"
		if fmt.Sprint(about) != want {
			t.Errorf("complaints %v", about)
		}
	})
	t.Run("only the embedded log is trimmed", func(t *testing.T) {
		if err := l.Trim(deadline(t), 3, 0); err == nil {
			t.Fatal("the brokers' log was trimmed")
		}
	})
	t.Run("our partitioner is the client's", func(t *testing.T) {
		client, err := kgo.NewClient(kgo.SeedBrokers(opts.Brokers...), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for i := range 50 {
			key := fmt.Sprintf("zone%d.example.", i)
			r, err := client.ProduceSync(deadline(t), &kgo.Record{Topic: l.mutations, Key: []byte(key), Value: []byte("x")}).First()
			if err != nil {
				t.Fatal(err)
			}
			if want := PartitionOf([]byte(key), 5); r.Partition != want {
				t.Fatalf("%s went to %d, we say %d", key, r.Partition, want)
			}
		}
	})
	t.Run("as any brokers", func(t *testing.T) {
		b := backend{patience: 3 * time.Minute, options: func(t *testing.T, namespace, _ string) Options {
			opts := kafkaOptions(t, broker)
			opts.Namespace, opts.Partitions = namespace, 4
			return opts
		}}
		runEveryLog(t, b)
		runShared(t, b)
	})
	t.Run("a compacted catalog", func(t *testing.T) { testCompactedCatalog(t, l) })
	t.Run("secrets", func(t *testing.T) {
		before := l.CookieSecrets()
		if err := l.RotateCookieSecret(deadline(t)); err != nil {
			t.Fatal(err)
		}
		other := openKafka(t, func() Options { o := kafkaOptions(t, broker); o.Partitions = 9; return o }())
		if got := other.CookieSecrets(); len(got) != 3 || got[0] != before[1] || other.Partitions() != 5 || other.TopicID() != l.TopicID() {
			t.Fatalf("another node has %d secrets and %d partitions", len(got), other.Partitions())
		}
		other.Close()
	})
	t.Run("the broker is killed and comes back", func(t *testing.T) {
		s, err := l.Consume(1, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		bounds, err := l.Bounds(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		first := bounds[1].End
		acknowledged := make(map[int64]string)
		var mu sync.Mutex
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for w := range 8 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					value := fmt.Sprintf("%d/%d", w, i)
					offset, err := l.Publish(context.Background(), 1, []byte("k"), []byte(value))
					if errors.Is(err, ErrRefused) {
						l.sleep(50 * time.Millisecond)
					}
					if err != nil {
						continue
					}
					mu.Lock()
					acknowledged[offset] = value
					mu.Unlock()
				}
			})
		}
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(acknowledged)
		}
		waitFor(t, l, func() bool { return count() > 200 })
		broker.Kill()
		waitFor(t, l, func() bool { return !l.Status().Reachable })
		if _, err := l.Publish(deadline(t), 1, nil, []byte("never")); !errors.Is(err, ErrRefused) {
			t.Errorf("publish without a broker: %v", err)
		}
		broker.Restart()
		had := count()
		waitFor(t, l, func() bool { return count() > had+200 })
		close(stop)
		wg.Wait()
		bounds, err = l.Bounds(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		next := int64(0)
		for next < bounds[1].End {
			batch, err := s.Next(deadline(t))
			if err != nil {
				t.Logf("stream: %v", err) // passing, while the broker was away
				continue
			}
			for _, r := range batch.Records {
				if r.Offset != next {
					t.Fatalf("offset %d after %d", r.Offset, next-1)
				}
				next++
				if want, ok := acknowledged[r.Offset]; ok && string(r.Value) != want && r.Offset >= first {
					t.Fatalf("%d holds %s, acknowledged was %s", r.Offset, r.Value, want)
				}
				delete(acknowledged, r.Offset)
			}
		}
		if len(acknowledged) > 0 {
			t.Fatalf("%d acknowledged records are gone", len(acknowledged))
		}
	})
	t.Run("another topic under the same name", func(t *testing.T) {
		if done, err := l.admin.DeleteTopics(deadline(t), l.mutations); err != nil || done.Error() != nil {
			t.Fatal(err, done.Error())
		}
		waitFor(t, l, func() bool {
			made, err := l.admin.CreateTopic(deadline(t), 5, 1, nil, l.mutations)
			return err == nil && made.Err == nil
		})
		waitFor(t, l, func() bool { return l.Status().Fault != nil })
		var mismatch *MismatchError
		if !errors.As(l.Status().Fault, &mismatch) || mismatch.What != "topic id" {
			t.Fatalf("fault %v", l.Status().Fault)
		}
		if _, err := l.Publish(deadline(t), 0, nil, []byte("x")); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "topic id") {
			t.Fatalf("publish: %v", err)
		}
	})
}

// testCompactedCatalog: what compaction leaves is read in order, with the tombstones that are still there, from any offset.
func testCompactedCatalog(t *testing.T, l *Log) {
	soon := []kadm.AlterConfig{
		{Op: kadm.SetConfig, Name: "segment.ms", Value: value("100")},
		{Op: kadm.SetConfig, Name: "min.cleanable.dirty.ratio", Value: value("0.01")},
	}
	if _, err := l.admin.AlterTopicConfigs(deadline(t), soon, l.catalogs); err != nil {
		t.Fatal(err)
	}
	end := int64(0)
	put := func(key string, value []byte) {
		offset, err := l.PublishCatalog(deadline(t), []byte(key), value)
		if err != nil {
			t.Fatal(err)
		}
		end = offset + 1
	}
	for range 5 {
		for _, key := range []string{"a.", "b."} {
			put(key, []byte(key))
		}
		put("gone.", nil)
	}
	// A segment ends when a record comes that is younger by segment.ms.
	waitFor(t, l, func() bool {
		l.sleep(200 * time.Millisecond)
		put("tick.", []byte("t"))
		offsets := readCatalog(t, l, 0, end)
		return offsets[0].Offset > 0 && len(offsets) < 15
	})
	all := readCatalog(t, l, 0, end)
	gone := slices.IndexFunc(all, func(r Record) bool { return string(r.Key) == "gone." })
	if gone < 0 || all[gone].Value != nil {
		t.Fatalf("the tombstone is not there: %+v", all)
	}
	for i, r := range all {
		if i > 0 && r.Offset <= all[i-1].Offset {
			t.Fatalf("offset %d after %d", r.Offset, all[i-1].Offset)
		}
	}
	if from := readCatalog(t, l, all[1].Offset-1, end); len(from) < len(all)-1 {
		t.Fatalf("from an offset that is gone: %d records, all are %d", len(from), len(all))
	}
}

func readCatalog(t *testing.T, l *Log, from, end int64) (records []Record) {
	t.Helper()
	s, err := l.ConsumeCatalog(from)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for at := from; at < end; {
		batch, err := s.Next(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		records, at = append(records, batch.Records...), batch.Next
	}
	return records
}

func waitFor(t *testing.T, l *Log, done func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); {
		if !l.sleep(20*time.Millisecond) || time.Now().After(end) {
			t.Fatalf("waited in vain: %+v", l.Status())
		}
	}
}
