package secondary

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// world is a node, and primaries, in a bubble of fake time: no disk, no network.
type world struct {
	t      *testing.T
	s      *Secondary
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	hosted   map[zones.Name]*hosted
	offset   int64
	outcomes map[int64]store.Outcome
	standing []string // what was published of zones' standing, "confirmed" or "expired", with the time since the beginning
	began    time.Time
	servers  map[string]*server
	offDuty  bool
	rank     int
	busy     int // connections and packets under way
	busiest  int
}

type hosted struct {
	info store.ZoneInfo
	sets []zones.RRset
}

// server is a primary; its zones all have one serial.
type server struct {
	serial uint32
	silent bool
	delay  time.Duration
	asked  []time.Duration // when it was asked for a SOA, since the beginning
	sent   int             // zones
}

const (
	refreshTime = time.Hour
	retryTime   = 10 * time.Minute
	expireTime  = 8 * time.Hour
)

func setsOf(apex zones.Name, serial uint32) []zones.RRset {
	return []zones.RRset{
		storetest.Set(apex.String(), 60, zones.TypeNS, "ns1.test."),
		storetest.Set(apex.String(), 60, zones.TypeSOA, fmt.Sprintf("a. b. %d %d %d %d 60", serial,
			int(refreshTime.Seconds()), int(retryTime.Seconds()), int(expireTime.Seconds()))),
	}
}

func newWorld(t *testing.T, change ...func(*Options)) *world {
	w := &world{t: t, hosted: map[zones.Name]*hosted{}, outcomes: map[int64]store.Outcome{}, servers: map[string]*server{}, began: time.Now(), done: make(chan struct{})}
	opts := Options{Zones: w, Publisher: w, Duty: w, Client: Client{Dial: w.dial}, TempDir: t.TempDir(), Logger: zerolog.Nop()}
	for _, c := range change {
		c(&opts)
	}
	var err error
	if w.s, err = New(opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	go func() {
		defer close(w.done)
		w.s.Run(ctx)
	}()
	return w
}

func (w *world) stop() {
	w.cancel()
	<-w.done
	time.Sleep(time.Minute) // for servers in the middle of an answer
}

// sleep lets time pass, and all that is due then be done.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// server makes a primary at an address, whose zones have a serial.
func (w *world) server(addr string, serial uint32) *server {
	v := &server{serial: serial}
	w.servers[addr] = v
	return v
}

func (w *world) change(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// host makes a secondary zone. With a serial it has content, and was confirmed a time ago.
func (w *world) host(name string, serial uint32, ago time.Duration, primaries ...string) zones.Name {
	apex := zones.MustParseName(name)
	h := &hosted{info: store.ZoneInfo{Apex: apex, Serial: zones.Serial(serial)}}
	for _, p := range primaries {
		h.info.Settings.Primaries = append(h.info.Settings.Primaries, at(p))
	}
	if serial == 0 {
		h.info.Standing.Awaiting = true
	} else {
		h.sets = setsOf(apex, serial)
		h.info.Standing.Confirmed = time.Now().Add(-ago)
	}
	w.change(func() { w.hosted[apex] = h })
	w.s.Put(h.info)
	return apex
}

func (w *world) OnDuty(int32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.offDuty
}

func (w *world) Rank(zones.Name) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rank
}

// Open implements Zones.
func (w *world) Open(apex zones.Name) (Zone, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hosted[apex]
	if h == nil {
		return nil, store.ErrNoZone
	}
	copied := *h
	return &copied, nil
}

func (h *hosted) Info() store.ZoneInfo { return h.info }
func (h *hosted) Close()               {}
func (h *hosted) RRset(owner zones.Name, key zones.Key) (zones.RRset, bool, error) {
	for _, s := range h.sets {
		if s.Owner == owner && s.Key == key {
			return s, true, nil
		}
	}
	return zones.RRset{}, false, nil
}

func (h *hosted) All(context.Context) iter.Seq2[zones.RRset, error] {
	return func(yield func(zones.RRset, error) bool) {
		for _, s := range h.sets {
			if !yield(s, nil) {
				return
			}
		}
	}
}

// Publish applies what whole zones and standings are.
func (w *world) Publish(_ context.Context, cs *zones.ChangeSet) (store.Position, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.offset++
	position := store.Position{Offset: w.offset}
	o := store.Outcome{Position: position, Status: store.StatusApplied}
	h := w.hosted[cs.Zone]
	for _, p := range cs.Preconditions {
		if is, ok := p.(zones.IfSerial); ok && is.Serial != h.info.Serial {
			o.Rejection = &zones.Rejection{Rule: zones.RulePrecondition}
		}
	}
	if o.Rejection == nil {
		switch op := cs.Ops[0].(type) {
		case zones.OpReplaceZone:
			h.sets = op.RRsets
			h.info.Serial = soaOf(h.sets).SOASerial()
			h.info.Standing = zones.Standing{Confirmed: time.Now()}
			h.info.Changed = position
		case zones.OpSetStanding:
			what := "confirmed"
			h.info.Standing.Expired = op.Expired
			if op.Expired {
				what = "expired"
			} else {
				h.info.Standing.Confirmed = time.Now()
			}
			w.standing = append(w.standing, fmt.Sprintf("%s %s", what, time.Since(w.began).Round(time.Minute)))
		default:
			w.t.Errorf("published: %T", op)
		}
	} else {
		o.Status = store.StatusRejected
	}
	w.outcomes[w.offset] = o
	return position, nil
}

func (w *world) Applied(_ context.Context, at store.Position) (store.Outcome, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.outcomes[at.Offset], nil
}

// dial makes a connection to a server of the world.
func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	here, there := net.Pipe()
	w.change(func() {
		w.busy++
		w.busiest = max(w.busiest, w.busy)
	})
	go func() {
		defer func() {
			_ = there.Close()
			w.change(func() { w.busy-- })
		}()
		w.answer(network, addr, there)
	}()
	return here, nil
}

func (w *world) answer(network, addr string, conn net.Conn) {
	buf := make([]byte, 4096)
	for {
		var n int
		var err error
		if network == "udp" {
			n, err = conn.Read(buf)
		} else {
			if _, err = io.ReadFull(conn, buf[:2]); err == nil {
				n = int(binary.BigEndian.Uint16(buf))
				_, err = io.ReadFull(conn, buf[:n])
			}
		}
		if err != nil {
			return
		}
		var q dns.Msg
		if err := q.Unpack(buf[:n]); err != nil {
			w.t.Error(err)
			return
		}
		w.mu.Lock()
		v := w.servers[addr]
		serial, silent, delay := v.serial, v.silent, v.delay
		if q.Question[0].Qtype == dns.TypeSOA {
			v.asked = append(v.asked, time.Since(w.began))
		} else if !silent {
			v.sent++
		}
		w.mu.Unlock()
		if silent {
			continue
		}
		time.Sleep(delay) // in the bubble
		sets := setsOf(zones.MustParseName(q.Question[0].Name), serial)
		m := new(dns.Msg)
		m.SetReply(&q)
		m.Authoritative = true
		m.Answer = axfrOf(sets)
		if q.Question[0].Qtype == dns.TypeSOA {
			m.Answer = m.Answer[:1]
		}
		packed, err := m.Pack()
		if err != nil {
			w.t.Error(err)
			return
		}
		if network == "tcp" {
			packed = append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)
		}
		if _, err := conn.Write(packed); err != nil {
			return
		}
	}
}

const primaryOne, primaryTwo = "192.0.2.1:53", "192.0.2.2:53"

// within reports whether a time is in a range.
func within(d, from, to time.Duration) bool { return from <= d && d <= to }

// What tests look at, while the world goes on.

func (w *world) times(v *server) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(v.asked)
}

func (w *world) sent(v *server) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return v.sent
}

func (w *world) said() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.standing)
}

func (w *world) most() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busiest
}

// TestRefreshTimes: a new zone is fetched at once, looked at again a little before its refresh time has passed, and after a failure when its
// retry time has.
func TestRefreshTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		v := w.server(primaryOne, 7)
		apex := w.host("example.", 0, 0, primaryOne)
		synctest.Wait()
		st, _ := w.s.Status(apex)
		if st.Last.Serial != 7 || st.Last.Form != Whole || st.Serial != 7 || st.Standing.Awaiting || st.Error != "" || st.Checked.IsZero() {
			t.Fatalf("%+v", st)
		}
		if !within(time.Until(st.Next), refreshTime*7/8, refreshTime) || !within(time.Until(st.Expires), expireTime-time.Second, expireTime) {
			t.Errorf("next in %s, expires in %s", time.Until(st.Next), time.Until(st.Expires))
		}
		w.sleep(10 * time.Hour)
		if n := len(w.times(v)); n < 10 || n > 13 {
			t.Errorf("asked %d times in 10 hours: %v", n, w.times(v))
		}
		for i := 1; i < len(w.times(v)); i++ {
			if !within(w.times(v)[i]-w.times(v)[i-1], refreshTime*7/8, refreshTime+time.Second) {
				t.Errorf("asked at %v", w.times(v))
			}
		}

		// Not there: three packets each time, which end after 2, 4 and 8 seconds.
		w.change(func() { v.silent, v.asked = true, nil })
		w.sleep(4 * time.Hour)
		st, _ = w.s.Status(apex)
		if st.Failures < 15 || st.Error == "" || st.FailedAt.IsZero() || !st.Standing.Served() {
			t.Errorf("%+v", st)
		}
		for i := 3; i < len(w.times(v)); i += 3 {
			if !within(w.times(v)[i]-w.times(v)[i-3], retryTime*7/8, retryTime+time.Minute) {
				t.Errorf("asked at %v", w.times(v))
				break
			}
		}
		// There again.
		w.change(func() { v.silent, v.serial = false, 8 })
		w.sleep(retryTime + time.Minute)
		if st, _ = w.s.Status(apex); st.Failures != 0 || st.Error != "" || st.Last.Serial != 8 {
			t.Errorf("%+v", st)
		}
	})
}

// TestExpiry: a zone expires when its SOA says so after it was last confirmed, once, and comes back with its primary.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		v := w.server(primaryOne, 7)
		apex := w.host("example.", 0, 0, primaryOne)
		synctest.Wait()
		w.change(func() { v.silent = true })
		w.sleep(expireTime - time.Minute)
		if st, _ := w.s.Status(apex); !st.Standing.Served() {
			t.Fatalf("%+v", st.Standing)
		}
		w.sleep(2 * time.Minute)
		st, _ := w.s.Status(apex)
		if !st.Standing.Expired || !st.Expires.IsZero() {
			t.Fatalf("%+v", st)
		}
		w.sleep(24 * time.Hour)
		if !slices.Equal(w.said(), []string{"expired 8h0m0s"}) {
			t.Errorf("%v", w.said())
		}
		w.change(func() { v.silent = false })
		w.sleep(retryTime + time.Minute)
		if st, _ := w.s.Status(apex); !st.Standing.Served() || st.Error != "" {
			t.Errorf("%+v", st)
		}
	})
}

// TestConfirmationsAreRare: that a zone is as its primary has it is written once in an eighth of the time in which it would expire, and it lives
// on by that.
func TestConfirmationsAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		v := w.server(primaryOne, 7)
		apex := w.host("example.", 0, 0, primaryOne)
		w.sleep(10 * expireTime)
		if n := len(w.said()); n < 35 || n > 80 {
			t.Errorf("%d times in ten times the time in which it expires, asked %d times: %v", n, len(w.times(v)), w.said())
		}
		for _, s := range w.said() {
			if s[0] == 'e' {
				t.Error(s)
			}
		}
		if st, _ := w.s.Status(apex); !st.Standing.Served() || len(w.times(v)) < 80 {
			t.Errorf("%+v, asked %d times", st, len(w.times(v)))
		}
	})
}

// TestNotified: a zone is looked at at once, unless what it is told of is old; what comes while it is looked at, afterwards.
func TestNotified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		v := w.server(primaryOne, 7)
		apex := w.host("example.", 0, 0, primaryOne)
		synctest.Wait()
		asked := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(v.asked)
		}
		if asked() != 1 {
			t.Fatalf("asked %d times", asked())
		}
		from := netip.MustParseAddr("192.0.2.1")
		w.change(func() { v.serial = 8 })
		w.s.Notified(apex, from, 7)
		w.s.Notified(apex, from, 6)
		w.s.Notified(zones.MustParseName("other."), from, 9)
		if asked() != 1 {
			t.Error("asked for what is known")
		}
		w.s.Notified(apex, from, 8)
		if st, _ := w.s.Status(apex); asked() != 2 || st.Serial != 7 && st.Serial != 8 {
			t.Errorf("asked %d times: %+v", asked(), st)
		}
		synctest.Wait()
		if st, _ := w.s.Status(apex); st.Serial != 8 {
			t.Errorf("%+v", st)
		}
		w.change(func() { v.delay = time.Second })
		w.s.Notified(apex, from, 9)
		synctest.Wait()
		for range 100 { // once more is enough
			w.s.Notified(apex, from, 10)
		}
		w.change(func() { v.serial = 10 })
		w.sleep(10 * time.Second)
		if st, _ := w.s.Status(apex); asked() != 4 || st.Serial != 10 {
			t.Errorf("asked %d times: %+v", asked(), st)
		}
		// Without a serial, it is looked.
		w.s.Notified(apex, from, 0)
		if asked() != 5 {
			t.Errorf("asked %d times", asked())
		}
	})
}

// TestRunningUntilAskedAgain: who asks for a refresh while an attempt is under way never finds a zone at rest with that one's failure, which is of before.
func TestRunningUntilAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.PerPrimary = 1 })
		defer w.stop()
		v := w.server(primaryOne, 7)
		w.change(func() { v.silent = true })
		apex := w.host("example.", 0, 0, primaryOne)
		synctest.Wait()
		// The first attempt is under way. Another zone has the primary's turn before the second.
		w.s.Refresh(w.host("other.example.", 0, 0, primaryOne))
		w.s.Refresh(apex)
		failed := false
		for range 10_000 {
			st, _ := w.s.Status(apex)
			if st.Error != "" {
				failed = true
				w.change(func() { v.silent = false })
			}
			if !st.Running {
				if !failed || st.Serial != 7 || st.Error != "" {
					t.Errorf("at rest, before it was asked again: %+v", st)
				}
				return
			}
			w.sleep(10 * time.Millisecond)
		}
		t.Error("it is never at rest")
	})
}

// TestNoStorm: however many zones are due, a primary is asked for few of them at once, and for all.
func TestNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 600
		w := newWorld(t, func(o *Options) { o.PerPrimary = 5 })
		defer w.stop()
		v := w.server(primaryOne, 7)
		v.delay = 10 * time.Millisecond
		for i := range n {
			w.host(fmt.Sprintf("z%d.example.", i), 0, 0, primaryOne)
		}
		w.sleep(refreshTime * 3 / 4)
		if w.sent(v) != n {
			t.Errorf("%d of %d zones were fetched", w.sent(v), n)
		}
		if w.most() > 2*5 { // what was closed counts until the server sees it
			t.Errorf("%d at once", w.most())
		}
		asked := len(w.times(v))
		w.sleep(refreshTime)
		if again := len(w.times(v)) - asked; again < n*9/10 || again > n*5/4 {
			t.Errorf("%d asked for again", again)
		}
	})
}

// TestAwayPrimary: a primary that is away is asked little, however many zones it has, and others' zones are not kept waiting.
func TestAwayPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.Checks = 16 })
		defer w.stop()
		away, here := w.server(primaryOne, 7), w.server(primaryTwo, 7)
		away.silent = true
		for i := range 400 {
			w.host(fmt.Sprintf("z%d.example.", i), 0, 0, primaryOne)
		}
		w.sleep(time.Minute)
		apex := w.host("good.", 0, 0, primaryTwo)
		w.sleep(time.Second)
		if st, _ := w.s.Status(apex); st.Serial != 7 {
			t.Errorf("%+v", st)
		}
		w.sleep(time.Hour)
		if n := len(w.times(away)); n > 200 {
			t.Errorf("asked %d times in an hour", n)
		}
		// It is back: all its zones come.
		w.change(func() { away.silent = false })
		w.sleep(2 * time.Hour)
		if w.sent(away) != 400 || len(w.times(here)) < 2 {
			t.Errorf("%d zones came; the other was asked %d times", w.sent(away), len(w.times(here)))
		}
	})
}

// TestDuty: only the node on duty asks; whoever comes on duty begins soon.
func TestDuty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.change(func() { w.offDuty = true })
		v := w.server(primaryOne, 7)
		apex := w.host("example.", 0, 0, primaryOne)
		w.sleep(3 * time.Hour)
		w.s.Notified(apex, netip.MustParseAddr("192.0.2.1"), 7)
		w.sleep(time.Second)
		if st, _ := w.s.Status(apex); len(w.times(v)) != 0 || st.OnDuty {
			t.Errorf("asked %d times; %+v", len(w.times(v)), st)
		}
		w.change(func() { w.offDuty = false })
		w.sleep(dutyLook + time.Second)
		if st, _ := w.s.Status(apex); st.Serial != 7 || !st.OnDuty {
			t.Errorf("%+v", st)
		}
	})
}

// TestRegionsTakeTurns: a region that is not the first waits, and does not fetch what another has.
func TestRegionsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		v := w.server(primaryOne, 7)
		apex := w.host("example.", 6, 0, primaryOne)
		w.change(func() { w.rank = 2 })
		w.sleep(startSpread + time.Second)
		if w.sent(v) != 1 {
			t.Errorf("%d fetched: nobody else did", w.sent(v))
		}
		w.change(func() { v.serial = 8 })
		w.s.Notified(apex, netip.MustParseAddr("192.0.2.1"), 8)
		synctest.Wait()
		if w.sent(v) != 1 {
			t.Error("did not wait")
		}
		w.change(func() { // another region
			h := w.hosted[apex]
			h.sets, h.info.Serial, h.info.Changed.Offset = setsOf(apex, 8), 8, 1000
		})
		w.sleep(time.Minute)
		if st, _ := w.s.Status(apex); w.sent(v) != 1 || st.Serial != 8 || st.Error != "" {
			t.Errorf("%d fetched: %+v", w.sent(v), st)
		}
	})
}

// TestRemoved: a zone that is not hosted any more is not asked for.
func TestRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		v := w.server(primaryOne, 7)
		apex := w.host("example.", 0, 0, primaryOne)
		synctest.Wait()
		w.s.Remove(apex)
		n := len(w.times(v))
		w.sleep(5 * time.Hour)
		if _, known := w.s.Status(apex); known || len(w.times(v)) != n {
			t.Errorf("%t, asked %d times", known, len(w.times(v))-n)
		}
	})
}

// TestForget: a zone is forgotten unless it was told of since it was asked which zones there are, even if it went and came again.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stop()
		w.server(primaryOne, 7)
		stays, goes := w.host("stays.", 0, 0, primaryOne), w.host("goes.", 0, 0, primaryOne)
		synctest.Wait()
		known := w.s.In(0)
		if len(known) != 2 {
			t.Fatalf("%v", known)
		}
		w.s.Remove(stays)
		w.change(func() { w.s.Put(w.hosted[stays].info) })
		for apex, told := range known {
			w.s.Forget(apex, told)
		}
		if _, ok := w.s.Status(stays); !ok {
			t.Error("what came again was forgotten")
		}
		if _, ok := w.s.Status(goes); ok {
			t.Error("what was not told of again is still there")
		}
	})
}

// TestNoStormAtStart: zones that a node finds when it begins, which were all due while it was away, are asked for evenly, and all of them.
func TestNoStormAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 600
		w := newWorld(t)
		defer w.stop()
		v := w.server(primaryOne, 7)
		for i := range n {
			w.host(fmt.Sprintf("z%d.example.", i), 7, refreshTime, primaryOne)
		}
		asked := 0
		for range 12 {
			w.sleep(startSpread / 12)
			now := len(w.times(v))
			if more := now - asked; more == 0 || more > 3*n/12 {
				t.Errorf("%d asked for in a twelfth of the time", more)
			}
			asked = now
		}
		if asked != n {
			t.Errorf("%d of %d were asked for", asked, n)
		}
	})
}
