package gossip

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// await returns the first map that satisfies a condition.
func await(t *testing.T, g *Gossip, what string, ok func(*Map) bool) *Map {
	t.Helper()
	end := time.After(time.Hour) // of the bubble's time, where there is one
	for {
		changed := g.Changed()
		if m := g.Map(); ok(m) {
			return m
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("%s never saw %s; it knows %v, with troubles %q", g.options.ID, what, describe(g.Map()), g.Troubles())
		}
	}
}

func describe(m *Map) (all []string) {
	for _, p := range m.Peers() {
		all = append(all, fmt.Sprintf("%s alive=%v left=%v claims=%v", p.ID, p.Alive, p.Left, p.Claims))
	}
	return all
}

// awaitTrouble looks at the troubles whenever a probe may have brought something.
func awaitTrouble(t *testing.T, g *Gossip, text string) {
	t.Helper()
	ticker := time.NewTicker(g.timings.Probe)
	defer ticker.Stop()
	end := time.After(time.Hour)
	for {
		if hasTrouble(g, text) {
			return
		}
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("%s has troubles %q, and never %q", g.options.ID, g.Troubles(), text)
		}
	}
}

func hasTrouble(g *Gossip, text string) bool {
	return slices.ContainsFunc(g.Troubles(), func(s string) bool { return strings.Contains(s, text) })
}

func living(ids ...string) func(*Map) bool {
	return func(m *Map) bool {
		var alive []string
		for _, p := range m.Peers() {
			if p.Alive {
				alive = append(alive, p.ID)
			}
		}
		return slices.Equal(alive, ids)
	}
}

func holders(partition int32, ids ...string) func(*Map) bool {
	return func(m *Map) bool {
		var have []string
		for _, h := range m.Holders(partition) {
			have = append(have, h.Peer.ID)
		}
		return slices.Equal(have, ids)
	}
}

func ready(partitions ...int32) (claims []Claim) {
	for _, p := range partitions {
		claims = append(claims, Claim{Partition: p, State: Ready, Assigned: true, Position: 100, Checkpoint: -1})
	}
	return claims
}

// TestLoopback is the only one over real sockets; the others run on a network in memory, in the time of a bubble.
func TestLoopback(t *testing.T) {
	start := func(id string, join ...string) *Gossip {
		g, err := Start(Options{
			Member: Member{ID: id, Region: "r", Group: "g", Relay: "127.0.0.1:1", Fingerprint: [32]byte{1}}, Namespace: "n",
			Listen: "localhost:0", Join: join, Key: make([]byte, 32), Timings: LAN(),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { crash(t, g) })
		return g
	}
	a := start("a")
	b := start("b", strings.Replace(a.Address(), "127.0.0.1", "localhost", 1))
	b.Claim([]Claim{{Partition: 7, State: Ready, Assigned: true, Position: 42, Checkpoint: 40, Digest: [16]byte{9}}})
	m := await(t, a, "b's claim", func(m *Map) bool { return len(m.Holders(7)) == 1 && m.Holders(7)[0].Claim.Position == 42 })
	if p := m.Holders(7)[0].Peer; p.ID != "b" || p.Group != "g" || p.Relay != "127.0.0.1:1" || p.Fingerprint != [32]byte{1} || !p.Alive {
		t.Errorf("a knows b as %+v", p)
	}
	if c, ok := m.Peer("b").Claim(7); !ok || c != (Claim{7, Ready, true, 42, 40, [16]byte{9}}) {
		t.Errorf("a knows of b's partition %+v", c)
	}
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, a, "b's goodbye", func(m *Map) bool { p := m.Peer("b"); return p != nil && p.Left && !p.Alive && len(m.Holders(7)) == 0 })
	if s := a.Stats(); s.SentOctets == 0 || s.ReceivedOctets == 0 {
		t.Errorf("a counted %+v", s)
	}
}

func TestClaimsAndConditionsGoAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1, n2, n3 := r.start("node1", nil), r.start("node2", nil), r.start("node3", nil)
		all := []*Gossip{n1, n2, n3}
		n1.Claim(ready(3, 4095))
		n2.Claim([]Claim{{Partition: 3, State: Restoring, Position: -1, Checkpoint: -1}})
		for _, g := range []*Gossip{n2, n3} {
			await(t, g, "node1's claims", func(m *Map) bool { return holders(3, "node1")(m) && holders(4095, "node1")(m) })
		}
		await(t, n1, "no holder but itself", func(m *Map) bool { return holders(3)(m) && living("node1", "node2", "node3")(m) })
		n2.Claim([]Claim{{Partition: 3, State: Ready, Assigned: true}})
		await(t, n3, "two holders", holders(3, "node1", "node2"))
		n1.Claim([]Claim{{Partition: 3, State: Leaving}})
		await(t, n3, "one that is leaving", func(m *Map) bool {
			h := m.Holders(3)
			return len(h) == 2 && h[0].Claim.State == Leaving && !h[0].Claim.Assigned && len(m.Holders(4095)) == 0
		})
		n1.Claim(nil)
		await(t, n3, "the claim given up", holders(3, "node2"))
		n2.SetCondition(Condition{Ready: true, Draining: true, Catalog: 17})
		for _, g := range all {
			await(t, g, "node2's condition", func(m *Map) bool {
				return m.Peer("node2") != nil && m.Peer("node2").Condition == Condition{true, true, 17}
			})
		}
		n2.SetCondition(Condition{Ready: true, Draining: true, Catalog: 18})
		n2.Claim([]Claim{{Partition: 3, State: Ready, Assigned: true, Position: 5, Checkpoint: 4, Digest: [16]byte{1}}})
		await(t, n1, "positions, after a while", func(m *Map) bool {
			c, _ := m.Peer("node2").Claim(3)
			return c.Position == 5 && c.Checkpoint == 4 && c.Digest == [16]byte{1} && m.Peer("node2").Catalog == 18
		})
		for _, g := range all {
			if list := g.Troubles(); len(list) > 0 {
				t.Errorf("%s has troubles %q", g.options.ID, list)
			}
		}
	})
}

// TestSilentNodeIsAsked: rumours reach all but a few, and the next exchange with somebody who knows may be minutes away.
func TestSilentNodeIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		r.timings.Exchange = 24 * time.Hour
		n1, n2 := r.start("node1", nil), r.start("node2", nil)
		n2.Claim(ready(2))
		await(t, n1, "node2's claim", holders(2, "node2"))
		pass(time.Minute) // of the bubble's: until nobody tells it any more
		n1.mu.Lock()
		r2 := n1.ledger.records["node2"]
		n1.ledger.clear(r2)
		r2.incarnation = 0
		n1.mu.Unlock()
		n1.changed()
		await(t, n1, "nothing of node2", living("node1"))
		begin := time.Now()
		await(t, n1, "node2's claim again", holders(2, "node2"))
		if took := time.Since(begin); took > time.Minute {
			t.Errorf("it was asked after %s", took)
		}
	})
}

func TestLateSeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n2 := r.start("node2", nil)
		n3 := r.start("node3", func(o *Options) { o.Join = []string{"10.0.0.9:7946", "10.0.0.1:7946"} })
		awaitTrouble(t, n2, "no node of gossip.join could be reached")
		pass(10 * time.Minute)      // of the bubble's time
		n1 := r.start("node1", nil) // its own seed
		for _, g := range []*Gossip{n1, n2, n3} {
			await(t, g, "everyone", living("node1", "node2", "node3"))
		}
		pass(2 * r.timings.Rejoin)
		for _, g := range []*Gossip{n1, n2, n3} {
			if hasTrouble(g, "gossip.join") {
				t.Errorf("%s still has troubles %q", g.options.ID, g.Troubles())
			}
		}
	})
}

func TestHalvesMeetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		var all []*Gossip
		ids := []string{"node1", "node2", "node3", "node4"}
		for i, id := range ids {
			g := r.start(id, nil)
			g.Claim(ready(int32(i)))
			all = append(all, g)
		}
		for _, g := range all {
			await(t, g, "everyone", living(ids...))
		}
		r.separate(func(address string) bool { return address == "10.0.0.1:7946" || address == "10.0.0.2:7946" })
		await(t, all[0], "its half", living("node1", "node2"))
		await(t, all[3], "the other half", living("node3", "node4"))
		if m := all[3].Map(); m.Peer("node1") == nil || m.Peer("node1").Alive || len(m.Peer("node1").Claims) != 1 || m.Peer("node1").Left {
			t.Errorf("what was cut off is kept, as not alive: %v", describe(m))
		}
		if m := all[3].Map(); len(m.Holders(0)) != 0 || len(m.Lost(0)) != 1 || m.Lost(0)[0].Peer.ID != "node1" || len(m.Lost(3)) != 0 {
			t.Errorf("partition 0 is lost with node1, and no other: holders %v, lost %v", m.Holders(0), m.Lost(0))
		}
		all[0].Claim(ready(100))
		await(t, all[3], "nothing of what was cut off", func(m *Map) bool { return len(m.Peers()) == 2 })
		r.separate(nil)
		for _, g := range all {
			await(t, g, "everyone again", living(ids...))
		}
		await(t, all[3], "what was claimed meanwhile", func(m *Map) bool { return holders(100, "node1")(m) && holders(0)(m) })
	})
}

// TestHeardAgain: a node that is taken for dead and has not heard so itself is found by what it says, and not by the next whole exchange.
func TestHeardAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		r.timings.Exchange, r.timings.Rejoin = 24*time.Hour, 24*time.Hour
		ids := []string{"node1", "node2", "node3", "node4"}
		var all []*Gossip
		for _, id := range ids {
			all = append(all, r.start(id, nil))
		}
		for _, g := range all {
			await(t, g, "everyone", living(ids...))
		}
		r.separate(func(address string) bool { return address == "10.0.0.4:7946" })
		for _, g := range all[:3] {
			await(t, g, "that node4 is gone", living("node1", "node2", "node3"))
		}
		pass(3 * time.Second) // until nobody tells that any more; node4, which nobody confirms it to, still takes the others for alive
		if !living(ids...)(all[3].Map()) {
			t.Fatal("node4 has lost the others")
		}
		r.separate(nil)
		begin := time.Now()
		all[3].Claim(ready(7))
		for _, g := range all[:3] {
			await(t, g, "node4's claim", holders(7, "node4"))
		}
		if took := time.Since(begin); took > 10*r.timings.Positions {
			t.Errorf("it was back after %s", took)
		}
	})
}

// TestLeftIsLeft: nobody looks for a node that has said goodbye, nor is it lost.
func TestLeftIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1, n2 := r.start("node1", nil), r.start("node2", nil)
		n2.Claim(ready(2))
		await(t, n1, "node2's claim", holders(2, "node2"))
		if err := n2.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, n1, "that node2 left", living("node1"))
		if lost := n1.Map().Lost(2); len(lost) != 0 {
			t.Errorf("lost %v", lost)
		}
		n1.mu.Lock()
		defer n1.mu.Unlock()
		record := n1.ledger.records["node2"]
		record.seen = record.since.Add(time.Second)
		if address := n1.ledger.doubtful(time.Now().Add(time.Hour), time.Second, time.Second); address != "" {
			t.Errorf("%s is to be asked", address)
		}
	})
}

// TestHalvesMeetWithoutSeed: the seed is gone for good.
func TestHalvesMeetWithoutSeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1, n2, n3 := r.start("node1", nil), r.start("node2", nil), r.start("node3", nil)
		await(t, n2, "everyone", living("node1", "node2", "node3"))
		await(t, n3, "everyone", living("node1", "node2", "node3"))
		crash(t, n1)
		await(t, n2, "the crash", living("node2", "node3"))
		r.separate(func(address string) bool { return address == "10.0.0.2:7946" })
		await(t, n2, "nobody", living("node2"))
		await(t, n3, "nobody", living("node3"))
		pass(2 * time.Minute) // memberlist forgets sooner
		r.separate(nil)
		await(t, n2, "node3", living("node2", "node3"))
		await(t, n3, "node2", living("node2", "node3"))
	})
}

func TestRestart(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"at the same address":           func(*Options) {},
		"elsewhere":                     func(o *Options) { o.Listen = "10.0.0.22:7946" },
		"elsewhere, after its death":    func(o *Options) { o.Listen = "10.0.0.23:7946" },
		"with a clock that is far back": func(o *Options) { o.Now = func() time.Time { return time.Now().Add(-24 * time.Hour) } },
		"in the same nanosecond":        nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t)
				n1 := r.start("node1", nil)
				born := time.Now()
				n2 := r.start("node2", nil)
				n3 := r.start("node3", nil)
				n2.Claim(ready(1, 2, 3))
				before := await(t, n1, "the claims of the first life", holders(2, "node2")).Peer("node2")
				await(t, n3, "the claims of the first life", holders(2, "node2"))
				crash(t, n2)
				if name == "elsewhere, after its death" {
					await(t, n1, "the crash", holders(2))
				}
				if change == nil {
					change = func(o *Options) { o.Now = func() time.Time { return born } }
				}
				begin := time.Now()
				n2 = r.start("node2", change)
				n2.Claim(ready(7))
				for _, g := range []*Gossip{n1, n3} {
					m := await(t, g, "the claims of the second life alone", func(m *Map) bool { return holders(7, "node2")(m) && holders(2)(m) })
					if p := m.Peer("node2"); p.Incarnation <= before.Incarnation || len(p.Claims) != 1 {
						t.Errorf("%s knows %+v, and knew %+v", g.options.ID, p, before)
					}
				}
				if took := time.Since(begin); took > 20*time.Second {
					t.Errorf("the second life was known after %s", took)
				}
				if hasTrouble(n2, "another node gossips") {
					t.Errorf("an earlier life is no other node: %q", n2.Troubles())
				}
			})
		})
	}
}

func TestLeaveAndCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1, n2, n3 := r.start("node1", nil), r.start("node2", nil), r.start("node3", nil)
		await(t, n1, "everyone", living("node1", "node2", "node3"))
		n2.Claim(ready(2))
		n3.Claim(ready(2))
		await(t, n1, "both", holders(2, "node2", "node3"))
		at := time.Now()
		if err := n2.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		m := await(t, n1, "the goodbye", holders(2, "node3"))
		left := time.Since(at)
		if p := m.Peer("node2"); p == nil || p.Alive || !p.Left || len(p.Claims) != 1 {
			t.Errorf("node2 left, and node1 knows %v", describe(m))
		}
		crash(t, n2)
		if err := n2.Leave(t.Context()); err == nil {
			t.Error("a closed node left")
		}
		at = time.Now()
		crash(t, n3)
		m = await(t, n1, "the crash", holders(2))
		crashed := time.Since(at)
		if p := m.Peer("node3"); p == nil || p.Alive || p.Left {
			t.Errorf("node3 crashed, and node1 knows %v", describe(m))
		}
		t.Logf("a goodbye was known after %s, a crash after %s", left, crashed)
		at = time.Now()
		await(t, n1, "nobody", func(m *Map) bool { return len(m.Peers()) == 1 })
		if took := time.Since(at); took < n1.timings.Forget/2 {
			t.Errorf("the dead were forgotten after %s", took)
		}
		r.start("node2", nil)
		await(t, n1, "who left, back", func(m *Map) bool { p := m.Peer("node2"); return p != nil && p.Alive && !p.Left })
	})
}

func TestOneIDForTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1 := r.start("node1", nil)
		n2 := r.start("node2", nil)
		await(t, n1, "node2", living("node1", "node2"))
		other := r.start("node2", func(o *Options) { o.Listen = "10.0.0.99:7946" })
		n2.Claim(ready(1))
		other.Claim(ready(2))
		awaitTrouble(t, n1, `two nodes gossip as "node2", from 10.0.0.2:7946 and 10.0.0.99:7946`)
		awaitTrouble(t, other, "give one of them another node-id")
		awaitTrouble(t, n2, `another node gossips as "node2"`)
		crash(t, other)
		pass(n2.timings.Trouble + time.Minute)
		if list := n2.Troubles(); len(list) > 0 {
			t.Errorf("long after it was gone: %q", list)
		}
		await(t, n1, "what the one that is left claims", holders(1, "node2"))
	})
}

func TestStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Options)
		says   string
	}{
		"another region":    {func(o *Options) { o.Region = "us" }, "messages of another namespace or region come from 10.0.0.2"},
		"another namespace": {func(o *Options) { o.Namespace = "test" }, "messages of another namespace or region come from 10.0.0.2"},
		"another key":       {func(o *Options) { o.Key = make([]byte, 32) }, "messages that can't be decrypted come from 10.0.0.2"},
		"no key":            {func(o *Options) { o.Key = nil }, "messages that can't be decrypted come from 10.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t)
				n1, n3 := r.start("node1", nil), r.start("node3", nil)
				n2 := r.start("node2", c.change)
				n2.Claim(ready(1))
				awaitTrouble(t, n1, c.says)
				awaitTrouble(t, n2, "no node of gossip.join could be reached")
				await(t, n1, "node3", living("node1", "node3"))
				await(t, n3, "node1", living("node1", "node3"))
				pass(10 * time.Minute)
				for _, g := range []*Gossip{n1, n2, n3} {
					if m := g.Map(); len(m.Holders(1)) > 0 || m.Peer("node1") != nil && m.Peer("node2") != nil {
						t.Errorf("%s knows %v", g.options.ID, describe(m))
					}
				}
			})
		})
	}
}

func TestSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1, n3 := r.start("node1", nil), r.start("node3", nil)
		n2 := r.start("node2", func(o *Options) { o.Now = func() time.Time { return time.Now().Add(30 * time.Second) } })
		awaitTrouble(t, n1, `the clock of node "node2" is 30s ahead of this node's`)
		awaitTrouble(t, n2, "this node's clock differs from that of 2 of 2 others")
		if m := await(t, n1, "node3", living("node1", "node2", "node3")); m.Peer("node3").Skew.Abs() > time.Second {
			t.Errorf("node3's clock is %s ahead", m.Peer("node3").Skew)
		}
		awaitTrouble(t, n3, "node2")
		if hasTrouble(n1, "node3") || hasTrouble(n3, "node1") {
			t.Errorf("troubles %q and %q", n1.Troubles(), n3.Troubles())
		}
	})
}

// TestClosedIsClosed also holds that nothing is left running: the bubble would not end. So do all others.
func TestClosedIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1 := r.start("node1", nil)
		n2 := r.start("node2", nil)
		await(t, n2, "node1", living("node1", "node2"))
		crash(t, n2)
		crash(t, n2)
		n2.Claim(ready(1))
		n2.SetCondition(Condition{Ready: true})
		if n2.Map().Self().ID != "node2" || len(n2.Map().Peers()) != 2 {
			t.Errorf("the last map is gone: %v", describe(n2.Map()))
		}
		await(t, n1, "nobody", living("node1"))
	})
}

// TestCloseEndsStreams: whoever holds a connection open does not hold up the end, nor keeps anything running.
func TestCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegion(t)
		n1 := r.start("node1", nil)
		c, err := at{r, "10.0.0.66:7946"}.dial(t.Context(), "10.0.0.1:7946")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begin := time.Now()
		crash(t, n1)
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("something came")
		}
		if took := time.Since(begin); took > 0 {
			t.Errorf("the connection was closed after %s", took)
		}
	})
}

func TestStartRefuses(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no ID":             func(o *Options) { o.ID = "" },
		"an unprintable ID": func(o *Options) { o.ID = "a\n" },
		"a long ID":         func(o *Options) { o.ID = strings.Repeat("a", 65) },
		"no region":         func(o *Options) { o.Region = "" },
		"a long namespace":  func(o *Options) { o.Namespace = strings.Repeat("n", 200) },
		"a short key":       func(o *Options) { o.Key = []byte("short") },
		"long texts": func(o *Options) {
			o.Version, o.Group, o.DNS = strings.Repeat("v", 200), strings.Repeat("g", 200), strings.Repeat("d", 200)
		},
		"a bad address":     func(o *Options) { o.Listen = "nowhere" },
		"a port taken":      func(o *Options) { o.Listen = "10.0.0.1:7946" },
		"a bad own address": func(o *Options) { o.Advertise = "nowhere:x" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRegion(t)
				r.start("node1", nil)
				o := Options{Member: Member{ID: "node2", Region: "eu"}, Namespace: "prod", Listen: "10.0.0.2:7946"}
				change(&o)
				o.network = r.at(o.Listen)
				if g, err := Start(o); err == nil {
					crash(t, g)
					t.Error("it started")
				} else if !strings.HasPrefix(err.Error(), "start gossip") {
					t.Errorf("the error does not say what failed: %v", err)
				}
			})
		})
	}
}
