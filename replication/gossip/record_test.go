package gossip

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestOlderNeverWins delivers what a node said in its lives in any order, some of it twice, some never.
func TestOlderNeverWins(t *testing.T) {
	keys := []key{{kindStates, 0}, {kindStates, 1}, {kindPositions, 0}}
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger("self", 1, start)
		var newest uint64
		won := map[key]section{}
		for range rapid.IntRange(1, 30).Draw(t, "messages") {
			st := statement{id: "n", incarnation: rapid.Uint64Range(1, 3).Draw(t, "incarnation")}
			for _, k := range keys {
				if sequence := rapid.Uint64Range(0, 4).Draw(t, "sequence"); sequence > 0 {
					body := []byte{1, byte(st.incarnation*10 + sequence)} // valid as states and, with one more, as positions
					if k.kind == kindPositions {
						body = []byte{0, byte(st.incarnation*10 + sequence), 0}
					}
					st.sections = append(st.sections, keyedSection{k, section{sequence, body}})
				}
			}
			if st.incarnation > newest {
				newest = st.incarnation
				clear(won)
			}
			if st.incarnation == newest {
				for _, s := range st.sections {
					if s.sequence > won[s.key].sequence {
						won[s.key] = s.section
					}
				}
			}
			if _, err := l.hear(&st, start, rapid.Bool().Draw(t, "exchanged")); err != nil {
				t.Fatal(err)
			}
			r := l.records["n"]
			octets := 0
			for k, s := range won {
				octets += len(s.body)
				if got := r.sections[k]; got.sequence != s.sequence || string(got.body) != string(s.body) {
					t.Fatalf("section %v is %v, want %v", k, got, s)
				}
			}
			if len(r.sections) != len(won) || r.incarnation != newest || r.octets != octets || l.octets != octets {
				t.Fatalf("incarnation %d with %d sections of %d octets, want %d with %d of %d", r.incarnation, len(r.sections), l.octets, newest, len(won), octets)
			}
		}
	})
}

func TestMembersAreBounded(t *testing.T) {
	l := newLedger("self", 1, start)
	say := func(id string, at time.Time) {
		st := statement{id, 1, []keyedSection{{key{kind: kindMember}, section{1, appendMember(nil, &Member{Group: "g"})}}}}
		if _, err := l.hear(&st, at, false); err != nil {
			t.Fatal(err)
		}
	}
	for i := range MaxMembers + 100 {
		say(fmt.Sprintf("node%04d", i), start.Add(time.Duration(i)))
	}
	if len(l.records) != MaxMembers || l.records["node0000"] != nil || l.records[fmt.Sprintf("node%04d", MaxMembers+99)] == nil || l.records["self"] == nil {
		t.Errorf("%d records; of those that are not alive the oldest should have gone", len(l.records))
	}
	for _, r := range l.records {
		r.alive = true
	}
	say("one too many", start)
	d := delegate{&Gossip{ledger: l}}
	if d.NotifyAlive(&memberlist.Node{Name: "one too many"}) == nil || d.NotifyAlive(&memberlist.Node{Name: "self"}) != nil || d.NotifyAlive(&memberlist.Node{Name: "\n"}) == nil {
		t.Error("memberlist would keep a node too many, or lose one")
	}
	if len(l.records) != MaxMembers || l.records["one too many"] != nil || l.refused == 0 {
		t.Errorf("%d records, %d refused", len(l.records), l.refused)
	}
	for _, r := range l.records {
		r.alive = r == l.self
		r.since = start
	}
	if l.forgetDead(start.Add(time.Hour), time.Minute); len(l.records) != 1 || l.octets != 0 || l.rumours.len() != 0 {
		t.Errorf("%d records, %d octets and %d rumours are left of the dead", len(l.records), l.octets, l.rumours.len())
	}
}

// TestDeadAreNotPassedOn: otherwise two nodes would remind each other of them for ever.
func TestDeadAreNotPassedOn(t *testing.T) {
	l := newLedger("self", 1, start)
	new(own).begin(l, &Member{ID: "self"})
	buffer := []byte{1, 7}
	for _, id := range []string{"dead", "living"} {
		if _, err := l.hear(&statement{id, 1, []keyedSection{{key{kind: kindCondition}, section{1, buffer}}}}, start, true); err != nil {
			t.Fatal(err)
		}
		l.records[id].alive = id == "living"
	}
	clear(buffer) // memberlist's, who uses it again
	said := map[string][]byte{}
	if err := decodeExchange(l.exchange(shuffleRecords), func(b []byte) {
		st, err := decodeStatement(b)
		if err != nil {
			t.Fatal(err)
		}
		said[st.id] = st.sections[0].body
	}); err != nil {
		t.Fatal(err)
	}
	if _, dead := said["dead"]; dead || len(said) != 2 || string(said["living"]) != "\x01\x07" {
		t.Errorf("passed on %v", said)
	}
}

// TestFloodCostsItsOwn: one node that says as much as it can, again and again, and many that do.
func TestFloodCostsItsOwn(t *testing.T) {
	l := newLedger("self", 1, start)
	var o own
	o.begin(l, &Member{ID: "self"})
	var longest []byte
	for place := range positionsBlock {
		longest = appendPosition(longest, place, &Claim{Position: 1 << 62, Checkpoint: 1 << 62, Digest: [16]byte{1}})
	}
	flood := func(id string, sequence uint64) {
		st := statement{id: id, incarnation: 1}
		for block := range MaxPartitions / positionsBlock {
			st.sections = append(st.sections, keyedSection{key{kindPositions, uint8(block)}, section{sequence, longest}})
		}
		if _, err := l.hear(&st, start, false); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		flood("loud", uint64(i+1))
	}
	if most := MaxPartitions / positionsBlock * len(longest); l.records["loud"].octets != most || l.rumours.len() > MaxPartitions/positionsBlock+2 {
		t.Errorf("%d octets and %d rumours of a node that repeats itself, want %d and one for each block", l.records["loud"].octets, l.rumours.len(), most)
	}
	for i := range 300 {
		flood(fmt.Sprintf("loud%d", i), 1)
	}
	if l.octets > maxOctets || l.refused == 0 {
		t.Errorf("%d octets are kept, %d sections were refused", l.octets, l.refused)
	}
	if !o.say(l, key{kind: kindCondition}, []byte{1, 0}, true) || l.self.sections[key{kind: kindCondition}].sequence == 0 {
		t.Error("there is no room for what this node says itself")
	}
	if n := len(l.exchange(func([]*record) {})); n > maxExchange {
		t.Errorf("an exchange of %d octets", n)
	}
}

func TestDisown(t *testing.T) {
	begin := func() *ledger {
		l := newLedger("self", 100, start)
		new(own).begin(l, &Member{ID: "self"})
		for len(l.tell(3, 1200, 1)) > 0 {
		}
		return l
	}
	mine := begin().self.sections[key{kind: kindMember}]
	for name, c := range map[string]struct {
		st   statement
		want bool
	}{
		"an earlier life":                {statement{"self", 99, []keyedSection{{key{kind: kindMember}, section{50, nil}}}}, false},
		"its own words":                  {statement{"self", 100, []keyedSection{{key{kind: kindMember}, mine}}}, false},
		"older words":                    {statement{"self", 100, []keyedSection{{key{kind: kindCondition}, section{1, []byte{1, 0}}}}}, false},
		"a later life":                   {statement{"self", 101, nil}, true},
		"a sequence that it did not use": {statement{"self", 100, []keyedSection{{key{kind: kindMember}, section{50, nil}}}}, true},
		"the same sequence for other":    {statement{"self", 100, []keyedSection{{key{kind: kindMember}, section{mine.sequence, []byte{1}}}}}, true},
		"a section that it does not say": {statement{"self", 100, []keyedSection{{key{kindStates, 3}, section{1, []byte{1, 1}}}}}, true},
	} {
		l := begin()
		if got := l.disown(&c.st); got != c.want {
			t.Errorf("%s: outdone %v", name, got)
		}
		if c.want != (l.self.incarnation > c.st.incarnation && l.rumours.len() == 2) && name != "an earlier life" {
			t.Errorf("%s: incarnation %d, %d rumours", name, l.self.incarnation, l.rumours.len())
		}
	}
}

// TestTell: states before positions, the least told first, everything so often and no more, and never more than fits.
func TestTell(t *testing.T) {
	l := newLedger("self", 1, start)
	var o own
	o.begin(l, &Member{ID: "self"})
	o.claim(l, someClaims(0, 256, 1000))
	o.refresh(l)
	o.tellPositions(l, start, 0)
	total := l.rumours.len()
	if total != 2+1+256/positionsBlock {
		t.Fatalf("%d rumours", total)
	}
	const limit = 1000
	counts := map[key]int{}
	first := true
	for {
		messages := l.tell(3, limit, 8)
		if len(messages) == 0 {
			break
		}
		size := 0
		for _, b := range messages {
			size += 3 + len(b)
			st, err := decodeStatement(b)
			if err != nil {
				t.Fatal(err)
			}
			if first && (len(st.sections) < 3 || st.sections[0].kind == kindPositions || st.sections[2].kind == kindPositions) {
				t.Errorf("the first packet begins with %v", st.sections)
			}
			first = false
			for _, s := range st.sections {
				counts[s.key]++
			}
		}
		if size > limit {
			t.Fatalf("%d octets for %d", size, limit)
		}
	}
	for k, n := range counts {
		if want := map[bool]int{true: 4, false: 8}[k.kind == kindPositions]; n != want {
			t.Errorf("section %v was told %d times, want %d", k, n, want)
		}
	}
	if len(counts) != total || l.rumours.len() != 0 || l.rumours.next.Len() != 0 {
		t.Errorf("%d of %d sections were told, %d are left", len(counts), total, l.rumours.len())
	}
	o.claim(l, someClaims(0, 256, 1000))
	if o.refresh(l) || l.rumours.len() != 0 {
		t.Error("claims that are the same are no news")
	}
}

func TestPositionsKeepToTheirBudget(t *testing.T) {
	l := newLedger("self", 1, start)
	for i := range 99 {
		l.admit(fmt.Sprintf("node%d", i), start).alive = true
	}
	var o own
	o.begin(l, &Member{ID: "self"})
	now := start
	told := 0
	for i := range 1000 {
		now = now.Add(3 * time.Second)
		o.claim(l, someClaims(0, 5, int64(i)))
		o.refresh(l)
		for len(l.tell(3, 1200, 1)) > 0 {
		}
		if o.tellPositions(l, now, 3*time.Second); l.rumours.len() > 0 {
			told++
		}
	}
	sections := 0
	for k, s := range l.self.sections {
		if k.kind == kindPositions {
			sections += sectionLen(k, s)
		}
	}
	rate := float64(told*(sections+headerLen("self"))*100*retransmissions(100)/2) / (1000 * 3)
	if rate > 1.1*positionsBudget || rate < positionsBudget/4 {
		t.Errorf("positions were told %d times, which costs everyone %.0f octets a second; the budget is %d", told, rate, positionsBudget)
	}
}

func TestHoldersAllocateNothing(t *testing.T) {
	peers := []*Peer{
		{Member: Member{ID: "c"}, Alive: true, Claims: []Claim{{Partition: 2, State: Ready}, {Partition: 9, State: Leaving}}},
		{Member: Member{ID: "b"}, Alive: true, Claims: []Claim{{Partition: 2, State: Ready}, {Partition: 3, State: Halted}, {Partition: 4, State: CatchingUp}}},
		{Member: Member{ID: "a"}, Alive: false, Claims: []Claim{{Partition: 2, State: Ready}}},
		{Member: Member{ID: "self"}, Alive: true, Claims: []Claim{{Partition: 2, State: Ready}, {Partition: 4095, State: Ready}}},
	}
	m := newMap(peers[3], peers)
	for partition, want := range map[int32][]string{-1: nil, 0: nil, 2: {"b", "c"}, 3: nil, 4: nil, 9: {"c"}, 10: nil, 4095: nil, 1 << 30: nil} {
		if !holders(partition, want...)(m) {
			t.Errorf("holders of %d are %v, want %v", partition, m.Holders(partition), want)
		}
	}
	if m.Peer("b") == nil || m.Peer("bb") != nil || m.Self().ID != "self" {
		t.Errorf("peers %v", describe(m))
	}
	var sum int64
	if n := testing.AllocsPerRun(100, func() {
		for _, h := range m.Holders(2) {
			sum += h.Claim.Position
		}
		if m.Peer("c") == nil {
			sum++
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
