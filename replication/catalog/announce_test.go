package catalog

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"balefire/zones"
)

// pass lets time pass in the test's bubble (testing/synctest), and lets all that is due by then come to rest. The bubble's clock only moves
// while nothing in it can run, so that it is the event: what has not happened at a time of it does not happen before a later one. Outside of
// a bubble it panics.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// ranked is a node of another group: the second where the first has rank 0.
func ranked(t *testing.T, topic *topic, rank int) *running {
	opts := optionsFor(t.TempDir(), topic)
	opts.Rank = func(zones.Name) int { return rank }
	return start(t, opts)
}

// One group says what became of a zone; the others see it, and say nothing.
func TestOneGroupSaysIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic()
		groups := []*running{ranked(t, topic, 0), ranked(t, topic, 1), ranked(t, topic, 9)}
		a, b := zones.MustParseName("a.example."), zones.MustParseName("b.example.")
		for _, g := range groups {
			g.awaitEnd(t, topic)
			g.Announce(0, a, true, 5)
			g.Announce(0, b, true, 6)
			g.Announce(0, b, false, 7)
		}
		pass(time.Minute)
		said := topic.said()
		slices.Sort(said)
		// The first may be fast enough to say both of what b came to.
		if len(said) == 3 && said[2] == "b.example. true 0@6" {
			said = said[:2]
		}
		if want := []string{"a.example. true 0@5", "b.example. false 0@7"}; !slices.Equal(said, want) {
			t.Errorf("said: %q, want %q", said, want)
		}
		for _, g := range groups {
			g.check(t, "a.example.", Entry{true, 5})
			g.check(t, "b.example.", Entry{false, 7})
		}
	})
}

// Where the first group is silent the next says it, once, and after a while.
func TestNextGroupSaysIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic()
		second, last := ranked(t, topic, 1), ranked(t, topic, 9)
		for _, g := range []*running{second, last} {
			g.awaitEnd(t, topic)
			g.Announce(0, zones.MustParseName("a.example."), true, 5)
		}
		pass(rankWait - time.Millisecond)
		if said := topic.said(); len(said) != 0 {
			t.Errorf("said before its turn: %q", said)
		}
		pass(2 * time.Millisecond)
		if said := topic.said(); len(said) != 1 {
			t.Errorf("said in the second's turn: %q", said)
		}
		pass(time.Minute)
		if said := topic.said(); len(said) != 1 {
			t.Errorf("said at last: %q", said)
		}
	})
}

// While the log is away nothing is lost, and what has become of a zone since is all that is said of it.
func TestAnnounceWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic()
		c := ranked(t, topic, 0)
		c.awaitEnd(t, topic)
		topic.change(func() { topic.refuses = errAway })
		for i := range 10 {
			c.Announce(0, zones.MustParseName(fmt.Sprintf("z%d.example.", i)), true, int64(i))
		}
		pass(10 * time.Second)
		c.Announce(0, zones.MustParseName("z3.example."), false, 30)
		c.Announce(0, zones.MustParseName("z4.example."), false, 1) // older than what waits
		pass(10 * time.Second)
		topic.change(func() {
			if topic.calls > 25 {
				t.Errorf("%d attempts in twenty seconds", topic.calls)
			}
		})
		topic.change(func() { topic.refuses = nil })
		pass(10 * time.Second)
		if said := topic.said(); len(said) != 10 || !slices.Contains(said, "z3.example. false 0@30") || !slices.Contains(said, "z4.example. true 0@4") {
			t.Errorf("said: %q", said)
		}
	})
}

// What is announced while the queue is full makes nobody wait: it comes back as a doubt once the queue is empty.
func TestAnnounceTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic()
		opts := optionsFor(t.TempDir(), topic)
		doubts := make(chan int32, 10)
		opts.Doubt = func(partition int32) { doubts <- partition }
		c := start(t, opts)
		c.awaitEnd(t, topic)
		topic.change(func() { topic.refuses = errAway })
		for i := range maxPending {
			c.Announce(0, zones.MustParseName(fmt.Sprintf("z%d.example.", i)), true, int64(i))
		}
		c.Announce(0, zones.MustParseName("more.example."), true, maxPending)
		c.Announce(1, zones.MustParseName("more.of.example."), true, 4)
		c.Announce(0, zones.MustParseName("z3.example."), false, maxPending+1) // waits already
		pass(10 * time.Second)
		if len(doubts) != 0 {
			t.Error("a doubt while nothing can be said")
		}
		topic.change(func() { topic.refuses = nil })
		got := []int32{<-doubts, <-doubts}
		slices.Sort(got)
		if !slices.Equal(got, []int32{0, 1}) {
			t.Errorf("doubts of %v", got)
		}
		c.awaitEnd(t, topic)
		c.check(t, "z7.example.", Entry{true, 7})
		c.check(t, "z3.example.", Entry{false, maxPending + 1})
		c.check(t, "more.example.", Entry{})
	})
}

func reconcile(t *testing.T, c *running, partition int32, p Partition) {
	t.Helper()
	if err := c.Reconcile(t.Context(), partition, p); err != nil {
		t.Fatal(err)
	}
	pass(time.Minute)
}

// After a partition was restored, what the topic lacks or has wrong is said, and what is newer than the partition stands.
func TestReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic()
		c := ranked(t, topic, 3)
		topic.add(
			entry("right.example.", true, 3), entry("gone.example.", false, 4),
			entry("wrongly-gone.example.", false, 5), entry("wrongly-there.example.", true, 6),
			entry("later.example.", true, 101), entry("gone-later.example.", false, 102),
			entry("another.partition.example.", true, 1),
		)
		partition := content(100, "right.example.", "wrongly-gone.example.", "missing.example.", "gone-later.example.")
		reconcile(t, c, 0, partition)
		said := topic.said()[7:]
		slices.Sort(said)
		if want := []string{"missing.example. true 0@100", "wrongly-gone.example. true 0@100", "wrongly-there.example. false 0@100"}; !slices.Equal(said, want) {
			t.Errorf("said:\n%q, want\n%q", said, want)
		}
		c.awaitEnd(t, topic)
		c.check(t, "wrongly-there.example.", Entry{false, 100})
		c.check(t, "missing.example.", Entry{true, 100})
		c.check(t, "later.example.", Entry{true, 101})
		reconcile(t, c, 0, partition)
		if more := topic.said()[10:]; len(more) != 0 {
			t.Errorf("said again: %q", more)
		}
	})
}

// What the topic says is only known when it has been read: until then nothing is compared, nor the partition held up.
func TestReconcileWaitsForTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic()
		id := topic.id
		topic.add(entry("a.example.", true, 1))
		topic.change(func() { topic.id = [16]byte{} })
		c := ranked(t, topic, 0)
		done := make(chan error, 1)
		asked := false
		go func() {
			done <- c.Reconcile(t.Context(), 0, func(ctx context.Context) (int64, iter.Seq2[zones.Name, error], error) {
				asked = true
				return content(9, "a.example.")(ctx)
			})
		}()
		pass(time.Minute)
		if asked {
			t.Error("the partition was read before the topic")
		}
		topic.change(func() { topic.id = id })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if said := topic.said(); len(said) != 1 {
			t.Errorf("said: %q", said)
		}
	})
}

// A topic that was made anew is filled again: by owners, who are told, with all that they have, once. What was known stays
// known, also after a crash in between.
func TestTopicMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, topic := t.TempDir(), newTopic()
		opts := optionsFor(dir, topic)
		doubts := make(chan int32, 10)
		opts.Doubt = func(partition int32) { doubts <- partition }
		c := start(t, opts)
		topic.add(entry("a.example.", true, 3), entry("b.example.", true, 4), entry("b.example.", false, 5), entry("ahead.example.", true, 200))
		c.awaitEnd(t, topic)
		topic.replace()
		topic.add(entry("a.example.", true, 1), entry("new.example.", true, 80)) // by somebody who is behind
		if partition := <-doubts; partition != AllPartitions {
			t.Errorf("doubt of %d", partition)
		}
		c.awaitEnd(t, topic)
		if len(doubts) != 0 {
			t.Error("more doubts")
		}
		c.check(t, "a.example.", Entry{true, 3})
		c.check(t, "b.example.", Entry{false, 5})
		c.check(t, "ahead.example.", Entry{true, 200})
		partition := content(100, "a.example.", "new.example.")
		reconcile(t, c, 0, partition)
		said := topic.said()[2:]
		slices.Sort(said)
		if want := []string{"a.example. true 0@100", "ahead.example. true 0@200", "b.example. false 0@100"}; !slices.Equal(said, want) {
			t.Errorf("said:\n%q, want\n%q", said, want)
		}
		c.awaitEnd(t, topic)
		reconcile(t, c, 0, partition)
		if more := topic.said()[5:]; len(more) != 0 {
			t.Errorf("said again: %q", more)
		}
		c.stop()
		c = start(t, opts)
		c.awaitEnd(t, topic)
		synctest.Wait()
		if len(doubts) != 0 {
			t.Error("a doubt after a restart, when all is said")
		}
		fresh := ranked(t, topic, 0)
		fresh.awaitEnd(t, topic)
		for _, apex := range []string{"a.example.", "b.example.", "ahead.example.", "new.example."} {
			e, _, err := c.Get(zones.MustParseName(apex))
			if err != nil {
				t.Fatal(err)
			}
			fresh.check(t, apex, e)
		}
	})
}

// A crash between the beginning of another topic and its end does not make the owners forget to fill it.
func TestTopicMadeAnewCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, topic := t.TempDir(), newTopic()
		c := start(t, optionsFor(dir, topic))
		topic.add(entry("a.example.", true, 3))
		c.awaitEnd(t, topic)
		c.stop()
		topic.replace()
		opts := optionsFor(dir, topic)
		opts.Source = &ending{topic: topic, more: 1} // which is not reached
		c = start(t, opts)
		c.await(t, "the topic is begun", func() bool { return c.progress().topic == topic.TopicID() })
		c.stop()
		opts = optionsFor(dir, topic)
		doubts := make(chan int32, 1)
		opts.Doubt = func(partition int32) { doubts <- partition }
		c = start(t, opts)
		if <-doubts != AllPartitions {
			t.Error("the doubt is of one partition")
		}
		c.check(t, "a.example.", Entry{true, 3})
	})
}

// Comparing waits while much is to be said, and leaves room for what is announced.
func TestReconcileMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		topic := newTopic()
		c := ranked(t, topic, 0)
		c.awaitEnd(t, topic)
		topic.change(func() { topic.refuses = errAway })
		apexes := make([]string, maxCompared+10)
		for i := range apexes {
			apexes[i] = fmt.Sprintf("z%d.example.", i)
		}
		done := make(chan error, 1)
		go func() { done <- c.Reconcile(t.Context(), 0, content(100, apexes...)) }()
		pass(time.Minute)
		c.queue.mu.Lock()
		if len(c.queue.waiting) != maxCompared {
			t.Errorf("%d wait to be said", len(c.queue.waiting))
		}
		c.queue.mu.Unlock()
		c.Announce(0, zones.MustParseName("urgent.example."), true, 200)
		topic.change(func() { topic.refuses = nil })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if said := topic.said(); len(said) != len(apexes)+1 {
			t.Errorf("%d said, want %d", len(said), len(apexes)+1)
		}
	})
}

// What is read while the index takes a closed partition over is not lost.
func TestTakeOver(t *testing.T) {
	topic := newTopic()
	opts := optionsFor(t.TempDir(), topic)
	c := start(t, opts)
	c.index.replacing = func() {
		if c.feedMu.TryLock() {
			c.feedMu.Unlock()
			t.Error("the index may be told of what is read while it is told of what was known")
		}
	}
	for i := range 3000 {
		topic.add(entry(fmt.Sprintf("z%d.example.", i), true, int64(i)))
		if i%1000 == 500 {
			if err := c.TakeOver(t.Context(), 0, -1); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.awaitEnd(t, topic)
	if n := c.index.len(); n != 3000 {
		t.Errorf("%d zones in the index", n)
	}
}

// What a partition knew itself when it was closed is not taken back by what is known here: only later entries count.
func TestTakeOverKeepsWhatIsNewer(t *testing.T) {
	topic := newTopic()
	c := start(t, optionsFor(t.TempDir(), topic))
	topic.add(entry("made.example.", false, 10), entry("gone.example.", true, 10), entry("later.example.", true, 30), entry("later-gone.example.", false, 30))
	c.awaitEnd(t, topic)
	// As of offset 20, and what the catalog did not tell while the partition was there.
	for _, apex := range []string{"made.example.", "unsaid.example.", "later-gone.example."} {
		c.index.PutElsewhere(zones.MustParseName(apex), 0)
	}
	for _, apex := range []string{"gone.example.", "later.example."} {
		c.index.RemoveElsewhere(zones.MustParseName(apex))
	}
	if err := c.TakeOver(t.Context(), 0, 20); err != nil {
		t.Fatal(err)
	}
	for apex, want := range map[string]bool{
		"made.example.": true, "unsaid.example.": true, "gone.example.": false, "later.example.": true, "later-gone.example.": false,
	} {
		if c.index.has(apex) != want {
			t.Errorf("%s is in the index: %v", apex, !want)
		}
	}
}
