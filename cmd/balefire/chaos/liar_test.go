package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// liar is a server of the test's own, of as much DNS and HTTP as the checker uses. It is honest unless it is told
// otherwise.
type liar struct {
	*place
	facts *facts
	// Its lies, under the facts' lock. Each gets the truth and returns what is said instead.
	number   func(name string, n int64) int64
	message  func(a *dns.Msg) *dns.Msg // nil: no answer
	exported func(text string) string
	// loses says which changes are acknowledged and not made; refuses, which are refused, with what headers.
	loses   func(name string) bool
	refuses func(h http.Header) bool
}

// facts are what is true, at all liars that share it.
type facts struct {
	mu      sync.Mutex
	numbers map[string]int64 // by name
	whole   int64            // the generation of the zone that is replaced whole
}

func newFacts() *facts { return &facts{numbers: make(map[string]int64)} }

// newLiar starts one.
func newLiar(t *testing.T, id, group string, truth *facts) *liar {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{
		place: newPlace(id, "r1", group, packets.LocalAddr().String()), facts: truth,
	}
	l.tell(honest)
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(l.serveDNS)}
	ended := make(chan error, 1)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	web := httptest.NewServer(http.HandlerFunc(l.serveHTTP))
	t.Cleanup(web.Close)
	l.setAdmin(strings.TrimPrefix(web.URL, "http://"))
	return l
}

// tell has the server lie from now on.
func (l *liar) tell(lie func(*liar)) {
	l.facts.mu.Lock()
	defer l.facts.mu.Unlock()
	lie(l)
}

func honest(l *liar) {
	l.number = func(_ string, n int64) int64 { return n }
	l.message = func(a *dns.Msg) *dns.Msg { return a }
	l.exported = func(text string) string { return text }
	l.loses = func(string) bool { return false }
	l.refuses = func(http.Header) bool { return false }
}

func (l *liar) serveDNS(w dns.ResponseWriter, q *dns.Msg) {
	l.facts.mu.Lock()
	a := l.message(l.answer(q))
	l.facts.mu.Unlock()
	if a != nil {
		_ = w.WriteMsg(a) // the client has gone
	}
}

func (l *liar) answer(q *dns.Msg) *dns.Msg {
	a := new(dns.Msg).SetReply(q)
	a.Authoritative = true
	name := q.Question[0].Name
	if q.Question[0].Qtype == dns.TypeMX {
		g := l.number(name, l.facts.whole)
		a.Answer = []dns.RR{record("%s 60 IN MX %d m%d.%s", name, g&0xffff, g, wholeZone)}
		a.Extra = []dns.RR{record("m%d.%s 60 IN A 10.%d.%d.%d", g, wholeZone, g>>16&255, g>>8&255, g&255)}
		return a
	}
	n, ok := l.facts.numbers[name]
	if !ok {
		a.Rcode = dns.RcodeNameError
		_, zone, _ := strings.Cut(name, ".")
		a.Ns = []dns.RR{record("%s 60 IN SOA ns1.%s h.%s 1 2 3 4 5", zone, zone, zone)}
		return a
	}
	a.Answer = []dns.RR{record(`%s 60 IN TXT "%d"`, name, l.number(name, n))}
	return a
}

func record(format string, args ...any) dns.RR {
	rr, err := dns.NewRR(fmt.Sprintf(format, args...))
	if err != nil {
		panic(err)
	}
	return rr
}

func (l *liar) serveHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	l.facts.mu.Lock()
	defer l.facts.mu.Unlock()
	path := strings.Split(r.URL.Path, "/") // "", v1, zones, ZONE, file or rrsets, …
	zone := path[3]
	switch {
	case r.Method == "GET":
		fmt.Fprint(w, l.exported(wholeText(l.facts.whole)))
	case zone == wholeZone:
		var at int64
		_, text, _ := strings.Cut(string(body), "x0 TXT ")
		if _, err := fmt.Sscanf(text, `"%d"`, &at); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		l.facts.whole = at
	case path[4] == "file":
		for n := range namesPerZone {
			l.facts.numbers[fmt.Sprintf("n%d.%s", n, zone)] = 0
		}
	case l.refuses(w.Header()):
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "nothing was changed")
	default:
		var set struct{ Records []string }
		var n int64
		if err := json.Unmarshal(body, &set); err != nil || len(set.Records) != 1 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if _, err := fmt.Sscanf(set.Records[0], `"%d"`, &n); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if name := path[5] + "." + zone; !l.loses(name) {
			l.facts.numbers[name] = n
		}
	}
}
