package chaos

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"balefire/store/storetest"
	"balefire/zones"
)

// violations are what a checker has found.
type violations struct {
	mu    sync.Mutex
	found map[law]string
}

func newViolations() *violations {
	return &violations{found: make(map[law]string)}
}

func (v *violations) add(broken law, text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found[broken] = text
}

func (v *violations) laws() map[law]string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.found)
}

// liars are two servers of one region, in two groups, with the same facts; the second one may lie.
func liars(t *testing.T, lie func(*liar)) (h *history, second *liar, v *violations) {
	t.Helper()
	truth := newFacts()
	first := newLiar(t, "first", "g1", truth)
	second = newLiar(t, "second", "g2", truth)
	ps := new(places)
	ps.add(first.place)
	ps.add(second.place)
	v = newViolations()
	h = newHistory(t, ps, v.add)
	h.prepare(t, first.place)
	second.tell(lie)
	return h, second, v
}

// TestCheckerFindsLies: each law, broken by one server in one way, is found broken; a server that is honest, slow or
// silent breaks none.
func TestCheckerFindsLies(t *testing.T) {
	var calls atomic.Int64
	oneIn := func(n int64) bool { return calls.Add(1)%n == 0 }
	for _, tt := range []struct {
		name string
		lie  func(l *liar)
		want law // "": none
	}{
		{"honest", honest, ""},
		{"some answers are missing", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				if oneIn(200) {
					return nil
				}
				return a
			}
		}, ""},
		{"it does not know", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				if oneIn(3) {
					return new(dns.Msg).SetRcode(a, dns.RcodeServerFailure)
				}
				return a
			}
		}, ""},
		{"changes are refused", func(l *liar) {
			l.refuses = func(h http.Header) bool { h.Set("Retry-After", "5"); return true }
		}, ""},
		{"an acknowledged change is lost", func(l *liar) {
			l.loses = func(name string) bool { return strings.HasPrefix(name, "n1.") }
		}, nothingLost},
		{"NXDOMAIN for what exists", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				if a.Question[0].Qtype == dns.TypeTXT && oneIn(20) {
					return new(dns.Msg).SetRcode(a, dns.RcodeNameError)
				}
				return a
			}
		}, nothingFalse},
		{"nothing for what exists", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				if oneIn(20) {
					a.Answer = nil
				}
				return a
			}
		}, nothingFalse},
		{"REFUSED for what is hosted", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				if oneIn(20) {
					return new(dns.Msg).SetRcode(a, dns.RcodeRefused)
				}
				return a
			}
		}, nothingFalse},
		{"something for what does not exist", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				if a.Rcode == dns.RcodeNameError {
					a.Rcode = dns.RcodeSuccess
				}
				return a
			}
		}, nothingFalse},
		{"what nobody wrote yet", func(l *liar) {
			l.number = func(_ string, n int64) int64 { return n + 1000 }
		}, nothingFalse},
		{"another name's record", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				for _, rr := range a.Answer {
					if rr.Header().Rrtype == dns.TypeTXT {
						rr.Header().Name = "other." + rr.Header().Name
					}
				}
				return a
			}
		}, nothingFalse},
		{"an answer goes back", func(l *liar) {
			l.number = func(_ string, n int64) int64 {
				if n > 0 && oneIn(3) {
					return n - 1
				}
				return n
			}
		}, neverBack},
		{"one answer is of two generations", func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg {
				for _, rr := range a.Extra {
					if address, ok := rr.(*dns.A); ok && oneIn(3) {
						address.A[3]++
					}
				}
				return a
			}
		}, neverMixed},
		{"one export is of two generations", func(l *liar) {
			l.exported = func(text string) string {
				return strings.Replace(text, "x149 TXT \"", "x149 TXT \"1", 1)
			}
		}, neverMixed},
		{"an export is not whole", func(l *liar) {
			l.exported = func(text string) string { return text[:strings.Index(text, "x149")] }
		}, neverMixed},
		{"changes are refused without Retry-After", func(l *liar) {
			l.refuses = func(http.Header) bool { return true }
		}, wellBehaved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, second, v := liars(t, tt.lie)
			ctx, cancel := context.WithCancel(t.Context())
			done := h.run(ctx, 1)
			enough := func() bool {
				return len(v.laws()) > 0 || h.acked.Load()+h.refused.Load() > 300 && h.answered.Load() > 1000 && h.exported.Load() > 5
			}
			await(t, time.Minute, "found out, or at work", enough)
			cancel()
			done.Wait()
			second.tell(honest) // what it has lost is lost all the same
			h.settle(100 * time.Millisecond)
			h.expectAnswered()
			found := v.laws()
			if _, ok := found[tt.want]; !ok && tt.want != "" {
				t.Errorf("not found: %s; %s", tt.want, h.report())
			}
			if tt.want == "" && len(found) > 0 {
				t.Errorf("of a server that does not lie: %v", found)
			}
		})
	}
}

// TestCheckerWantsAnswers: when the second group does not answer either, that is a violation.
func TestCheckerWantsAnswers(t *testing.T) {
	truth := newFacts()
	v := newViolations()
	ps := new(places)
	h := newHistory(t, ps, v.add)
	var all []*liar
	for i, group := range []string{"g1", "g2"} {
		l := newLiar(t, fmt.Sprintf("n%d", i), group, truth)
		ps.add(l.place)
		all = append(all, l)
	}
	h.prepare(t, all[0].place)
	for _, l := range all {
		l.tell(func(l *liar) {
			l.message = func(a *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(a, dns.RcodeServerFailure) }
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := h.run(ctx, 1)
	await(t, time.Minute, "unanswered", func() bool { return h.unanswered.Load() > 0 })
	cancel()
	done.Wait()
	h.expectAnswered()
	if _, ok := v.laws()[soonAnswered]; !ok {
		t.Errorf("not found: %s; %s", soonAnswered, h.report())
	}
}

// TestCheckerComparesDisks: copies that differ at one position are found, and copies that don't, not.
func TestCheckerComparesDisks(t *testing.T) {
	copyOf := func(value string) string {
		dir := t.TempDir()
		s, p := storetest.Open(t, storetest.Options(t, dir))
		var l storetest.Log
		l.Add(t, storetest.Create("example."))
		l.Add(t, storetest.Put("example.", storetest.Set("a.example.", 60, zones.TypeTXT, value)))
		if _, err := p.Apply(l.Records); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	one, same, other := copyOf(`"1"`), copyOf(`"1"`), copyOf(`"2"`)
	for _, tt := range []struct {
		name   string
		second string
		differ bool
	}{{"equal", same, false}, {"unequal", other, true}} {
		t.Run(tt.name, func(t *testing.T) {
			v := newViolations()
			compared, err := compareDisks(t.Context(), []disk{{"one", one}, {"second", tt.second}}, 1, storetest.TopicID, v.add)
			if err != nil || compared != 1 {
				t.Fatal(compared, err)
			}
			if _, found := v.laws()[equalCopies]; found != tt.differ {
				t.Errorf("found %v, want %v", v.laws(), tt.differ)
			}
		})
	}
}

// TestCheckerForgives: a node that has lost its disk has no past, one that is down is not written through, and one that has left
// is not asked.
func TestCheckerForgives(t *testing.T) {
	h, second, v := liars(t, honest)
	k := h.keys[0]
	h.count(second.place, k)
	second.tell(func(l *liar) { l.number = func(string, int64) int64 { return 0 } })
	second.forget()
	if err := h.judge(second.place, k); err != nil {
		t.Error(err)
	}
	second.setDown(true)
	var asked atomic.Int64
	second.tell(func(l *liar) {
		honest(l)
		l.message = func(a *dns.Msg) *dns.Msg { asked.Add(1); return a }
		l.refuses = func(http.Header) bool { return true }
	})
	h.places.remove(second.place)
	h.places.add(second.place)
	ctx, cancel := context.WithCancel(t.Context())
	done := h.run(ctx, 1)
	await(t, time.Minute, "both are asked, the one that is up is written through", func() bool {
		return asked.Load() > 100 && h.acked.Load() > 100
	})
	cancel()
	done.Wait()
	if h.refused.Load() > 0 {
		t.Error("one that is down was written through")
	}
	h.places.remove(second.place)
	before := asked.Load()
	h.settle(time.Minute)
	if asked.Load() != before {
		t.Error("one that has left was asked")
	}
	if found := v.laws(); len(found) > 0 {
		t.Error(found)
	}
}
