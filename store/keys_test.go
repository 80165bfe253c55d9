package store

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"balefire/zones"
	"balefire/zones/change"
)

func anyName(below zones.Name) *rapid.Generator[zones.Name] {
	return rapid.Custom(func(t *rapid.T) zones.Name {
		n := below
		for range rapid.IntRange(0, 4).Draw(t, "labels") {
			label := string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, '*', 'a', 'b', 0xfe, 0xff}), 1, 4).Draw(t, "label"))
			if child, err := n.Child(label); err == nil {
				n = child
			}
		}
		return n
	})
}

func anyKey() *rapid.Generator[zones.Key] {
	return rapid.SampledFrom([]zones.Key{
		{Type: zones.TypeA},
		{Type: zones.TypeNS},
		{Type: zones.TypeNSEC3},
		{Type: 0xffff},
		{Type: zones.TypeRRSIG, Covered: zones.TypeA},
		{Type: zones.TypeRRSIG, Covered: zones.TypeNSEC3},
	})
}

// Keys of RRsets can be read back, and sort as zones.CompareRRsets says.
func TestDataKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		apex := anyName(zones.Root).Draw(t, "apex")
		a, b := anyName(apex).Draw(t, "a"), anyName(apex).Draw(t, "b")
		ka, kb := anyKey().Draw(t, "type a"), anyKey().Draw(t, "type b")
		generation := rapid.Int64Range(0, 1<<62).Draw(t, "generation")
		x, y := rrsetKey(nil, generation, a, apex, ka), rrsetKey(nil, generation, b, apex, kb)
		if got, want := bytes.Compare(x, y), zones.CompareRRsets(zones.RRset{Owner: a, Key: ka}, zones.RRset{Owner: b, Key: kb}); got < 0 != (want < 0) || got > 0 != (want > 0) {
			t.Fatalf("%s %s and %s %s: keys compare %d, RRsets %d", a, ka, b, kb, got, want)
		}
		g, space, _, k, err := splitDataKey(x)
		owner, err2 := ownerOfKey(x, apex)
		if err != nil || err2 != nil || g != generation || space != spaceOf(ka) || k != ka || owner != a {
			t.Fatalf("%x is read as %d %d %s %s: %v %v", x, g, space, owner, k, err, err2)
		}
		// All that is a's own begins with its prefix, and nothing else does.
		own := ownerPrefix(nil, generation, spaceOf(kb), a, apex)
		if bytes.HasPrefix(y, own) != (a == b) {
			t.Fatalf("key of %s begins with the prefix of %s", b, a)
		}
		if below := own[:len(own)-1]; bytes.HasPrefix(y, below) != b.IsAtOrBelow(a) {
			t.Fatalf("key of %s begins with the prefix of what is at or below %s", b, a)
		}
		end := after(own)
		if in := bytes.Compare(y, own) >= 0 && bytes.Compare(y, end) < 0; in != bytes.HasPrefix(y, own) {
			t.Fatalf("after(%x) is %x", own, end)
		}
	})
}

func TestOtherKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyName(zones.Root).Draw(t, "a"), anyName(zones.Root).Draw(t, "b")
		if got, err := apexOfKey(zoneKey(nil, a)); err != nil || got != a {
			t.Fatalf("zone key of %s: %s %v", a, got, err)
		}
		if got, want := bytes.Compare(zoneKey(nil, a), zoneKey(nil, b)), zones.Compare(a, b); got != want {
			t.Fatalf("%s and %s: keys compare %d, names %d", a, b, got, want)
		}
		n := rapid.Int64Range(0, 1<<62).Draw(t, "n")
		if apex, seq, err := parseHistoryKey(historyKey(nil, a, n)); err != nil || apex != a || seq != n {
			t.Fatalf("history key: %s %d %v", apex, seq, err)
		}
		if bytes.HasPrefix(historyKey(nil, a, n), historyPrefix(nil, b)) != (a == b) {
			t.Fatalf("history of %s and %s are mixed", a, b)
		}
		at, target, err := parseExpiryKey(expiryKey(nil, n, stageKey(nil, a)))
		if apex, err2 := apexOfKey(target); err != nil || err2 != nil || at != n || apex != a {
			t.Fatalf("expiry key: %d %x %v", at, target, err)
		}
		if got, err := parseNumberKey(outcomeKey(nil, n), kindOutcome); err != nil || got != n {
			t.Fatalf("number key: %d %v", got, err)
		}
	})
}

func TestSeal(t *testing.T) {
	key := []byte("key")
	for _, value := range [][]byte{nil, {1, 2, 3}} {
		sealed := seal(key, bytes.Clone(value))
		got, err := unseal(key, sealed)
		if err != nil || !bytes.Equal(got, value) {
			t.Fatalf("%x is read as %x: %v", value, got, err)
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 0x10
			if _, err := unseal(key, bad); err == nil {
				t.Errorf("octet %d of %x changed unseen", i, sealed)
			}
			if _, err := unseal(key, sealed[:i]); err == nil {
				t.Errorf("%x is whole when cut at %d", sealed, i)
			}
		}
		if _, err := unseal([]byte("kez"), sealed); err == nil {
			t.Error("a value under another key is taken for its own")
		}
	}
}

// TestGolden compares keys and values with those that version 1 of the format wrote. The file is never written
// anew: what a released version has written must stay readable.
func TestGolden(t *testing.T) {
	var got strings.Builder
	line := func(what string, key, value []byte) {
		fmt.Fprintf(&got, "%s\n  key   %x\n  value %x\n", what, key, seal(key, slices.Clone(value)))
	}
	apex, owner := zones.MustParseName("example."), zones.MustParseName(`*.a\000b.example.`)
	set, err := zones.NewRRset(owner, zones.TypeA, 300, []byte{192, 0, 2, 1}, []byte{192, 0, 2, 2})
	if err != nil {
		t.Fatal(err)
	}
	id := zones.ChangeID{15: 9}
	at := time.UnixMilli(1767323045000)
	digest := zones.DigestFromBytes([32]byte{31: 5})
	g := progress{offset: 4711, epoch: 3, hash: [32]byte{1, 2, 3}, digest: digest, zones: 2, level: 1, time: at.UnixMilli()}
	line("applied", keyApplied, g.packApplied())
	line("state", keyState, g.packState())
	z := zoneState{Zone: change.Zone{Serial: 7, RRsets: 3, Records: 4, Octets: 120, Digest: digest}, generation: 40, sequence: 42, changed: 4711, changedAt: at.UnixMilli()}
	line("zone", zoneKey(nil, apex), z.pack(nil))
	line("zone .", zoneKey(nil, zones.Root), z.pack(nil))
	s := stageState{Stage: change.Stage{ID: id, Next: 1, Began: at, Last: at, Sequence: change.NewSequence(apex)}, generation: 41, expires: at.UnixMilli() + 86400000}
	line("stage", stageKey(nil, apex), s.pack())
	line("stage expires", expiryKey(nil, s.expires, stageKey(nil, apex)), nil)
	out := Outcome{ID: id, Zone: apex, Status: StatusApplied, Serial: 7, Time: at, First: 4711}
	rejected := Outcome{ID: id, Zone: apex, Status: StatusRejected, Time: at, First: 4712, Rejection: &zones.Rejection{
		Rule: zones.RuleCNAMEAndOther, Owner: owner, Type: zones.TypeCNAME, Op: -1, Detail: "why",
	}}
	line("change ID", idKey(nil, id), remembered{expires: at.UnixMilli() + 3600000, hash: [32]byte{7}, first: rejected}.pack(nil))
	line("change ID expires", expiryKey(nil, at.UnixMilli()+3600000, idKey(nil, id)), nil)
	line("RRset", rrsetKey(nil, 40, owner, apex, set.Key), set.AppendPacked(nil))
	line("RRset of the apex", rrsetKey(nil, 40, apex, apex, set.Key), set.AppendPacked(nil))
	line("RRset of the NSEC3 chain", rrsetKey(nil, 40, owner, apex, zones.Key{Type: zones.TypeNSEC3}), set.AppendPacked(nil))
	line("dead generation", deadKey(nil, 12), []byte(apex))
	var v packer
	out.pack(&v, true)
	line("outcome", outcomeKey(nil, 4711), v)
	v = nil
	rejected.pack(&v, true)
	line("outcome, rejected", outcomeKey(nil, 4712), v)
	h := HistoryEntry{
		Position: Position{3, 4711}, ID: id, Time: at, Author: "ann", Reason: "test", From: 6, To: 7, Action: ActionChanged,
		Changes: []zones.RRsetChange{{Owner: owner, Key: set.Key, After: set}, {Owner: apex, Key: set.Key, Before: set.WithOwner(apex)}},
	}
	line("history", historyKey(nil, apex, 42), h.pack(nil, apex))
	line("history by position", historyAtKey(nil, 4711), historyAt{at.UnixMilli(), 42, apex}.pack(nil))
	sum := digest.Bytes()
	line("remembered digest", checkpointKey(nil, 4000), sum[:])

	const file = "../testdata/formats/v1/keys.txt"
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; this version writes:\n%s", err, got.String())
	}
	if got.String() != string(want) {
		t.Errorf("this version writes:\n%s", got.String())
	}

	// And what is written can be read.
	if back, err := parseZoneState(z.pack(nil)); err != nil || !reflect.DeepEqual(back, z) {
		t.Errorf("zone: %+v %v", back, err)
	}
	if back, err := parseStageState(s.pack(), apex); err != nil || back.generation != 41 || back.ID != id {
		t.Errorf("stage: %+v %v", back, err)
	}
	if back, err := parseOutcome(v, Position{3, 4712}); err != nil || *back.Rejection != *rejected.Rejection || back.Zone != apex {
		t.Errorf("outcome: %+v %v", back, err)
	}
	back, err := parseHistory(h.pack(nil, apex), 3, apex)
	if err != nil || back.Author != "ann" || len(back.Changes) != 2 || !back.Changes[0].After.Equal(set) || !back.Changes[1].Before.Equal(set.WithOwner(apex)) {
		t.Errorf("history: %+v %v", back, err)
	}
	for what, packed := range map[string][]byte{"outcome": v, "history": h.pack(nil, apex)} {
		for cut := range packed {
			u := unpacker{rest: packed[:cut]}
			switch what {
			case "outcome":
				unpackOutcome(&u, true)
			case "history":
				if _, err := parseHistory(packed[:cut], 3, apex); err == nil {
					t.Errorf("%s is whole when cut at %d", what, cut)
				}
				continue
			}
			if u.whole() {
				t.Errorf("%s is whole when cut at %d", what, cut)
			}
		}
	}
	if _, err := hex.DecodeString(fmt.Sprintf("%x", v)); err != nil {
		t.Fatal(err)
	}
}

func TestPosition(t *testing.T) {
	for text, want := range map[string]Position{"17@4711": {17, 4711}, "0@0": {}} {
		got, err := ParsePosition(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "@", "1@", "@1", "1", "-1@2", "1@-2", "+1@2", "01@2", "1@2 ", "1@2@3", "1@9223372036854775808", "2147483648@1"} {
		if got, err := ParsePosition(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestOverlayRollback(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := newOverlay()
		dump := func() string {
			s := fmt.Sprint(o.size, o.len())
			o.tree.Ascend(func(w write) bool {
				s += fmt.Sprintf(" %s=%x", w.key, w.value)
				return true
			})
			return s
		}
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		step := func() {
			k := []byte(key.Draw(t, "key"))
			if rapid.Bool().Draw(t, "set") {
				o.set(k, rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "value"))
			} else {
				o.remove(k)
			}
		}
		for range rapid.IntRange(0, 6).Draw(t, "before") {
			step()
		}
		want, mark := dump(), o.mark()
		for range rapid.IntRange(0, 6).Draw(t, "after") {
			step()
		}
		o.rollback(mark)
		if got := dump(); got != want {
			t.Fatalf("rolled back to %s, not %s", got, want)
		}
	})
}
