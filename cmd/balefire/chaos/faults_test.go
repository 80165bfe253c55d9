//go:build chaos && kafka && s3

package chaos

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fault is one kind of misfortune: done again and again while clients write and ask. At most one group of a region is
// hit at a time, so that no question may stay unanswered after one retry.
type fault struct {
	name string
	do   func(ctx context.Context, c *cluster, rng *rand.Rand)
	// times is how many times as long as the others it goes on; 0 is once.
	times int
}

// outageTimes is how many times longer than other faults the log is out of reach.
const outageTimes = 6

var faults = []fault{
	{name: "kill -9", times: 3, do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		n.restart()
		n.awaitReady()
		pause(ctx, time.Duration(rng.IntN(int(time.Second))))
	}},
	{name: "kill -9 while it restores", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		n.wipe()
		for range 3 {
			pause(ctx, time.Duration(rng.IntN(int(time.Second))))
			n.restart()
		}
		n.awaitReady()
	}},
	{name: "kill -9 while it backs up", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		began := time.Now()
		await(c.t, time.Minute, "an upload", func() bool { return c.uploadSince(began) })
		n.restart()
		n.awaitReady()
	}},
	{name: "stop and start", do: func(_ context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		n.stop()
		n.launch()
		n.awaitReady()
	}},
	{name: "hang", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.any(rng).hang(time.Second + time.Duration(rng.IntN(int(2*time.Second))))
		pause(ctx, time.Second)
	}},
	{name: "join and leave", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		old := c.any(rng)
		c.joined++
		group := old.group
		if !c.peers { // nodes that can't ask each other can't share: it is one more copy of everything
			group = fmt.Sprintf("j%d", c.joined)
		}
		n := c.join(old.region, group, fmt.Sprintf("%sj%d", old.region+old.group, c.joined))
		pause(ctx, time.Duration(rng.IntN(int(time.Second))))
		c.leave(n, c.peers)
	}},
	{name: "empty disk", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		n.wipe()
		n.awaitReady()
		pause(ctx, time.Second)
	}},
	{name: "node lost", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		n.setDown(true)
		n.ns.Unplug()
		pause(ctx, time.Duration(rng.IntN(int(2*time.Second))))
		n.kill()
		n.ns.Plug()
		n.wipe()
		n.awaitReady()
	}},
	{name: "region begins anew", do: func(ctx context.Context, c *cluster, _ *rand.Rand) {
		region := fmt.Sprintf("r%d", c.regions)
		for _, n := range c.inRegion(region) {
			c.places.remove(n.place) // its clients go elsewhere, until it is ready
		}
		pause(ctx, 2*patience) // those that had begun here have ended
		for _, n := range c.inRegion(region) {
			n.wipe()
		}
		for _, n := range c.inRegion(region) {
			n.awaitReady()
			c.places.add(n.place)
		}
	}},
	{name: "broker killed", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.broker.Kill()
		pause(ctx, time.Second+time.Duration(rng.IntN(int(3*time.Second))))
		c.broker.Restart()
		c.awaitWrites()
	}},
	{name: "log out of reach", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		for _, p := range c.proxies {
			p.Cut()
		}
		c.expectRefusal(c.any(rng))
		pause(ctx, outageTimes**faultTime) // minutes, in the long form
		c.expectRefusal(c.any(rng))
		for _, p := range c.proxies {
			p.Heal()
		}
		c.awaitWrites()
	}},
	{name: "log breaks connections", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		resume := c.evenOut(ctx)
		for _, p := range c.proxies {
			p.Break()
		}
		resume()
		pause(ctx, time.Duration(rng.IntN(int(time.Second))))
		n := c.any(rng)
		n.restart() // without the log, from its own copies
		n.awaitReady()
		for _, p := range c.proxies {
			p.Heal()
		}
		c.awaitWrites()
	}},
	{name: "log far away", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		p := c.proxies[fmt.Sprintf("r%d", 1+rng.IntN(c.regions))]
		p.Delay(150 * time.Millisecond)
		p.Throttle(64 << 10)
		pause(ctx, 3*time.Second)
		p.Delay(0)
		p.Throttle(0)
	}},
	{name: "region cut off", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		region := fmt.Sprintf("r%d", c.regions)
		for _, n := range c.inRegion(region) {
			n.ns.Cut(c.proxies[region].Address())
			n.setDown(true) // for writers: they write around it
		}
		c.expectRefusal(c.inRegion(region)[0])
		for _, n := range c.inRegion(region) {
			n.ns.Heal()
			n.setDown(false)
		}
		c.awaitWrites()
	}},
	{name: "object store away", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		back := c.takeObjects()
		n := c.any(rng)
		n.wipe() // the log has all of it
		n.awaitReady()
		back()
		pause(ctx, time.Second)
	}},
	{name: "objects damaged", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		for range 1 + rng.IntN(4) {
			c.damageObject(rng)
		}
		n := c.any(rng)
		n.wipe()
		n.awaitReady()
	}},
	{name: "files damaged", times: 2, do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		n := c.any(rng)
		if rng.IntN(2) == 0 {
			n.kill()
		} else {
			n.stop() // what was in memtables is in tables now
		}
		n.damageFile(rng)
		n.launch()
		n.awaitReady()
	}},
	{name: "disk full", do: func(ctx context.Context, c *cluster, rng *rand.Rand) { c.fillDisk(ctx, rng) }},
	{name: "hostile records", do: func(ctx context.Context, c *cluster, rng *rand.Rand) {
		c.produceRubbish(ctx, rng)
		pause(ctx, 200*time.Millisecond)
	}},
}

// hit is what was last done to a region.
type hit struct {
	group string
	ended time.Time
}

// any chooses a node to be hit, of those that may be hit at once if there are some.
func (c *cluster) any(rng *rand.Rand) *node { return c.anyOf(rng, c.nodes) }

// anyToLeave is any of those that may leave for good: the one with a disk of its own is needed again.
func (c *cluster) anyToLeave(rng *rand.Rand) *node { return c.anyOf(rng, without(c.nodes, c.small)) }

func (c *cluster) anyOf(rng *rand.Rand, nodes []*node) *node {
	var now []*node
	for _, n := range nodes {
		if c.untilHit(n) <= 0 {
			now = append(now, n)
		}
	}
	if len(now) == 0 {
		now = nodes
	}
	n := now[rng.IntN(len(now))]
	c.mayHit(n)
	return n
}

// evenOut has nobody write until resume is called, and waits until all copies are as far as each other, where nodes ask each other. A node that
// is further than the rest of its region takes what it has answered from with it, when it is lost while the log is away: the others
// then say nothing rather than something older.
func (c *cluster) evenOut(ctx context.Context) (resume func()) {
	if !c.peers {
		return func() {}
	}
	for _, n := range c.nodes {
		n.setDown(true)
	}
	pause(ctx, 2*time.Second)
	return func() {
		for _, n := range c.nodes {
			n.setDown(false)
		}
	}
}

// untilHit is how long a node may not be hit: who did not get an answer from another group of its region just before must have
// had the time to ask this one. What was hit last counts until now.
func (c *cluster) untilHit(n *node) time.Duration {
	before, ok := c.hits[n.region]
	if !ok || before.group == n.group {
		return 0
	}
	if before.ended.IsZero() {
		return patience + time.Second
	}
	return time.Until(before.ended.Add(patience + time.Second))
}

// mayHit waits until a node may be hit, and notes that it is.
func (c *cluster) mayHit(n *node) {
	if last, ok := c.hits[c.last]; ok && last.ended.IsZero() {
		last.ended = time.Now()
		c.hits[c.last] = last
	}
	pause(c.t.Context(), c.untilHit(n))
	c.last = n.region
	c.hits[n.region] = hit{group: n.group}
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// expectRefusal writes through a node without a log: it says so, and when to come again; and it answers meanwhile.
func (c *cluster) expectRefusal(n *node) {
	c.t.Helper()
	began := time.Now()
	a, err := c.h.send(n.place, "PUT", "/v1/zones/z0.chaos.test./rrsets/ns1/A", "application/json", `{"ttl":60,"records":["192.0.2.1"]}`)
	if err != nil || a.status != 503 && a.status != 504 || a.retryAfter == "" || !strings.Contains(string(a.body), "detail") {
		c.h.fail(wellBehaved, "%s, without a log, said after %s: %d, Retry-After %q, %s %v", n.id, time.Since(began), a.status, a.retryAfter, a.body, err)
	}
	if unknown := c.h.judge(n.place, c.h.keys[0]); unknown != nil {
		c.h.fail(soonAnswered, "%s does not answer without a log: %v", n.id, unknown)
	}
}

// takeObjects takes the object store away, until it is given back.
func (c *cluster) takeObjects() (back func()) {
	c.t.Helper()
	away := c.objects + ".away"
	c.must(os.Rename(c.objects, away))
	c.must(os.WriteFile(c.objects, []byte("not a directory"), 0o600))
	return func() {
		c.t.Helper()
		c.must(os.Remove(c.objects))
		c.must(os.Rename(away, c.objects))
	}
}

// uploadSince reports whether anything came to the object store after a time.
func (c *cluster) uploadSince(since time.Time) bool {
	found := false
	_ = filepath.WalkDir(c.objects, func(_ string, e fs.DirEntry, err error) error { // what goes meanwhile is of no interest
		if err != nil || e.IsDir() {
			return nil
		}
		if about, err := e.Info(); err == nil && about.ModTime().After(since) {
			found = true
		}
		return nil
	})
	return found
}

// objectFiles are the object store's files of a kind.
func (c *cluster) objectFiles(kind string) []string {
	var all []string
	_ = filepath.WalkDir(c.objects, func(file string, e fs.DirEntry, err error) error { // objects come and go
		if err == nil && !e.IsDir() && strings.HasSuffix(file, kind) {
			all = append(all, file)
		}
		return nil
	})
	return all
}

// damageObject does something bad to a file of the object store.
func (c *cluster) damageObject(rng *rand.Rand) {
	c.t.Helper()
	kind := []string{".manifest", ".bfsnap"}[rng.IntN(2)]
	files := c.objectFiles(kind)
	if len(files) == 0 {
		return
	}
	file := files[rng.IntN(len(files))]
	content, err := os.ReadFile(file)
	if err != nil || len(content) == 0 {
		return // it was removed as too old
	}
	what := ""
	switch rng.IntN(6) {
	case 0:
		what, content = "truncated", content[:rng.IntN(len(content))]
	case 1:
		what = "flipped"
		content[rng.IntN(len(content))] ^= 1 << rng.IntN(8)
	case 2:
		what = "lengthened"
		content = append(content, make([]byte, 1+rng.IntN(1<<20))...)
	case 3: // all ones where a length may be
		what = "a bomb"
		at := rng.IntN(len(content))
		for i := at; i < min(at+8, len(content)); i++ {
			content[i] = 0xff
		}
	case 4:
		what = "rubbish"
		for i := range content {
			content[i] = byte(rng.UintN(256))
		}
	case 5:
		what = "gone"
		_ = os.Remove(file) // it may be gone by now
	}
	c.t.Logf("%s is %s", filepath.Base(file), what)
	if what != "gone" {
		c.must(os.WriteFile(file, content, 0o600))
	}
	c.must(os.WriteFile(filepath.Join(filepath.Dir(file), fmt.Sprintf("rubbish-%d", rng.IntN(10))), []byte("rubbish"), 0o600))
}

// damageFile changes one octet of one file of a partition.
func (n *node) damageFile(rng *rand.Rand) {
	n.c.t.Helper()
	patterns := []string{"META", "badger/MANIFEST", "badger/*.mem", "badger/*.sst", "badger/*.mem", "badger/*.sst", "*", "badger/*"}
	var files []string
	for len(files) == 0 {
		pattern := patterns[rng.IntN(len(patterns))]
		found, err := filepath.Glob(filepath.Join(n.dir, "partitions", "[0-9][0-9][0-9]", pattern))
		n.c.must(err)
		for _, file := range found {
			if about, err := os.Stat(file); err == nil && about.Mode().IsRegular() && about.Size() > 0 {
				files = append(files, file)
			}
		}
	}
	file := files[rng.IntN(len(files))]
	content, err := os.ReadFile(file)
	n.c.must(err)
	used := len(strings.TrimRight(string(content), "\x00"))
	at := rng.IntN(max(used, 1))
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	n.c.must(err)
	defer f.Close()
	_, err = f.WriteAt([]byte{content[at] ^ 1<<rng.IntN(8)}, int64(at))
	n.c.must(err)
	inside, _ := filepath.Rel(n.dir, file)
	n.c.t.Logf("%s: octet %d of %d in %s is changed", n.id, at, used, inside)
}

// fillDisk fills the disk of one node, the only one that has its own: first below the reserve, where applying pauses and
// answers go on; then to the last octet, where it is killed and started; then makes room.
func (c *cluster) fillDisk(ctx context.Context, rng *rand.Rand) {
	c.t.Helper()
	n := c.small
	c.mayHit(n)
	free := func() int64 {
		var st syscall.Statfs_t
		c.must(syscall.Statfs(n.root, &st))
		return int64(st.Bavail) * st.Bsize
	}
	filler, err := os.Create(filepath.Join(n.root, "filler"))
	c.must(err)
	// Fast as logs fill disks at worst, 16 MB a second: who notices that the reserve is reached has it to end what it is at.
	fill := func(left int64) {
		for block := make([]byte, 64<<10); free() > left; {
			if _, err := filler.Write(block); err != nil {
				return // full
			}
			if free() < 2*smallReserve {
				pause(ctx, 4*time.Millisecond)
			}
		}
	}
	n.setDown(true) // for writers
	fill(smallReserve / 8)
	pause(ctx, time.Second)
	answers := func(when string) {
		for range 20 {
			if unknown := c.h.judge(n.place, c.h.keys[rng.IntN(len(c.h.keys))]); unknown != nil {
				c.h.fail(soonAnswered, "%s does not answer %s: %v", n.id, when, unknown)
			}
		}
	}
	answers("with its disk below the reserve")
	fill(0)
	pause(ctx, time.Second)
	answers("with its disk full")
	n.restart()
	pause(ctx, 3*time.Second)
	select {
	case <-n.server.Done():
		c.h.fail(wellBehaved, "%s ended, started with a full disk:\n%s", n.id, n.server.Log())
		n.launch()
	default:
	}
	c.must(filler.Close())
	c.must(os.Remove(filler.Name()))
	n.awaitReady()
}

// produceRubbish writes to all topics what no node would write.
func (c *cluster) produceRubbish(ctx context.Context, rng *rand.Rand) {
	c.t.Helper()
	client, _ := c.kafka(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer client.Close()
	for range 20 {
		value := make([]byte, rng.IntN(2000))
		for i := range value {
			value[i] = byte(rng.UintN(256))
		}
		r := &kgo.Record{Topic: "chaos.mutations", Partition: int32(rng.IntN(c.partitions)), Value: value}
		switch rng.IntN(5) {
		case 0:
			r.Key = []byte(fmt.Sprintf("z%d.chaos.test.", rng.IntN(zoneCount)))
		case 1:
			r.Key = value[:min(len(value), 40)]
		case 2:
			r.Value = nil
		case 3:
			r.Topic, r.Partition, r.Key = "chaos.control", 0, []byte("rubbish")
		case 4:
			r.Value = make([]byte, 600<<10) // more than a change set may have
			r.Key = []byte(fmt.Sprintf("z%d.chaos.test.", rng.IntN(zoneCount)))
		}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil && ctx.Err() == nil {
			c.t.Errorf("produce rubbish to %s: %v", r.Topic, err)
		}
	}
}
