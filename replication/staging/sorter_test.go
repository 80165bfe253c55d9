package staging

import (
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// TestSorterOrdersAsZonesDo goes through what octets in names and numbers of types could confuse.
func TestSorterOrdersAsZonesDo(t *testing.T) {
	const text = `$ORIGIN example.
@ 60 SOA a. b. 1 1 1 1 1
@ 60 NS a.
@ 60 TYPE256 \# 5 0001000161
@ 60 TYPE257 \# 3 000161
\000 60 A 192.0.2.1
\001 60 A 192.0.2.1
\000.\001 60 A 192.0.2.1
a 60 A 192.0.2.1
a.a 60 A 192.0.2.1
\001\001.a 60 A 192.0.2.1
a 60 TYPE257 \# 3 000161
a 60 TYPE65535 \# 0
ab 60 A 192.0.2.1
a\.b 60 A 192.0.2.1
\255 60 A 192.0.2.1
* 60 A 192.0.2.1
a 60 RRSIG A 8 2 60 20300101000000 20200101000000 1 example. AAAA
a 60 RRSIG TYPE257 8 2 60 20300101000000 20200101000000 1 example. AAAA
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 60 NSEC3 1 0 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr A
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 60 RRSIG NSEC3 8 2 60 20300101000000 20200101000000 1 example. AAAA
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom 60 A 192.0.2.1
zzz 60 A 192.0.2.1
`
	apex := zones.MustParseName("example.")
	want, err := zonefile.Read(strings.NewReader(text), zonefile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, memory := range []int{1, 300, 1 << 20} {
		s := NewSorter(apex, t.TempDir(), memory)
		var records []zonefile.Record
		r := zonefile.NewReader(strings.NewReader(text), zonefile.Options{})
		for {
			rec, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, rec)
		}
		rand.New(rand.NewPCG(uint64(memory), 7)).Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		for _, rec := range records {
			if err := s.Add(rec); err != nil {
				t.Fatal(err)
			}
		}
		if (len(s.runs) > 0) != (memory < 1<<20) {
			t.Errorf("memory %d: %d runs", memory, len(s.runs))
		}
		for again := range 2 { // it can be read again
			var got []zones.RRset
			for set, err := range s.Sets(100) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, set.RRset)
			}
			if !slices.EqualFunc(got, want.RRsets, zones.RRset.Equal) {
				t.Errorf("memory %d, reading %d: %d RRsets, want %d:\n%v\n%v", memory, again, len(got), len(want.RRsets), got, want.RRsets)
			}
		}
		s.Close()
		if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
}
