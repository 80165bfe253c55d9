package answer_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"balefire/zones"
	"balefire/zones/answer"
	"balefire/zones/zonefile"
	"balefire/zones/zonestest"
)

// TestRootZone asks the real, signed root zone of August 2017.
func TestRootZone(t *testing.T) {
	f, err := os.Open("../../testdata/zones/root.zone")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := zonefile.Read(f, zonefile.Options{Origin: zones.Root})
	if err != nil {
		t.Fatal(err)
	}
	view := zonestest.NewView(zones.Root, c.RRsets)

	tests := []struct {
		query string
		want  string // its lines must all be in the answer, in order
		lines int
	}{
		{"query se. NS", `
NOERROR referral at se.
authority    se. 172800 NS a.ns.se.
additional   a.ns.se. 172800 A 192.36.144.107
additional   a.ns.se. 172800 AAAA 2a01:3f0:0:301::53`, 1 + 10 + 18},
		{"query www.example.se. A do", `
NOERROR referral at se.
authority    se. 172800 NS a.ns.se.
authority    se. 86400 DS 59747 5 2 44388B3DE9A22CAF
              + signature 86400 of 1 labels`, 0},
		{"query se. DS", "NOERROR aa positive at se.\nanswer       se. 86400 DS 59747 5 2", 0},
		{"query com. NS", `
NOERROR referral at com.
authority    com. 172800 NS a.gtld-servers.net.
(additional) a.gtld-servers.net. 172800 A 192.5.6.30`, 1 + 13 + 26},
		{"query nosuchtld. A do", `
NXDOMAIN aa name error at .
authority    . 86400 SOA a.root-servers.net. nstld.verisign-grs.com. 2017082100 1800 900 604800 86400
              + signature 86400 of 0 labels
authority    norton. 86400 NSEC now. NS DS RRSIG NSEC
              + signature 86400 of 1 labels
authority    . 86400 NSEC aaa. NS SOA RRSIG NSEC DNSKEY
              + signature 86400 of 0 labels`, 7},
		{"query a.b.nosuchtld. MX", "NXDOMAIN aa name error at .\nauthority    . 86400 SOA a.root-servers.net.", 2},
		{"query . NS", `
NOERROR aa positive at .
answer       . 518400 NS a.root-servers.net.
(additional) a.root-servers.net. 518400 A 198.41.0.4`, 1 + 13 + 26},
		{"query . DNSKEY do", "NOERROR aa positive at .\nanswer       . 172800 DNSKEY key\n              + signature 172800 of 0 labels", 0},
		// root-servers.net is a delegation of net, and its hosts are glue here.
		{"query a.root-servers.net. A", "NOERROR referral at net.\nauthority    net. 172800 NS a.gtld-servers.net.", 0},
	}
	var a answer.Answer
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			q := scriptQuestion(t, strings.Fields(tt.query))
			if err := answer.Resolve(view, q, &a); err != nil {
				t.Fatal(err)
			}
			got := formatAnswer(view, q, &a)
			if n := strings.Count(got, "\n") + 1; tt.lines != 0 && n != tt.lines {
				t.Errorf("%d lines, want %d:\n%s", n, tt.lines, got)
			}
			rest := got
			for line := range strings.SplitSeq(strings.TrimSpace(tt.want), "\n") {
				_, after, ok := strings.Cut(rest, line)
				if !ok {
					t.Fatalf("no %q (in this order) in:\n%s", line, got)
				}
				rest = after
			}
		})
	}
}

// brokenView fails from the n-th read on.
type brokenView struct {
	zones.View
	reads int
}

var errDisk = errors.New("disk on fire")

func (v *brokenView) fail() error {
	if v.reads--; v.reads < 0 {
		return errDisk
	}
	return nil
}

func (v *brokenView) Find(n zones.Name, at *zones.Location) error {
	return errors.Join(v.fail(), v.View.Find(n, at))
}

func (v *brokenView) FindNSEC(n zones.Name) (zones.Node, error) {
	node, err := v.View.FindNSEC(n)
	return node, errors.Join(v.fail(), err)
}

func (v *brokenView) FindNSEC3(n zones.Name) (zones.Node, error) {
	node, err := v.View.FindNSEC3(n)
	return node, errors.Join(v.fail(), err)
}

// TestUnknownIsAnError: wherever reading fails, there is no answer at all: no denial, no half of one.
func TestUnknownIsAnError(t *testing.T) {
	for _, file := range []string{"nsec.zone", "nsec3.zone", "optout.zone"} {
		data, err := os.ReadFile(scripts + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		view := scriptZone(t, "example.", string(data))
		for _, query := range []string{
			"query nx.example. A do", "query www.example. TXT do", "query q.wild.example. A do", "query both.example. A do",
			"query x.insecure.example. A do", "query example. MX do", "query x.secure.example. A", "query nx.d.example. A do",
		} {
			q := scriptQuestion(t, strings.Fields(query))
			var a answer.Answer
			reads := 0
			for ; reads < 100; reads++ {
				err := answer.Resolve(&brokenView{view, reads}, q, &a)
				if err == nil {
					break
				}
				if !errors.Is(err, errDisk) {
					t.Fatalf("%s %s: %v", file, query, err)
				}
			}
			if reads == 0 || reads == 100 {
				t.Errorf("%s %s: answered after %d reads", file, query, reads)
			}
		}
	}
}

func TestNotAZone(t *testing.T) {
	const soa = "@ 60 IN SOA ns hostmaster 1 2 3 4 60\n@ 60 IN NS ns\n"
	long := strings.Repeat("a23456789.", 23) // a hashed name does not fit below it
	tests := []struct {
		name, apex, zone, query string
		want                    error
	}{
		{"a name beside the zone", "example.", soa, "query example.test. A", answer.ErrOutside},
		{"no SOA", "example.", "@ 60 IN NS ns\n", "query www.example. A", answer.ErrNoSOA},
		{"more iterations than allowed", "example.", soa + "@ 60 IN NSEC3PARAM 1 0 151 -\n", "query x.example. A do", answer.ErrIterations},
		{"as many as allowed", "example.", soa + "@ 60 IN NSEC3PARAM 1 0 150 -\n", "query x.example. A do", nil},
		{"without DO they don't matter", "example.", soa + "@ 60 IN NSEC3PARAM 1 0 151 -\n", "query x.example. A", nil},
		{"unknown hash algorithm", "example.", soa + "@ 60 IN NSEC3PARAM 2 0 0 -\n", "query x.example. A do", answer.ErrNSEC3Param},
		{"NSEC3PARAM that is not in use", "example.", soa + "@ 60 IN NSEC3PARAM 1 1 0 -\n", "query x.example. A do", answer.ErrNSEC3Param},
		{"no room for hashed names", long, soa + "@ 60 IN NSEC3PARAM 1 0 0 -\n", "query x." + long + " A do", answer.ErrNSEC3Param},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			view := scriptZone(t, tt.apex, tt.zone)
			var a answer.Answer
			if err := answer.Resolve(view, scriptQuestion(t, strings.Fields(tt.query)), &a); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestAdditionalIsBounded: of twenty servers outside the delegation thirteen get addresses (MaxAdditional); of
// twenty inside, all, since they can't be left out in silence (RFC 9471).
func TestAdditionalIsBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("@ 60 IN SOA ns hostmaster 1 2 3 4 60\n@ 60 IN NS ns\n")
	for _, host := range strings.Split("abcdefghijklmnopqrst", "") {
		text.WriteString("cut 60 IN NS " + host + "\n" + host + " 60 IN A 192.0.2.1\n")
		text.WriteString("inside 60 IN NS " + host + ".inside\n" + host + ".inside 60 IN A 192.0.2.1\n")
		text.WriteString("mail 60 IN MX 1 " + host + "\n")
	}
	view := scriptZone(t, "example.", text.String())
	var a answer.Answer
	for query, want := range map[string]int{
		"query cut.example. NS":    answer.MaxAdditional,
		"query mail.example. MX":   answer.MaxAdditional,
		"query inside.example. NS": 20,
	} {
		if err := answer.Resolve(view, scriptQuestion(t, strings.Fields(query)), &a); err != nil {
			t.Fatal(err)
		}
		if got := len(a.Section(answer.SectionAdditional)); got != want {
			t.Errorf("%s: %d additional RRsets, want %d", query, got, want)
		}
	}
}

// commonQueries is what must not allocate, in a zone signed with NSEC or NSEC3.
var commonQueries = []string{
	"query www.example. A", "query www.example. A do", "query www.example. AAAA", "query nx.example. A", "query nx.example. A do",
	"query www.example. AAAA do", "query example. MX", "query x.secure.example. A", "query x.secure.example. A do",
	"query x.insecure.example. A do", "query q.wild.example. A", "query q.wild.example. A do", "query both.example. A do",
	"query x.d.example. A", "query nx.d.example. A do", "query www.example. ANY", "query www.example. RRSIG", "query example. NS do",
}

func TestResolveDoesNotAllocate(t *testing.T) {
	for _, file := range []string{"nsec.zone", "nsec3.zone"} {
		view := signedZone(t, file)
		var a answer.Answer
		for _, query := range commonQueries {
			q := scriptQuestion(t, strings.Fields(query))
			resolve := func() {
				if err := answer.Resolve(view, q, &a); err != nil {
					t.Fatal(err)
				}
			}
			if allocs := testing.AllocsPerRun(20, resolve); allocs != 0 {
				t.Errorf("%s %s: %v allocations", file, query, allocs)
			}
		}
	}
}

// TestResetLetsGo: an Answer that has been reset holds nothing of the zone, whose memory may be gone.
func TestResetLetsGo(t *testing.T) {
	view := signedZone(t, "nsec3.zone")
	var a answer.Answer
	if err := answer.Resolve(view, scriptQuestion(t, strings.Fields("query both.example. A do")), &a); err != nil {
		t.Fatal(err)
	}
	entries := a.Entries[:cap(a.Entries)]
	a.Reset()
	for i, e := range entries {
		if e.RRset.Owner != "" || !e.Signatures.IsZero() {
			t.Errorf("entry %d is still %s %s", i, e.RRset.Owner, e.RRset.Key)
		}
	}
	if a.Encloser != "" || len(a.Entries) != 0 {
		t.Errorf("still at %s with %d entries", a.Encloser, len(a.Entries))
	}
}

func signedZone(tb testing.TB, file string) *zonestest.View {
	tb.Helper()
	data, err := os.ReadFile(scripts + "/" + file)
	if err != nil {
		tb.Fatal(err)
	}
	apex := zones.MustParseName("example.")
	c, err := zonefile.Read(strings.NewReader(string(data)), zonefile.Options{Origin: apex})
	if err != nil {
		tb.Fatal(err)
	}
	return zonestest.NewView(apex, c.RRsets)
}

// BenchmarkResolve includes the test view's linear search of some forty names.
func BenchmarkResolve(b *testing.B) {
	for _, file := range []string{"nsec.zone", "nsec3.zone"} {
		view := signedZone(b, file)
		for _, query := range commonQueries {
			words := strings.Fields(query)
			qtype, err := zones.ParseType(words[2])
			if err != nil {
				b.Fatal(err)
			}
			q := answer.Question{Name: zones.MustParseName(words[1]), Type: qtype, DNSSEC: len(words) > 3}
			var a answer.Answer
			b.Run(file+"/"+strings.Join(words[1:], "_"), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := answer.Resolve(view, q, &a); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
