package mutationlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"github.com/twmb/franz-go/pkg/kfake"
)

// childDir makes this binary a process that publishes until it is killed.
const childDir = "BALEFIRE_MUTATIONLOG_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		publishUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// publishUntilKilled prints each record when it is acknowledged: partition, offset, value.
func publishUntilKilled(dir string) {
	l, err := Open(Options{
		Namespace: "test", Dir: filepath.Join(dir, "log"), CacheFile: filepath.Join(dir, "control.json"), Partitions: 4,
		Logger: zerolog.Nop(),
	})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	<-l.Established()
	var out sync.Mutex
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				value := fmt.Sprintf("%d/%d/%d", os.Getpid(), w, i)
				offset, err := l.Publish(context.Background(), int32(w%4), []byte("k"), []byte(value))
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Println(w%4, offset, value)
				out.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKilledAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Log("seed", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	acknowledged := make(map[string]string) // partition@offset -> value
	for round := range 6 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		for n := 50 + random.IntN(400); n > 0 && lines.Scan(); n-- {
			note(t, acknowledged, lines.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what was acknowledged before it died
			note(t, acknowledged, lines.Text())
		}
		cmd.Wait()
		if len(acknowledged) < 50*(round+1) {
			t.Fatalf("round %d: only %d acknowledged", round, len(acknowledged))
		}
	}
	l := open(t, options(t, dir))
	bounds, err := l.Bounds(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, partition := range slices.Sorted(maps.Keys(bounds)) {
		s, err := l.Consume(partition, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range read(t, s, int(bounds[partition].End)) {
			if r.Offset != int64(i) {
				t.Fatalf("partition %d: offset %d at place %d", partition, r.Offset, i)
			}
			at := fmt.Sprintf("%d@%d", partition, r.Offset)
			if want, ok := acknowledged[at]; ok && want != string(r.Value) {
				t.Fatalf("%s holds %s, acknowledged was %s", at, r.Value, want)
			}
			delete(acknowledged, at)
			total++
		}
	}
	if len(acknowledged) > 0 {
		t.Fatalf("%d acknowledged records are gone: %v", len(acknowledged), slices.Sorted(maps.Keys(acknowledged))[:1])
	}
	t.Log(total, "records")
}

func note(t *testing.T, acknowledged map[string]string, line string) {
	t.Helper()
	fields := strings.Fields(line)
	if len(fields) != 3 {
		t.Fatalf("the child says %q", line)
	}
	at := fields[0] + "@" + fields[1]
	if was, ok := acknowledged[at]; ok {
		t.Fatalf("%s was given to %s and to %s", at, was, fields[2])
	}
	acknowledged[at] = fields[2]
}

// filled makes an embedded log with a few records in partition 0, closes it, and returns the path of its segment.
func filled(t *testing.T, opts Options, n int) string {
	t.Helper()
	l := open(t, opts)
	for i := range n {
		publish(t, l, 0, fmt.Sprint("a record, number ", i))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(opts.Dir, "broker", partitionFolder, "test.mutations-0", "0"+segmentSuffix)
}

func TestUnfinishedBatchIsCutOff(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"cut short":           func(d []byte) []byte { return d[:len(d)-5] },
		"only a header":       func(d []byte) []byte { return append(d, d[:20]...) },
		"zeros":               func(d []byte) []byte { return append(d, make([]byte, 4096)...) },
		"last one is garbage": func(d []byte) []byte { d[len(d)-3] ^= 0xff; return d },
	} {
		t.Run(name, func(t *testing.T) {
			opts := options(t, t.TempDir())
			segment := filled(t, opts, 5)
			damageFile(t, segment, damage)
			l := open(t, opts)
			bounds, err := l.Bounds(deadline(t))
			if err != nil || bounds[0].End < 4 || bounds[0].End > 5 {
				t.Fatalf("bounds %v, %v", bounds, err)
			}
			if offset := publish(t, l, 0, "next"); offset != bounds[0].End {
				t.Fatalf("offset %d, want %d", offset, bounds[0].End)
			}
			select {
			case err := <-l.Failed():
				t.Fatal(err)
			default:
			}
		})
	}
}

func TestDamageIsAFaultAndLeftAsItIs(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"a flipped bit in the middle": func(d []byte) []byte { d[len(d)/2] ^= 0x10; return d },
		"a length in the middle":      func(d []byte) []byte { d[9] ^= 0x40; return d },
		"a batch twice":               func(d []byte) []byte { size, _, _, _ := parseBatch(d); return append(d, d[:size]...) },
		"the first batch missing":     func(d []byte) []byte { size, _, _, _ := parseBatch(d); return d[size:] },
	} {
		t.Run(name, func(t *testing.T) {
			opts := options(t, t.TempDir())
			opts.Logger = zerolog.Nop()
			segment := filled(t, opts, 5)
			damaged := damageFile(t, segment, damage)
			l, err := Open(opts)
			if err != nil {
				t.Fatal(err)
			}
			fault := l.Status().Fault
			if !errors.Is(fault, ErrCorrupt) || !strings.Contains(fault.Error(), segment) {
				t.Fatalf("fault %v", fault)
			}
			if _, err := l.Publish(deadline(t), 0, nil, []byte("x")); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrCorrupt) {
				t.Fatalf("publish: %v", err)
			}
			if _, err := l.Consume(0, 0, -1); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("consume: %v", err)
			}
			if l.Partitions() != 4 || len(l.CookieSecrets()) != 2 {
				t.Fatal("what the control topic said last is not known")
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(segment); err != nil || string(now) != string(damaged) {
				t.Fatalf("the file was changed: %v", err)
			}
		})
	}
}

func damageFile(t *testing.T, path string, damage func([]byte) []byte) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = damage(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBadStateFilesAreAFault(t *testing.T) {
	opts := options(t, t.TempDir())
	opts.Logger = zerolog.Nop()
	filled(t, opts, 1)
	damageFile(t, filepath.Join(opts.Dir, "broker", "topics.json"), func([]byte) []byte { return []byte("{") })
	l, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if fault := l.Status().Fault; !errors.Is(fault, ErrCorrupt) || !strings.Contains(fault.Error(), opts.Dir) {
		t.Fatalf("fault %v", fault)
	}
}

func TestDirectoryThatCannotBe(t *testing.T) {
	opts := options(t, t.TempDir())
	if err := os.WriteFile(opts.Dir, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(opts); err == nil || !strings.Contains(err.Error(), opts.Dir) {
		t.Fatalf("got %v", err)
	}
}

// A partition's folder that is a file makes the broker unable to write, as a full or broken disk does.
func TestFailureToWriteStopsTheLog(t *testing.T) {
	opts := options(t, t.TempDir())
	opts.Logger = zerolog.Nop()
	l := open(t, opts)
	s, err := l.Consume(1, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(opts.Dir, "broker", partitionFolder)
	if err := os.WriteFile(filepath.Join(root, "test.mutations-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Publish(deadline(t), 1, nil, []byte("x")); !errors.Is(err, ErrUnknown) {
		t.Fatalf("publish: %v", err)
	}
	select {
	case err := <-l.Failed():
		if !strings.Contains(err.Error(), "test.mutations-1") {
			t.Fatalf("failed with %v", err)
		}
	case <-deadline(t).Done():
		t.Fatal("the failure was not noticed")
	}
	if _, err := s.Next(deadline(t)); err == nil {
		t.Fatal("the stream goes on")
	}
	if _, err := l.Publish(deadline(t), 0, nil, []byte("x")); !errors.Is(err, ErrRefused) {
		t.Fatalf("publish: %v", err)
	}
}

func TestBrokerLogSortsWarnings(t *testing.T) {
	failed := make(chan error, 1)
	b := &brokerLog{log: zerolog.New(io.Discard), failed: failed}
	b.Logf(kfake.LogLevelInfo, "persist: only information")
	b.Logf(kfake.LogLevelWarn, "consumerHeartbeatLate: group=%s", "g")
	b.Logf(kfake.LogLevelWarn, "pids.log: discarding %d corrupt trailing bytes", 3)
	if len(failed) != 0 {
		t.Fatal(<-failed)
	}
	b.Logf(kfake.LogLevelWarn, "partition %s-%d segment %d: truncating %d corrupt bytes", "t", 0, 0, 12)
	b.Logf(kfake.LogLevelError, "another")
	if len(failed) != 1 || !strings.Contains((<-failed).Error(), "truncating 12") {
		t.Fatal("corruption did not fail the broker")
	}
}

func TestSegmentNames(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, partitionFolder, "t-0")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x", "-4"} {
		path := filepath.Join(folder, name+segmentSuffix)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := verifySegments(dir); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
			t.Errorf("segment %s: %v", strconv.Quote(name), err)
		}
		os.Remove(path)
	}
}
