package crashtest

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/replication/mutationlog"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
)

// checkLog reads the log of a server that has ended. Every acknowledged number must be in the record at
// the position that was acknowledged; each writer's numbers must be there once and in order; and a replay
// of the log into an empty store must come to the digests on disk.
func (l *ledger) checkLog(t *testing.T, dataDir string) {
	t.Helper()
	log := openLog(t, dataDir)
	n := log.Partitions()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	bounds, err := log.Bounds(ctx)
	if err != nil {
		t.Fatal(err)
	}
	onDisk := openStore(t, dataDir, n)
	replayed := openStore(t, t.TempDir(), n)
	numbers := make([][]int, writers) // in the order of the log
	at := map[string]string{}         // position → "writer:number"
	for p := range n {
		records := readPartition(ctx, t, log, p, bounds[p])
		for _, r := range records {
			cs, rej := change.Decode(r.Value, change.MaxLevel)
			if rej != nil {
				t.Errorf("record %d@%d: %v", p, r.Offset, rej)
				continue
			}
			for _, op := range cs.Ops {
				put, ok := op.(zones.OpPutRRset)
				if !ok {
					continue
				}
				label, ours := strings.CutPrefix(put.RRset.Owner.Label(), "w")
				if !ours {
					continue
				}
				w, err := strconv.Atoi(label)
				number, err2 := strconv.Atoi(string(put.RRset.First()[1:]))
				if err != nil || err2 != nil {
					t.Fatalf("record %d@%d is none of ours", p, r.Offset)
				}
				numbers[w] = append(numbers[w], number)
				at[store.Position{Partition: p, Offset: r.Offset}.String()] = fmt.Sprintf("%d:%d", w, number)
			}
		}
		disk, err := onDisk.Open(p, log.TopicID())
		if err != nil {
			t.Fatal(err)
		}
		again, err := replayed.Open(p, log.TopicID())
		if err != nil {
			t.Fatal(err)
		}
		// The disk may be behind the log: what was not applied yet is applied at the next start.
		applied := disk.Applied().Offset
		for start := 0; start < len(records) && records[start].Offset <= applied; {
			end := start
			for end < len(records) && end < start+97 && records[end].Offset <= applied {
				end++
			}
			if _, err := again.ApplyAfter(records[start:end]); err != nil {
				t.Fatal(err)
			}
			start = end
		}
		want, _ := again.Digest()
		got, offset := disk.Digest()
		if got != want {
			t.Errorf("partition %d at %d: digest on disk %s, of the replay %s", p, offset, got, want)
		}
		if err := disk.Scrub(ctx); err != nil {
			t.Errorf("partition %d: %v", p, err)
		}
	}
	for w := range l.lines {
		if !slices.IsSorted(numbers[w]) || len(slices.Compact(slices.Clone(numbers[w]))) != len(numbers[w]) {
			t.Errorf("writer %d: numbers twice or out of order in the log: %v", w, numbers[w])
		}
		for number, position := range l.lines[w].acked {
			if got, want := at[position], fmt.Sprintf("%d:%d", w, number); got != want {
				t.Errorf("writer %d was told that %d is at %s, where the log has %q", w, number, position, got)
			}
		}
	}
}

func openLog(t *testing.T, dataDir string) *mutationlog.Log {
	t.Helper()
	log, err := mutationlog.Open(mutationlog.Options{
		Namespace: "balefire", Dir: filepath.Join(dataDir, "log"),
		CacheFile: filepath.Join(t.TempDir(), "control"), Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-log.Established():
	case <-time.After(time.Minute):
		t.Fatalf("the log is not there: %+v", log.Status())
	}
	return log
}

func openStore(t *testing.T, dir string, partitions int32) *store.Store {
	t.Helper()
	s, err := store.New(store.Options{
		Dir: dir, Logger: zerolog.Nop(),
		Belongs: func(key []byte, partition int32) bool { return mutationlog.PartitionOf(key, partitions) == partition },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func readPartition(ctx context.Context, t *testing.T, log *mutationlog.Log, p int32, b mutationlog.Bounds) []store.Record {
	t.Helper()
	if b.End == b.Start {
		return nil
	}
	stream, err := log.Consume(p, b.Start, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var all []store.Record
	for len(all) == 0 || all[len(all)-1].Offset < b.End-1 {
		batch, err := stream.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range batch.Records {
			all = append(all, store.Record{Offset: r.Offset, LeaderEpoch: r.LeaderEpoch, Time: r.Time, Key: r.Key, Value: r.Value})
		}
	}
	return all
}
