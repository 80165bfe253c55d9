package notify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/zones"
)

// world is a network without packets, and a source that says what tests want.
type world struct {
	t        *testing.T
	notifier *Notifier

	mu      sync.Mutex
	began   time.Time
	servers map[netip.AddrPort]*server
	duty    map[int32]bool
	content map[zones.Name]Zone // all in partition 0
	during  func()              // is called once in the middle of EachNotified
	failing error
}

// server is who is notified.
type server struct {
	answer func(query *dns.Msg) *dns.Msg // nil: nothing is answered
	got    []received
}

type received struct {
	at   time.Duration
	zone string
	soa  uint32
}

func answering(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetReply(q) }

func refusing(rcode int) func(*dns.Msg) *dns.Msg {
	return func(q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, rcode) }
}

func newWorld(t *testing.T, change func(*Options)) *world {
	w := &world{
		t: t, began: time.Now(), servers: map[netip.AddrPort]*server{}, duty: map[int32]bool{0: true}, content: map[zones.Name]Zone{},
	}
	o := Options{Source: w, SOA: w.soa, Logger: zerolog.Nop()}
	if change != nil {
		change(&o)
	}
	w.notifier = New(o)
	w.notifier.net = w
	if err := w.notifier.Start(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) end() { _ = w.notifier.Close() }

// The network.
func (w *world) open() error  { return nil }
func (w *world) close() error { return nil }

func (w *world) ask(msg []byte, to zones.Remote, key flightKey) error {
	return w.send(msg, to.Addr)
}

func (w *world) send(msg []byte, to netip.AddrPort) error {
	var q dns.Msg
	if err := q.Unpack(msg); err != nil {
		w.t.Error(err)
		return nil
	}
	if q.Response || q.Opcode != dns.OpcodeNotify || !q.Authoritative || len(q.Question) != 1 || q.Question[0].Qtype != dns.TypeSOA || q.Question[0].Qclass != dns.ClassINET {
		w.t.Errorf("sent %v", &q)
	}
	r := received{at: time.Since(w.began), zone: q.Question[0].Name}
	if len(q.Answer) == 1 {
		r.soa = q.Answer[0].(*dns.SOA).Serial
	}
	w.mu.Lock()
	s := w.servers[to]
	if s == nil {
		s = &server{}
		w.servers[to] = s
	}
	s.got = append(s.got, r)
	answer := s.answer
	w.mu.Unlock()
	if answer == nil {
		return nil
	}
	if a := answer(&q); a != nil {
		packed, err := a.Pack()
		if err != nil {
			w.t.Error(err)
		}
		w.notifier.receive(packed, to)
	}
	return nil
}

// The source.
func (w *world) Partitions() int32 { return 2 }

func (w *world) OnDuty(partition int32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.duty[partition]
}

func (w *world) EachNotified(_ context.Context, partition int32, fn func(Zone)) error {
	w.mu.Lock()
	var all []Zone
	for _, z := range w.content {
		if partition == 0 {
			all = append(all, z)
		}
	}
	during, failing := w.during, w.failing
	w.during, w.failing = nil, nil
	w.mu.Unlock()
	slices.SortFunc(all, func(a, b Zone) int { return zones.Compare(a.Apex, b.Apex) })
	if during != nil {
		during()
	}
	for i, z := range all {
		if failing != nil && i == len(all)/2 {
			return failing
		}
		fn(z)
	}
	return failing
}

func (w *world) soa(apex zones.Name) (zones.RRset, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	z, ok := w.content[apex]
	rdata := append(append([]byte(apex), apex...), make([]byte, 20)...)
	rdata[len(rdata)-20], rdata[len(rdata)-19], rdata[len(rdata)-18], rdata[len(rdata)-17] = byte(z.Serial>>24), byte(z.Serial>>16), byte(z.Serial>>8), byte(z.Serial)
	s, err := zones.NewRRset(apex, zones.TypeSOA, 60, rdata)
	return s, ok && err == nil
}

// change makes a zone so, and says so.
func (w *world) change(apex string, serial zones.Serial, remotes ...zones.Remote) {
	name := zones.MustParseName(apex)
	w.mu.Lock()
	z := Zone{Apex: name, Serial: serial, At: w.content[name].At + 1, Remote: remotes}
	w.content[name] = z
	w.mu.Unlock()
	w.notifier.Changed(0, z, false)
}

func (w *world) put(apex string, serial zones.Serial, remotes ...zones.Remote) {
	name := zones.MustParseName(apex)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.content[name] = Zone{Apex: name, Serial: serial, At: w.content[name].At + 1, Remote: remotes}
}

func (w *world) serve(r zones.Remote, answer func(*dns.Msg) *dns.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.servers[r.Addr] == nil {
		w.servers[r.Addr] = &server{}
	}
	w.servers[r.Addr].answer = answer
}

func (w *world) got(r zones.Remote) []received {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.servers[r.Addr]; s != nil {
		return slices.Clone(s.got)
	}
	return nil
}

func (w *world) status(apex string) []Status {
	w.t.Helper()
	all, err := w.notifier.Notified(zones.MustParseName(apex))
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

func remote(n int) zones.Remote {
	return zones.Remote{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 53)}
}

func TestEachChangeIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one, two := remote(1), remote(2)
		w.serve(one, answering)
		w.serve(two, answering)
		time.Sleep(10 * time.Second) // duty was taken
		w.change("example.", 7, one, two)
		synctest.Wait()
		for _, r := range []zones.Remote{one, two} {
			if got := w.got(r); len(got) != 1 || got[0] != (received{10 * time.Second, "example.", 7}) {
				t.Errorf("%s got %v", r.Addr, got)
			}
		}
		for i, s := range w.status("example.") {
			if want := (Status{Remote: remote(i + 1), Serial: 7, Told: w.began.Add(10 * time.Second)}); s != want {
				t.Errorf("%+v, want %+v", s, want)
			}
		}
		time.Sleep(time.Hour)
		if got := w.got(one); len(got) != 1 {
			t.Errorf("told again: %v", got)
		}
		if _, err := w.notifier.Notified(zones.MustParseName("other.example.")); !errors.Is(err, ErrNotOnDuty) {
			t.Error(err)
		}
	})
}

func TestABurstIsAFewMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one := remote(1)
		w.serve(one, answering)
		time.Sleep(5 * time.Second)
		for i := range 100 {
			w.change("example.", zones.Serial(i+1), one)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		got := w.got(one)
		if len(got) < 2 || len(got) > 3 || got[0].soa != 1 || got[len(got)-1].soa != 100 {
			t.Errorf("got %v", got)
		}
		if s := w.status("example.")[0]; s.Serial != 100 || s.Pending {
			t.Errorf("%+v", s)
		}
	})
}

// The answer to an old serial comes when there is a new one.
func TestAChangeDuringFlightIsToldAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one := remote(1)
		first := true
		w.serve(one, func(q *dns.Msg) *dns.Msg {
			if first {
				first = false
				w.change("example.", 2, one)
			}
			return answering(q)
		})
		time.Sleep(5 * time.Second)
		w.change("example.", 1, one)
		time.Sleep(time.Minute)
		if got := w.got(one); len(got) != 2 || got[1].soa != 2 {
			t.Errorf("got %v", got)
		}
		if s := w.status("example.")[0]; s.Serial != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestASilentServerIsAskedWithGrowingPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one := remote(1)
		time.Sleep(5 * time.Second)
		w.change("example.", 1, one)
		time.Sleep(time.Second / 2)
		if s := w.status("example.")[0]; !s.Pending || s.Attempts != 0 || !s.Told.IsZero() {
			t.Errorf("%+v", s)
		}
		time.Sleep(4 * time.Second)
		if s := w.status("example.")[0]; !s.Pending || s.Attempts == 0 || s.Fault != noAnswer {
			t.Errorf("%+v", s)
		}
		time.Sleep(10 * time.Minute)
		got := w.got(one)
		if len(got) != maxAttempts {
			t.Fatalf("got %v", got)
		}
		for i, want := 1, time.Second; i < len(got); i, want = i+1, 2*want {
			if d := got[i].at - got[i-1].at; d < want*4/5 || d > want*6/5+time.Millisecond {
				t.Errorf("attempt %d came %s after the one before", i, d)
			}
		}
		if s := w.status("example.")[0]; s.Pending || s.Fault != noAnswer {
			t.Errorf("%+v", s)
		}
		// Something new is told anew.
		w.change("example.", 2, one)
		time.Sleep(time.Minute)
		if got := w.got(one); len(got) != 2*maxAttempts {
			t.Errorf("got %d", len(got))
		}
	})
}

func TestAnErrorIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		time.Sleep(5 * time.Second)
		for rcode, want := range map[int]string{dns.RcodeRefused: "answered REFUSED", dns.RcodeNotAuth: "answered NOTAUTH", dns.RcodeNotImplemented: "answered NOTIMP", 11: "answered with an error"} {
			one := remote(10 + rcode)
			w.serve(one, refusing(rcode))
			apex := fmt.Sprintf("z%d.example.", rcode)
			w.change(apex, 1, one)
			time.Sleep(10 * time.Minute)
			if got := w.got(one); len(got) != 1 {
				t.Errorf("%d: got %v", rcode, got)
			}
			if s := w.status(apex)[0]; s.Pending || s.Fault != want || !s.Told.IsZero() {
				t.Errorf("%d: %+v", rcode, s)
			}
		}
	})
}

// What is no answer to what was asked changes nothing.
func TestForgedAnswers(t *testing.T) {
	for name, forge := range map[string]func(w *world, q *dns.Msg, to zones.Remote){
		"another address": func(w *world, q *dns.Msg, to zones.Remote) { w.give(answering(q), remote(99)) },
		"another port": func(w *world, q *dns.Msg, to zones.Remote) {
			w.give(answering(q), zones.Remote{Addr: netip.AddrPortFrom(to.Addr.Addr(), 54)})
		},
		"another id": func(w *world, q *dns.Msg, to zones.Remote) {
			a := answering(q)
			a.Id++
			w.give(a, to)
		},
		"another zone": func(w *world, q *dns.Msg, to zones.Remote) {
			a := answering(q)
			a.Question[0].Name = "example.org."
			w.give(a, to)
		},
		"another type": func(w *world, q *dns.Msg, to zones.Remote) {
			a := answering(q)
			a.Question[0].Qtype = dns.TypeA
			w.give(a, to)
		},
		"no question": func(w *world, q *dns.Msg, to zones.Remote) {
			a := answering(q)
			a.Question = nil
			w.give(a, to)
		},
		"a query": func(w *world, q *dns.Msg, to zones.Remote) { w.give(q, to) },
		"another opcode": func(w *world, q *dns.Msg, to zones.Remote) {
			a := answering(q)
			a.Opcode = dns.OpcodeQuery
			w.give(a, to)
		},
		"short": func(w *world, q *dns.Msg, to zones.Remote) { w.notifier.receive([]byte{1, 2, 3}, to.Addr) },
		"cut": func(w *world, q *dns.Msg, to zones.Remote) {
			packed, _ := answering(q).Pack()
			w.notifier.receive(packed[:len(packed)-1], to.Addr)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				defer w.end()
				one := remote(1)
				w.serve(one, func(q *dns.Msg) *dns.Msg {
					forge(w, q, one)
					return nil
				})
				time.Sleep(5 * time.Second)
				w.change("example.", 1, one)
				time.Sleep(time.Minute)
				if got := w.got(one); len(got) != maxAttempts {
					t.Errorf("got %v", got)
				}
				if s := w.status("example.")[0]; !s.Told.IsZero() || s.Fault == "" {
					t.Errorf("%+v", s)
				}
			})
		})
	}
	// What can't be read at all by the server is answered without a question.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one := remote(1)
		w.serve(one, func(q *dns.Msg) *dns.Msg {
			a := refusing(dns.RcodeFormatError)(q)
			a.Question = nil
			return a
		})
		time.Sleep(5 * time.Second)
		w.change("example.", 1, one)
		time.Sleep(time.Minute)
		if s := w.status("example.")[0]; s.Fault != "answered FORMERR" {
			t.Errorf("%+v", s)
		}
	})
}

func (w *world) give(m *dns.Msg, from zones.Remote) {
	packed, err := m.Pack()
	if err != nil {
		w.t.Error(err)
	}
	w.notifier.receive(packed, from.Addr)
}

// A dead server holds up nobody, is not flooded, and is told what it missed when it is back.
func TestADeadServerHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 3000
		w := newWorld(t, nil)
		defer w.end()
		living, dead := remote(1), remote(2)
		w.serve(living, answering)
		time.Sleep(5 * time.Second)
		began := time.Since(w.began)
		for i := range many {
			w.change(fmt.Sprintf("z%d.example.", i), 1, living, dead)
		}
		time.Sleep(4 * time.Minute)
		got := w.got(living)
		if len(got) != many || got[many-1].at-began > 4*time.Second {
			t.Errorf("%d messages, the last after %s", len(got), got[len(got)-1].at-began)
		}
		if n := len(w.got(dead)); n > 4*maxAttempts+10*maxAttempts {
			t.Errorf("the dead server was sent %d messages in four minutes", n)
		}
		w.notifier.mu.Lock()
		flying := len(w.notifier.flying)
		w.notifier.mu.Unlock()
		if flying != 1 {
			t.Errorf("%d messages are under way to it", flying)
		}
		w.serve(dead, answering)
		time.Sleep(30 * time.Second)
		for i := range many {
			apex := fmt.Sprintf("z%d.example.", i)
			if s := w.status(apex); s[1].Serial != 1 || s[1].Pending || s[1].Fault != "" {
				t.Fatalf("%s: %+v", apex, s)
			}
		}
	})
}

// A change is told before what was to be told anyway.
func TestChangesComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 5000
		w := newWorld(t, func(o *Options) { o.PerSecond = 100 })
		defer w.end()
		one := remote(1)
		w.serve(one, answering)
		w.mu.Lock()
		w.duty[0] = false
		w.mu.Unlock()
		time.Sleep(5 * time.Second)
		for i := range many {
			w.put(fmt.Sprintf("z%d.example.", i), 1, one)
		}
		w.mu.Lock()
		w.duty[0] = true
		w.mu.Unlock()
		time.Sleep(10 * time.Second)
		if n := len(w.got(one)); n < 800 || n > 1100 {
			t.Errorf("%d messages in 10 s at 100 a second", n)
		}
		began := time.Since(w.began)
		w.change(fmt.Sprintf("z%d.example.", many-1), 2, one)
		w.change("new.example.", 1, one)
		time.Sleep(time.Second)
		after := 0
		for _, r := range w.got(one) {
			if r.at >= began && (r.zone == "new.example." || r.zone == fmt.Sprintf("z%d.example.", many-1)) {
				after++
			}
		}
		if after != 2 {
			t.Errorf("%d of two changes were told within a second", after)
		}
		time.Sleep(time.Minute)
		if n := len(w.got(one)); n != many+1 {
			t.Errorf("%d messages for %d zones", n, many+1)
		}
	})
}

func TestDutyIsTakenAndLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one := remote(1)
		w.serve(one, answering)
		w.mu.Lock()
		w.duty[0] = false
		w.mu.Unlock()
		time.Sleep(5 * time.Second)
		w.change("a.example.", 1, one)
		w.put("b.example.", 1, one)
		w.put("nobody.example.", 1)
		time.Sleep(time.Minute)
		if got := w.got(one); len(got) != 0 {
			t.Fatalf("not on duty, it told %v", got)
		}
		set := func(on bool) {
			w.mu.Lock()
			w.duty[0] = on
			w.mu.Unlock()
			time.Sleep(5 * time.Second)
		}
		set(true)
		if got := w.got(one); len(got) != 2 {
			t.Fatalf("on duty, it told %v", got)
		}
		set(false)
		w.change("a.example.", 2, one)
		time.Sleep(time.Minute)
		if got := w.got(one); len(got) != 2 {
			t.Fatalf("no longer on duty, it told %v", got)
		}
		if _, err := w.notifier.Notified(zones.MustParseName("a.example.")); !errors.Is(err, ErrNotOnDuty) {
			t.Error(err)
		}
		w.notifier.mu.Lock()
		if len(w.notifier.peers) != 0 || len(w.notifier.flying) != 0 || len(w.notifier.due) != 0 {
			t.Errorf("something is kept: %v", w.notifier.peers)
		}
		w.notifier.mu.Unlock()
	})
}

// A copy of the partition that is another is looked at anew, and only what differs is told.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one := remote(1)
		w.serve(one, answering)
		for _, apex := range []string{"same.example.", "changed.example.", "gone.example."} {
			w.put(apex, 1, one)
		}
		w.notifier.Reset(0)
		time.Sleep(5 * time.Second)
		if got := w.got(one); len(got) != 3 {
			t.Fatalf("got %v", got)
		}
		w.put("changed.example.", 2, one)
		w.mu.Lock()
		delete(w.content, zones.MustParseName("gone.example."))
		w.failing = errors.New("the disk is away")
		w.mu.Unlock()
		w.notifier.Reset(0) // fails in the middle, and is repeated
		time.Sleep(5 * time.Second)
		if got := w.got(one); len(got) != 4 || got[3].zone != "changed.example." || got[3].soa != 2 {
			t.Fatalf("got %v", got)
		}
		if _, err := w.notifier.Notified(zones.MustParseName("gone.example.")); !errors.Is(err, ErrNotOnDuty) {
			t.Error(err)
		}
	})
}

// What happens while the zones are looked at is not undone by what was seen before it.
func TestChangesDuringALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one, two := remote(1), remote(2)
		w.serve(one, answering)
		w.serve(two, answering)
		time.Sleep(5 * time.Second)
		w.put("a.example.", 1, one)
		w.put("b.example.", 1, one)
		w.during = func() {
			w.change("a.example.", 2, two)
			w.notifier.Changed(0, Zone{Apex: zones.MustParseName("b.example."), At: 9}, true)
			w.change("c.example.", 1, one)
		}
		w.notifier.Reset(0)
		time.Sleep(5 * time.Second)
		if s := w.status("a.example."); len(s) != 1 || s[0].Remote != two || s[0].Serial != 2 {
			t.Errorf("%+v", s)
		}
		if _, err := w.notifier.Notified(zones.MustParseName("b.example.")); !errors.Is(err, ErrNotOnDuty) {
			t.Error("a zone that was deleted is back")
		}
		if s := w.status("c.example."); len(s) != 1 {
			t.Error("a zone that was made meanwhile is not known")
		}
	})
}

func TestSettingsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one, two, three := remote(1), remote(2), remote(3)
		for _, r := range []zones.Remote{one, three} {
			w.serve(r, answering)
		}
		time.Sleep(5 * time.Second)
		w.change("example.", 1, one, two)
		time.Sleep(3 * time.Second)
		w.change("example.", 1, three, one, three) // two is given up in the middle of it; the serial is the same
		time.Sleep(time.Minute)
		if got := w.got(two); len(got) == 0 || len(got) >= maxAttempts {
			t.Errorf("two got %v", got)
		}
		if got := w.got(one); len(got) != 1 {
			t.Errorf("one got %v", got)
		}
		if got := w.got(three); len(got) != 1 {
			t.Errorf("three got %v", got)
		}
		if s := w.status("example."); len(s) != 2 || s[0].Remote != three || s[1].Remote != one {
			t.Errorf("%+v", s)
		}
		// An older word changes nothing.
		w.notifier.Changed(0, Zone{Apex: zones.MustParseName("example."), Serial: 9, At: 0, Remote: []zones.Remote{two}}, false)
		if s := w.status("example."); len(s) != 2 {
			t.Errorf("%+v", s)
		}
		w.notifier.Changed(0, Zone{Apex: zones.MustParseName("example."), At: 99}, true)
		if _, err := w.notifier.Notified(zones.MustParseName("example.")); !errors.Is(err, ErrNotOnDuty) {
			t.Error(err)
		}
	})
}

func TestAddressesOfNoServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Allowed = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")} })
		defer w.end()
		loop := zones.Remote{Addr: netip.MustParseAddrPort("127.0.0.1:53")}
		allowed := zones.Remote{Addr: netip.MustParseAddrPort("127.0.0.2:53")}
		w.serve(allowed, answering)
		time.Sleep(5 * time.Second)
		w.change("example.", 1, loop, allowed)
		time.Sleep(time.Minute)
		if got := w.got(loop); len(got) != 0 {
			t.Errorf("sent %v", got)
		}
		if s := w.status("example."); s[0].Fault == "" || s[0].Pending || s[1].Fault != "" || s[1].Serial != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// signer is a Session that "signs" with one octet more.
type signer struct{ key string }

func (s *signer) SignRequest(msg []byte, _ time.Time) []byte {
	out := append([]byte{}, msg...)
	rr := &dns.TXT{Hdr: dns.RR_Header{Name: "sig.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{s.key}}
	var m dns.Msg
	_ = m.Unpack(out)
	m.Extra = append(m.Extra, rr)
	out, _ = m.Pack()
	return out
}

func (s *signer) VerifyAnswer(msg []byte, _ time.Time) ([]byte, error) {
	var m dns.Msg
	if err := m.Unpack(msg); err != nil || len(m.Extra) != 1 || m.Extra[0].(*dns.TXT).Txt[0] != s.key {
		return nil, errors.New("not signed")
	}
	m.Extra = nil
	return m.Pack()
}

func TestSignedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := zones.MustParseName("key.")
		w := newWorld(t, func(o *Options) {
			o.Session = func(name zones.Name) (Session, error) {
				if name != key {
					return nil, errors.New("unknown here")
				}
				return &signer{name.String()}, nil
			}
		})
		defer w.end()
		one, two := remote(1), remote(2)
		one.Key, two.Key = key, zones.MustParseName("nokey.")
		w.serve(one, func(q *dns.Msg) *dns.Msg {
			if len(q.Extra) != 1 {
				t.Errorf("not signed: %v", q)
			}
			w.give(answering(q), one) // first comes somebody else's
			a := answering(q)
			a.Extra = q.Extra
			return a
		})
		time.Sleep(5 * time.Second)
		w.change("example.", 1, one, two)
		time.Sleep(time.Minute)
		if s := w.status("example."); s[0].Serial != 1 || s[0].Fault != "" {
			t.Errorf("%+v", s[0])
		} else if s[1].Fault == "" || s[1].Fault == noAnswer || len(w.got(two)) != 0 {
			t.Errorf("%+v; sent %v", s[1], w.got(two))
		}
		if got := w.got(one); len(got) != 1 {
			t.Errorf("got %v", got)
		}
		// One that takes the signature away gets nowhere.
		w.serve(one, answering)
		w.change("example.", 2, one)
		time.Sleep(time.Minute)
		if s := w.status("example."); s[0].Serial != 1 || s[0].Fault != "not signed" {
			t.Errorf("%+v", s[0])
		}
	})
}

func TestMessageWithoutRoomForTheSOA(t *testing.T) {
	long := zones.MustParseName(fmt.Sprintf("%063d.%063d.%063d.%059d.", 1, 2, 3, 4))
	rdata := append(append([]byte(long), long...), make([]byte, 20)...)
	soa, err := zones.NewRRset(long, zones.TypeSOA, 1, rdata)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []zones.RRset{soa, {}} {
		var m dns.Msg
		if err := m.Unpack(appendRequest(nil, 7, long, s)); err != nil || len(m.Answer) != 0 || m.Id != 7 {
			t.Errorf("%v, %v", &m, err)
		}
	}
}

// A slow server's answer to an earlier attempt counts, but not for a serial that it was not told of.
func TestLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end()
		one := remote(1)
		slow := func(q *dns.Msg) *dns.Msg {
			a := answering(q)
			time.AfterFunc(4*time.Second, func() { w.give(a, one) })
			return nil
		}
		w.serve(one, slow)
		time.Sleep(5 * time.Second)
		w.change("example.", 1, one)
		time.Sleep(time.Minute)
		if got := w.got(one); len(got) != 3 {
			t.Errorf("got %v", got)
		}
		if s := w.status("example.")[0]; s.Serial != 1 || s.Fault != "" || s.Told.Sub(w.began) != 9*time.Second {
			t.Errorf("%+v", s)
		}
		w.serve(one, func(q *dns.Msg) *dns.Msg {
			w.serve(one, nil)
			return slow(q)
		})
		w.change("example.", 2, one)
		time.Sleep(time.Second / 2)
		w.change("example.", 3, one)
		time.Sleep(time.Minute)
		if s := w.status("example.")[0]; s.Serial != 1 || s.Fault != noAnswer {
			t.Errorf("told of 2, it is taken to know %+v", s)
		}
	})
}
