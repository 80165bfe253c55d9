package gossip

import (
	"bytes"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

const golden = "../../testdata/formats/v1/gossip.bin"

// goldenMember, goldenCondition and goldenClaims are what the golden exchange says of node "ams1".
var (
	goldenMember = Member{
		ID: "ams1", Region: "eu-west", Group: "blue", Version: "v1.2.3", DNS: "192.0.2.1:53", Admin: "192.0.2.1:8080",
		Relay: "[2001:db8::1]:8853", Fingerprint: [32]byte{0: 0xf0, 31: 0x0f}, Incarnation: 1700000000123456789,
	}
	goldenCondition = Condition{Ready: true, Draining: true, Catalog: 300}
	goldenClaims    = []Claim{
		{Partition: 0, State: Ready, Assigned: true, Position: 4711, Checkpoint: 4000, Digest: [16]byte{0: 0xd0, 15: 0x0d}},
		{Partition: 1, State: Ready, Assigned: true, Position: 0, Checkpoint: -1},
		{Partition: 15, State: Leaving, Position: 1 << 40, Checkpoint: 1<<40 - 1},
		{Partition: 16, State: Restoring, Assigned: true, Position: -1, Checkpoint: -1},
		{Partition: 300, State: Halted, Position: 77, Checkpoint: -1},
	}
)

func goldenExchange() []byte {
	var low, high [statesBlock]byte
	low[0], low[1] = byte(Ready)+1|stateAssigned, byte(Ready)+1|stateAssigned
	low[15], low[16] = byte(Leaving)+1, byte(Restoring)+1|stateAssigned
	high[300-statesBlock] = byte(Halted) + 1
	b := appendHeader(nil, goldenMember.ID, goldenMember.Incarnation)
	b = appendSection(b, key{kind: kindMember}, section{1, appendMember(nil, &goldenMember)})
	b = appendSection(b, key{kind: kindCondition}, section{200, appendCondition(nil, goldenCondition, true)})
	b = appendSection(b, key{kindStates, 0}, section{3, appendStates(nil, &low)})
	b = appendSection(b, key{kindStates, 1}, section{4, appendStates(nil, &high)})
	var positions []byte
	for i := range goldenClaims[:3] {
		positions = appendPosition(positions, int(goldenClaims[i].Partition), &goldenClaims[i])
	}
	b = appendSection(b, key{kindPositions, 0}, section{20000, positions})
	b = appendSection(b, key{kindPositions, 1}, section{20001, appendPosition(nil, 0, &goldenClaims[3])})
	b = appendSection(b, key{kindPositions, 300 / positionsBlock}, section{20002, appendPosition(nil, 300%positionsBlock, &goldenClaims[4])})
	return appendExchange([]byte{version}, b)
}

// read makes a peer of the only statement of an exchange, as a node that hears it does.
func read(t *testing.T, exchange []byte) *Peer {
	t.Helper()
	l := newLedger("self", 1, start)
	heard := 0
	if err := decodeExchange(exchange, func(b []byte) {
		heard++
		st, err := decodeStatement(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.hear(&st, start, true); err != nil {
			t.Fatal(err)
		}
	}); err != nil || heard != 1 {
		t.Fatalf("%d statements, %v", heard, err)
	}
	for id, r := range l.records {
		if id != "self" {
			return r.show()
		}
	}
	return nil
}

func TestGolden(t *testing.T) {
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(goldenExchange(), b) {
		t.Errorf("today's octets are\n%x, the first version's were\n%x", goldenExchange(), b)
	}
	p := read(t, b)
	if p.Member != goldenMember || p.Condition != goldenCondition || !p.Left || p.Sequence != 20002 {
		t.Errorf("read %+v", p)
	}
	if !slices.Equal(p.Claims, goldenClaims) {
		t.Errorf("read claims %+v", p.Claims)
	}
}

// TestCutShort also holds that no prefix of a statement is taken for a whole one where a section is cut.
func TestCutShort(t *testing.T) {
	whole := goldenExchange()
	for n := range whole {
		err := decodeExchange(whole[:n], func(b []byte) {
			if st, err := decodeStatement(b); err == nil && len(st.sections) == 7 {
				t.Errorf("%d of %d octets were taken for all of it", n, len(whole))
			}
		})
		if err == nil && n != 1 {
			t.Errorf("%d of %d octets make an exchange", n, len(whole))
		}
	}
}

func TestRefused(t *testing.T) {
	head := appendHeader(nil, "n", 5)
	with := func(k key, s section) []byte { return appendSection(bytes.Clone(head), k, s) }
	for name, b := range map[string][]byte{
		"nothing":               {},
		"a newer version":       append([]byte{version + 1}, head[1:]...),
		"no ID":                 appendHeader(nil, "", 5),
		"an unprintable ID":     appendHeader(nil, "a\x00", 5),
		"an ID of bad UTF-8":    appendHeader(nil, "a\xff", 5),
		"a long ID":             appendHeader(nil, strings.Repeat("n", maxID+1), 5),
		"incarnation 0":         appendHeader(nil, "n", 0),
		"the last incarnation":  appendHeader(nil, "n", math.MaxUint64),
		"sequence 0":            with(key{kind: kindCondition}, section{0, []byte{1, 0}}),
		"a section that is cut": with(key{kind: kindCondition}, section{1, []byte{1, 0}})[:len(head)+4],
		"a huge section":        with(key{kind: kindCondition}, section{1, make([]byte, maxBody+1)}),
		"an endless number":     append(bytes.Clone(head), 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
	} {
		if st, err := decodeStatement(b); err == nil {
			t.Errorf("%s: read as %+v", name, st)
		} else if newer := name == "a newer version"; errors.Is(err, errVersion) != newer && len(b) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, s := range map[string]keyedSection{
		"a member that is cut":            {key{kind: kindMember}, section{1, appendMember(nil, &goldenMember)[:40]}},
		"a member of bad UTF-8":           {key{kind: kindMember}, section{1, appendMember(nil, &Member{Group: "\xff"})}},
		"a member that is too long":       {key{kind: kindMember}, section{1, appendMember(nil, &Member{Group: strings.Repeat("g", 255), DNS: strings.Repeat("g", 255), Relay: "rrr"})}},
		"a condition that is cut":         {key{kind: kindCondition}, section{1, []byte{1}}},
		"an offset beyond all":            {key{kind: kindCondition}, section{1, []byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}}},
		"half a run":                      {key{kind: kindStates}, section{1, []byte{1}}},
		"runs beyond the block":           {key{kind: kindStates}, section{1, []byte{1, 255, 1, 0}}},
		"an unknown state":                {key{kind: kindStates}, section{1, []byte{byte(states) + 1, 0}}},
		"assigned, but of no state":       {key{kind: kindStates}, section{1, []byte{stateAssigned, 0}}},
		"a position that is cut":          {key{kind: kindPositions}, section{1, []byte{0, 5}}},
		"a digest that is cut":            {key{kind: kindPositions}, section{1, []byte{positionDigest, 5, 5, 1, 2}}},
		"positions in the wrong order":    {key{kind: kindPositions}, section{1, []byte{1, 5, 5, 1, 5, 5}}},
		"a position outside of the block": {key{kind: kindPositions}, section{1, []byte{0x20, 5, 5}}},
	} {
		l := newLedger("self", 1, start)
		good := keyedSection{key{kind: kindCondition}, section{9, []byte{1, 0}}}
		news, err := l.hear(&statement{"n", 5, []keyedSection{s, good}}, start, false)
		if err == nil || news != standingNew || len(l.records["n"].sections) != 1 || l.records["n"].sections[good.key].sequence != 9 {
			t.Errorf("%s: %v; kept %v", name, err, l.records["n"].sections)
		}
	}
}

// TestLater: what a later program adds is left out, and the rest is read.
func TestLater(t *testing.T) {
	b := appendHeader(nil, "n", 5)
	b = appendSection(b, key{kind: 99}, section{1, []byte("later")})
	b = appendSection(b, key{kind: kindMember}, section{2, append(appendMember(nil, &goldenMember), "later"...)})
	b = appendSection(b, key{kindStates, 200}, section{3, []byte{1, 0}})
	p := read(t, appendExchange([]byte{version}, b))
	if p == nil || p.Group != goldenMember.Group || p.Sequence != 2 || len(p.Claims) != 0 {
		t.Errorf("read %+v", p)
	}
}

// TestLongestSectionsFit: a section that fits no packet would never be told.
func TestLongestSectionsFit(t *testing.T) {
	const packet = 1400 - 2 - (2 + maxLabel) - 29 // memberlist's headers, the label, the encryption
	l := newLedger(strings.Repeat("i", maxID), maxIncarnation-1, start)
	var o own
	m := Member{ID: l.self.id, Region: strings.Repeat("r", 255), Group: strings.Repeat("g", 255), Relay: "rr"}
	if err := m.validate(); err != nil {
		t.Fatal(err)
	}
	o.begin(l, &m)
	o.sequence = math.MaxUint64 - 10000
	claims := make([]Claim, MaxPartitions)
	for i := range claims {
		claims[i] = Claim{Partition: int32(i), State: State(i % 2), Position: math.MaxInt64, Checkpoint: math.MaxInt64, Digest: [16]byte{1}}
	}
	o.claim(l, claims)
	o.refresh(l)
	if want := 2 + MaxPartitions/statesBlock + MaxPartitions/positionsBlock; len(l.self.sections) != want {
		t.Fatalf("%d sections, want %d", len(l.self.sections), want)
	}
	for k, s := range l.self.sections {
		if err := k.check(s.body); err != nil {
			t.Errorf("section %v: %v", k, err)
		}
		if size := 3 + headerLen(l.self.id) + sectionLen(k, s); size > packet || len(s.body) > maxBody {
			t.Errorf("section %v has %d octets, of them %d its content; a packet has %d", k, size, len(s.body), packet)
		}
	}
	if got := l.self.show().Claims; len(got) != MaxPartitions || got[4095].Position != math.MaxInt64-1 {
		t.Errorf("%d claims", len(got))
	}
}

func FuzzHear(f *testing.F) {
	f.Add(goldenExchange())
	f.Add([]byte{version})
	f.Add(appendExchange([]byte{version}, appendHeader(nil, "self", maxIncarnation-1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLedger("self", 1, start)
		var o own
		o.begin(l, &Member{ID: "self"})
		_ = decodeExchange(b, func(b []byte) {
			st, err := decodeStatement(b)
			switch {
			case err != nil:
			case st.id == "self":
				l.disown(&st)
			default:
				_, _ = l.hear(&st, start, false)
			}
		})
		self, peers := l.peers()
		m := newMap(self, peers)
		for _, p := range m.Peers() {
			if len(p.Claims) > MaxPartitions || !slices.IsSortedFunc(p.Claims, func(a, b Claim) int { return int(a.Partition - b.Partition) }) {
				t.Fatalf("claims of %q: %d", p.ID, len(p.Claims))
			}
		}
		if l.octets > len(b)+1000 {
			t.Fatalf("%d octets are kept of %d", l.octets, len(b))
		}
		// What is passed on reads like what was heard.
		for _, message := range l.tell(3, 1200, 8) {
			if _, err := decodeStatement(message); err != nil {
				t.Fatalf("passed on %x: %v", message, err)
			}
		}
	})
}
