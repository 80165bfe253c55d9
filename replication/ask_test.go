package replication

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"balefire/replication/relay"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/answer"
)

func question() asked {
	return asked{
		partition: 17, least: 4711, client: netip.MustParseAddr("192.0.2.7"),
		question: answer.Question{Name: zones.MustParseName("www.example.com."), Type: zones.TypeAAAA, DNSSEC: true},
	}
}

// The format of questions is what the file says, for as long as there are nodes that speak it.
func TestQuestionFormat(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "formats", "v1", "question.hex"))
	if err != nil {
		t.Fatal(err)
	}
	golden, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if got := question().append(nil); !bytes.Equal(got, golden) {
		t.Errorf("a question is %x, was %x", got, golden)
	}
	if got, err := parseAsked(golden); err != nil || got != question() {
		t.Errorf("read as %+v, %v", got, err)
	}
}

// What is not a question is refused, wherever it is cut, and whatever is added.
func TestQuestionsAreRead(t *testing.T) {
	whole := question().append(nil)
	for i := range whole {
		if a, err := parseAsked(whole[:i]); err == nil {
			t.Errorf("cut at %d it is %+v", i, a)
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"a later version":     func(b []byte) []byte { b[0]++; return b },
		"an unknown flag":     func(b []byte) []byte { b[1] |= 2; return b },
		"a negative number":   func(b []byte) []byte { b[4] |= 0x80; return b },
		"an odd address":      func(b []byte) []byte { b[askHeader] = 3; return b },
		"more than it needs":  func(b []byte) []byte { return append(b, 0) },
		"an upper-case name":  func(b []byte) []byte { b[len(b)-2] -= 'a' - 'A'; return b },
		"an impossible label": func(b []byte) []byte { b[askHeader+1+4] = 0x81; return b },
	} {
		if a, err := parseAsked(change(bytes.Clone(whole))); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for _, client := range []string{"2001:db8::1", "0.0.0.0"} {
		q := question()
		q.client, q.least = netip.MustParseAddr(client), -1
		if got, err := parseAsked(q.append(nil)); err != nil || got != q {
			t.Errorf("%+v read as %+v, %v", q, got, err)
		}
	}
	q := question()
	q.client = netip.Addr{}
	if got, err := parseAsked(q.append(nil)); err != nil || got != q {
		t.Errorf("%+v read as %+v, %v", q, got, err)
	}
}

func FuzzParseAsked(f *testing.F) {
	f.Add(question().append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAsked(b); err == nil && !bytes.Equal(a.append(nil), b) {
			t.Errorf("%x is read as %+v, which is %x", b, a, a.append(nil))
		}
	})
}

// A node answers others from what it holds itself, and from nowhere else.
func TestAnswersOthers(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	apex := zoneIn(t, n, 1)
	o := do(t, n, storetest.Create(apex, storetest.Set("www."+apex, 60, zones.TypeA, "192.0.2.1")))
	ask := func(change func(*asked)) relay.Status {
		q := asked{partition: 1, least: o.Offset, question: answer.Question{Name: zones.MustParseName("www." + apex), Type: zones.TypeA}}
		change(&q)
		reply, status := n.answerAsked(t.Context(), q.append(nil), []byte("before"))
		if !bytes.HasPrefix(reply, []byte("before")) {
			t.Errorf("what was in the reply is gone: %q", reply)
		}
		if status != relay.OK && len(reply) != len("before") {
			t.Errorf("%v with an answer", status)
		}
		if status == relay.OK && q.question.Name == zones.MustParseName("www."+apex) {
			var a answer.Answer
			if err := answer.Decode(reply[len("before")+replyHeader:], &a); err != nil || len(a.Section(answer.SectionAnswer)) != 1 {
				t.Errorf("answered with %+v, %v", a, err)
			}
		}
		return status
	}
	for name, c := range map[string]struct {
		want   relay.Status
		change func(*asked)
	}{
		"what it holds":              {relay.OK, func(*asked) {}},
		"any offset":                 {relay.OK, func(q *asked) { q.least = -1 }},
		"an offset to come":          {relay.Behind, func(q *asked) { q.least = o.Offset + 1 }},
		"a partition that is not":    {relay.NotHere, func(q *asked) { q.partition = 3 }},
		"a zone of another":          {relay.NotHere, func(q *asked) { q.partition, q.least = 2, -1 }},
		"a name in no zone, refused": {relay.OK, func(q *asked) { q.question.Name = zones.MustParseName("nowhere.") }},
	} {
		if got := ask(c.change); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if reply, status := n.answerAsked(t.Context(), []byte("rubbish"), nil); status != relay.Failed || len(reply) > 0 {
		t.Errorf("rubbish: %v %x", status, reply)
	}
}

// What was seen is never forgotten for something older.
func TestSawOnlyGoesUp(t *testing.T) {
	n := ready(t, start(t, options(t, t.TempDir())))
	for _, step := range []struct{ saw, least int64 }{{-1, -1}, {0, 0}, {7, 7}, {3, 7}, {8, 8}} {
		n.saw(0, step.saw)
		if got := n.leastOf(0); got != step.least {
			t.Errorf("after %d: %d, want %d", step.saw, got, step.least)
		}
	}
	n.saw(99, 1) // no such partition
}
