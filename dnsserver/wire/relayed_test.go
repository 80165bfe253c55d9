package wire_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"balefire/dnsserver/wire"
	"balefire/zones"
	"balefire/zones/answer"
	"balefire/zones/zonefile"
	"balefire/zones/zonestest"
)

const answerScripts = "../../testdata/answers"

// scripted calls ask with the view and the question of every query in testdata/answers, and returns how many there were.
func scripted(t *testing.T, ask func(v zones.View, name zones.Name, qtype zones.Type)) (queries int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(answerScripts, "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var view zones.View
		for block := range strings.SplitSeq(string(text), "\n\n") {
			lines := strings.Split(block, "\n")
			for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
				lines = lines[1:]
			}
			if len(lines) == 0 || lines[0] == "" {
				continue
			}
			end := slices.Index(lines, "----")
			words := strings.Fields(lines[0])
			switch words[0] {
			case "zone":
				view = scriptedZone(t, words[1], strings.Join(lines[1:end], "\n")+"\n")
			case "file":
				data, err := os.ReadFile(filepath.Join(answerScripts, words[2]))
				if err != nil {
					t.Fatal(err)
				}
				view = scriptedZone(t, words[1], string(data))
			case "query":
				qtype, err := zones.ParseType(words[2])
				if err != nil {
					t.Fatal(err)
				}
				ask(view, zones.MustParseName(words[1]), qtype)
				queries++
			}
		}
	}
	return queries
}

func scriptedZone(t *testing.T, apex, text string) zones.View {
	t.Helper()
	origin := zones.MustParseName(apex)
	c, err := zonefile.Read(strings.NewReader(text), zonefile.Options{Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	return zonestest.NewView(origin, c.RRsets)
}

// question asks for a name and a type, with EDNS and DO as wanted.
func question(name zones.Name, qtype zones.Type, edns, dnssec bool) packet {
	q := header(rd, 1).question(string(name), uint16(qtype), 1)
	if !edns {
		return q
	}
	q = header(rd, 1, 0, 0, 1).question(string(name), uint16(qtype), 1)
	if dnssec {
		return q.opt(1232, do, "")
	}
	return q.opt(1232, 0, "")
}

// messages writes the answer to a question as it goes over each transport.
func messages(t *testing.T, name zones.Name, qtype zones.Type, dnssec bool, a *answer.Answer) (out [][]byte) {
	t.Helper()
	for _, edns := range []bool{false, true} {
		if dnssec && !edns {
			continue
		}
		for _, limit := range []int{512, 1232, 65535} {
			var q wire.Query
			wire.Parse(question(name, qtype, edns, dnssec), &q)
			if q.Verdict != wire.Ask && q.Verdict != wire.Fail {
				t.Fatalf("%s %s: %v", name, qtype, q.Verdict)
			}
			r := wire.Reply{Limit: limit, UDPSize: 1232}
			r.FromAnswer(a)
			m, _ := wire.Append(nil, &q, a, &r)
			out = append(out, m)
		}
	}
	return out
}

// relayed encodes and decodes a.
func relayed(t *testing.T, a *answer.Answer, into *answer.Answer) {
	t.Helper()
	if err := answer.Decode(answer.Encode(nil, a), into); err != nil {
		t.Fatal(err)
	}
}

// TestRelayedAnswersAreTheSame: a node that was told an answer sends the octets that the node which told it would have sent.
func TestRelayedAnswersAreTheSame(t *testing.T) {
	var a, told answer.Answer // one of each for all, as servers do
	asked := 0
	queries := scripted(t, func(v zones.View, name zones.Name, qtype zones.Type) {
		for _, dnssec := range []bool{false, true} {
			if err := answer.Resolve(v, answer.Question{Name: name, Type: qtype, DNSSEC: dnssec}, &a); err != nil {
				continue // nothing is told then
			}
			asked++
			relayed(t, &a, &told)
			if told.Encloser != a.Encloser || told.Kind != a.Kind {
				t.Errorf("%s %s: %v at %s, want %v at %s", name, qtype, told.Kind, told.Encloser, a.Kind, a.Encloser)
			}
			want, got := messages(t, name, qtype, dnssec, &a), messages(t, name, qtype, dnssec, &told)
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("%s %s dnssec=%v, message %d:\ngot:  %x\nwant: %x", name, qtype, dnssec, i, got[i], want[i])
				}
			}
		}
	})
	if queries < 100 || asked < queries {
		t.Fatalf("only %d questions of %d queries: are the scripts still there?", asked, queries)
	}
}

// TestRelayedAnswersAreCutAlike has answers that fit no message, of which not all is told.
func TestRelayedAnswersAreCutAlike(t *testing.T) {
	name := zones.MustParseName("www.example.com.")
	big := func(owner string, n int) zones.RRset {
		var rdatas [][]byte
		for i := range n {
			rdatas = append(rdatas, binary.BigEndian.AppendUint32(nil, uint32(i)))
		}
		s, err := zones.NewRRset(zones.MustParseName(owner), zones.TypeA, 300, rdatas...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	small := big("small.example.com.", 1)
	tests := map[string]struct {
		entries []answer.Entry
		told    int
	}{
		"fits":           {[]answer.Entry{{RRset: big(".", 4000)}, {Section: inAdditional, RRset: small}}, 2},
		"one too many":   {[]answer.Entry{{RRset: big(".", 4400)}, {RRset: small}, {Section: inAdditional, RRset: small}}, 1},
		"the second":     {[]answer.Entry{{RRset: big(".", 3000)}, {RRset: big("com.", 3000)}, {RRset: small}}, 2},
		"optional first": {[]answer.Entry{{RRset: small}, {Section: inAdditional, Optional: true, RRset: big(".", 5000)}, {Section: inAdditional, Optional: true, RRset: small}}, 3},
	}
	for title, tt := range tests {
		t.Run(title, func(t *testing.T) {
			a := answer.Answer{Authoritative: true, ExtendedError: answer.NoExtendedError, Encloser: name, Entries: tt.entries}
			var told answer.Answer
			relayed(t, &a, &told)
			if len(told.Entries) != tt.told {
				t.Errorf("%d entries were told, want %d", len(told.Entries), tt.told)
			}
			want, got := messages(t, name, zones.TypeA, false, &a), messages(t, name, zones.TypeA, false, &told)
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Errorf("message %d: %d octets, want %d", i, len(got[i]), len(want[i]))
				}
			}
		})
	}
}
