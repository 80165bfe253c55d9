package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// warm asks for a zone until it is answered from memory.
func warm(t *testing.T, s *store.Store, apex zones.Name) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		h := s.Find(apex, zones.TypeSOA)
		if h.Status != store.Here {
			t.Fatalf("%s: %s %v", apex, h.Status, h.Err)
		}
		h.Release()
		if _, hot := s.FindHot(apex, zones.TypeSOA); hot {
			return
		}
	}
	t.Fatalf("%s is never brought into memory", apex)
}

// asked is names and what both views say of them.
func describe(v zones.View, n zones.Name) string {
	var at zones.Location
	if err := v.Find(n, &at); err != nil {
		return "error"
	}
	nsec, err1 := v.FindNSEC(n)
	nsec3, err2 := v.FindNSEC3(n)
	node := func(n zones.Node) string { return fmt.Sprintf("%s=%x", n.Owner, n.Packed()) }
	return fmt.Sprintln(at.Exact, node(at.Node), node(at.Encloser), node(at.Cut), node(nsec), node(nsec3), err1, err2, node(v.Apex()))
}

// TestHotIsCold compares the two views of a zone after random changes, and the zone patched in memory with
// the same one loaded anew.
func TestHotIsCold(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	opts := storetest.Options(t, t.TempDir())
	hot, p := storetest.Open(t, opts)
	coldOpts := storetest.Options(t, t.TempDir())
	coldOpts.HotBytes = 1 // nothing fits
	cold, q := storetest.Open(t, coldOpts)
	var l storetest.Log
	apexes := []string{"example.", "sub.example.", "other.test.", "."}
	for _, apex := range apexes {
		l.Add(t, storetest.Create(apex))
	}
	// A zone that came signed, so that NSEC and NSEC3 are looked for, too.
	l.Add(t, storetest.Create("signed.",
		storetest.Set("signed.", 300, zones.TypeNSEC, "b.signed. NS SOA NSEC"),
		storetest.Set("b.signed.", 300, zones.TypeNSEC, "a.x.signed. A NSEC"), storetest.Set("b.signed.", 300, zones.TypeA, "192.0.2.1"),
		storetest.Set("glue.d.signed.", 300, zones.TypeA, "192.0.2.1"), storetest.Set("d.signed.", 300, zones.TypeNS, "glue.d.signed."),
		storetest.Set("a.x.signed.", 300, zones.TypeNSEC, "signed. TXT NSEC"), storetest.Set("a.x.signed.", 300, zones.TypeTXT, "x"),
		storetest.Set("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.signed.", 300, zones.TypeNSEC3, "1 0 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr A"),
		storetest.Set("2t7b4g4vsa5smi47k61mv5bv1a22bojr.signed.", 300, zones.TypeNSEC3, "1 0 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A"),
	))
	questions := []string{
		"signed.", "a.signed.", "b.signed.", "c.b.signed.", "x.signed.", "zz.signed.", "glue.d.signed.", "y.d.signed.",
		"000.signed.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.signed.", "1.signed.", "z.signed.",
	}
	for _, apex := range apexes {
		for _, label := range []string{"", "a.", "b.", "c.", "www.", "*.", "ns.", "deep.er.", "er.", "x.y.z.", "y.z.", "z.", "no.x.y.z.", `\000.`, `\001.`, `\001.a.`, "n.a.", "n.n.b."} {
			questions = append(questions, strings.TrimPrefix(label+strings.TrimPrefix(apex, "."), ".")+map[bool]string{true: ".", false: ""}[label+apex == "."])
		}
	}
	compare := func(round int) {
		t.Helper()
		cold.ReadWhole([]uint64{0, 32, 1 << 20}[round%3]) // the cold view has two ways
		for _, text := range questions {
			n := name(text)
			for _, qtype := range []zones.Type{zones.TypeA, zones.TypeDS} {
				a, b := hot.Find(n, qtype), cold.Find(n, qtype)
				if a.Status != store.Here || b.Status != store.Here || a.Apex != b.Apex {
					t.Fatalf("round %d, %s: %s %s %v, %s %s %v", round, n, a.Status, a.Apex, a.Err, b.Status, b.Apex, b.Err)
				}
				if x, y := describe(a.View, n), describe(b.View, n); x != y {
					t.Fatalf("seed %d, round %d, %s: hot\n%scold\n%s", seed, round, n, x, y)
				}
				a.Release()
				b.Release()
			}
		}
	}
	for round := range 12 {
		from := len(l.Records)
		if round == 0 {
			from = 0
		}
		for i, n := 0, rng.IntN(30); i < n; i++ {
			apex := apexes[rng.IntN(len(apexes))]
			owner := map[bool]string{true: "", false: apex}[apex == "."]
			owner = []string{"a.", "b.", "www.", "*.", "x.y.z.", "y.z.", "deep.er.", `\000.`, `\001.a.`}[rng.IntN(9)] + owner
			switch rng.IntN(5) {
			case 0:
				l.Add(t, storetest.Change(apex, zones.OpDeleteName{Owner: name(owner)}))
			case 1:
				l.Add(t, storetest.Put(apex, storetest.Set(owner, 60, zones.TypeNS, "ns.elsewhere.")))
			case 2:
				if rng.IntN(10) == 0 {
					l.Add(t, storetest.Change(apex, zones.OpReplaceZone{RRsets: append(storetest.Apex(apex, 7), storetest.Set("a."+strings.TrimPrefix(apex, "."), 60, zones.TypeA, "192.0.2.66"))}))
				}
			default:
				l.Add(t, storetest.Put(apex, storetest.Set(owner, 60, zones.TypeA, fmt.Sprintf("192.0.2.%d", rng.IntN(256)))))
			}
		}
		apply(t, p, l.Records[from:])
		apply(t, q, l.Records[from:])
		compare(round)
		for _, apex := range append(apexes, "signed.") {
			warm(t, hot, name(apex))
		}
		compare(round)
	}
	if s := cold.Stats(); s.HotZones != 0 || s.ColdFinds == 0 {
		t.Errorf("cold: %+v", s)
	}
	if s := hot.Stats(); s.HotZones != 5 || s.HotBytes <= 0 || s.Loads < 5 {
		t.Errorf("hot: %+v", s)
	}
	check(t, p)
	check(t, q)
}

func TestFind(t *testing.T) {
	s, p := storetest.Open(t, storetest.Options(t, t.TempDir()))
	var l storetest.Log
	for _, apex := range []string{"example.", "sub.example."} {
		l.Add(t, storetest.Create(apex))
	}
	apply(t, p, l.Records)
	for range 2 { // cold, then hot
		for _, tt := range []struct {
			name string
			t    zones.Type
			want string
		}{
			{"example.", zones.TypeA, "example."},
			{"EXAMPLE.", zones.TypeA, "example."},
			{"x.sub.example.", zones.TypeA, "sub.example."},
			{"sub.example.", zones.TypeNS, "sub.example."},
			{"sub.example.", zones.TypeDS, "example."}, // RFC 4035 §3.1.4.1
			{"x.sub.example.", zones.TypeDS, "sub.example."},
			{"example.", zones.TypeDS, "example."}, // no parent is hosted
			{"xsub.example.", zones.TypeA, "example."},
			{"test.", zones.TypeA, ""},
			{".", zones.TypeA, ""},
		} {
			h := s.Find(name(tt.name), tt.t)
			if want := tt.want; (want == "") != (h.Status == store.NotHosted) || want != "" && (h.Apex != name(want) || h.View.Apex().Owner != name(want)) {
				t.Errorf("%s %s: %s %s", tt.name, tt.t, h.Status, h.Apex)
			}
			h.Release()
		}
		warm(t, s, name("example."))
		warm(t, s, name("sub.example."))
	}
	if n := testing.AllocsPerRun(100, func() {
		h := s.Find("\x01x\x03sub\x07example\x00", zones.TypeA)
		h.Release()
	}); n != 0 {
		t.Errorf("finding a hot zone allocates %v times", n)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if h := s.Find(name("x.example."), zones.TypeA); h.Status != store.Elsewhere || h.Partition != 0 {
		t.Errorf("the zone of a closed partition is %s", h.Status)
	}
	if h := s.Find(name("x.test."), zones.TypeA); h.Status != store.NotHosted {
		t.Errorf("an unknown zone is %s", h.Status)
	}
	p, err := s.Open(0, storetest.TopicID)
	if err != nil {
		t.Fatal(err)
	}
	l.Add(t, storetest.Change("sub.example.", zones.OpDeleteZone{}))
	apply(t, p, l.Records)
	h := s.Find(name("x.sub.example."), zones.TypeA)
	if h.Apex != name("example.") || s.Hosted() != 1 {
		t.Errorf("after its deletion: %s %s", h.Status, h.Apex)
	}
	h.Release()
}

// TestWholeChangeSets reads while changes are applied: two RRsets that every record sets to the same marker
// are never seen to differ, nor to go back.
func TestWholeChangeSets(t *testing.T) {
	for _, hotBytes := range []int64{32 << 20, 1} {
		opts := storetest.Options(t, t.TempDir())
		opts.HotBytes = hotBytes
		s, p := storetest.Open(t, opts)
		var l storetest.Log
		mark := func(i int) []zones.RRset {
			ip := fmt.Sprintf("10.0.%d.%d", i/256, i%256)
			return []zones.RRset{storetest.Set("a.example.", 60, zones.TypeA, ip), storetest.Set("z.example.", 60, zones.TypeA, ip)}
		}
		l.Add(t, storetest.Create("example.", mark(0)...))
		for i := 1; i < 400; i++ {
			if i%50 == 0 {
				sets := append(storetest.Apex("example.", uint32(1000+i)), mark(i)...)
				l.Add(t, storetest.Change("example.", zones.OpReplaceZone{RRsets: sets}))
				continue
			}
			l.Add(t, storetest.Put("example.", mark(i)...))
		}
		apply(t, p, l.Records[:1])

		ctx, stop := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		seen := make([]int, 3)
		for i := range seen {
			readers.Go(func() {
				last := ""
				for ctx.Err() == nil {
					h := s.Find("\x01a\x07example\x00", zones.TypeA)
					if h.Status != store.Here {
						t.Errorf("%s: %v", h.Status, h.Err)
						return
					}
					var a, z zones.Location
					err := errors.Join(h.View.Find("\x01a\x07example\x00", &a), h.View.Find("\x01z\x07example\x00", &z))
					sa, _ := a.Node.RRset(zones.TypeA)
					sz, _ := z.Node.RRset(zones.TypeA)
					now := string(sa.First())
					if err != nil || now != string(sz.First()) || now < last {
						t.Errorf("saw %v and %v after %v: %v", sa.First(), sz.First(), []byte(last), err)
						return
					}
					if now != last {
						seen[i]++
					}
					last = now
					h.Release()
				}
			})
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for at := 1; at < len(l.Records); {
			end := min(at+1+rng.IntN(4), len(l.Records))
			apply(t, p, l.Records[at:end])
			at = end
		}
		stop()
		readers.Wait()
		t.Logf("positions seen: %v", seen)
		check(t, p)
	}
}

// TestBudget holds the memory of hot zones to its budget, whatever is asked for.
func TestBudget(t *testing.T) {
	opts := storetest.Options(t, t.TempDir())
	opts.HotBytes = 20 << 10
	s, p := storetest.Open(t, opts)
	var l storetest.Log
	const n = 200
	for i := range n {
		l.Add(t, storetest.Create(fmt.Sprintf("z%d.", i), storetest.Set(fmt.Sprintf("www.z%d.", i), 60, zones.TypeA, "192.0.2.1")))
	}
	apply(t, p, l.Records)
	for range 3 {
		for i := range n {
			warm(t, s, name(fmt.Sprintf("z%d.", i)))
			if got := s.Stats(); got.HotBytes > opts.HotBytes {
				t.Fatalf("%d octets in memory, %d allowed", got.HotBytes, opts.HotBytes)
			}
		}
	}
	got := s.Stats()
	if got.Evictions == 0 || got.HotZones == 0 || got.HotZones == n {
		t.Errorf("%+v", got)
	}
	for i := range n {
		l.Add(t, storetest.Change(fmt.Sprintf("z%d.", i), zones.OpDeleteZone{}))
	}
	apply(t, p, l.Records)
	if got := s.Stats(); got.HotBytes != 0 || got.HotZones != 0 || got.Zones != 0 {
		t.Errorf("after all zones are deleted: %+v", got)
	}
	check(t, p)
}
