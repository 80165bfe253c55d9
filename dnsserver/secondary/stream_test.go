package secondary

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// recordOf reads what stands for a record: "S7" is the SOA of serial 7, "s7" another one of that serial, "a" an A at a.example.,
// "x" one outside of the zone, "t" a SOA below the apex.
func recordOf(word string) zonefile.Record {
	text := word + "." + apexText + " 60 IN A 192.0.2.1\n"
	switch c := word[0]; {
	case c == 'S':
		text = apexText + " 60 IN SOA a. b. " + word[1:] + " 60 60 60 60\n"
	case c == 's':
		text = apexText + " 60 IN SOA other. b. " + word[1:] + " 60 60 60 60\n"
	case word == "x":
		text = "elsewhere. 60 IN A 192.0.2.1\n"
	case word == "t":
		text = "t." + apexText + " 60 IN SOA a. b. 7 60 60 60 60\n"
	}
	rec, err := zonefile.NewReader(strings.NewReader(text), zonefile.Options{Origin: zones.Root}).Next()
	if err != nil {
		panic(err)
	}
	return rec
}

// TestStream goes through what the answer to AXFR (RFC 5936 §2.2) and IXFR since serial 3 (RFC 1995 §4) can be. A stream ends at its last word, and
// nowhere before.
func TestStream(t *testing.T) {
	const never = "unended"
	for _, test := range []struct {
		ixfr    bool
		records string
		want    string // form and what came, never, or a part of the error
	}{
		{false, "S7 a b S7", "AXFR S7 a b"},
		{false, "S7 a b", never},
		{false, "S7", never},
		{false, "S7 S7", "AXFR S7"},
		{false, "S3 S3", "AXFR S3"},
		{false, "a S7", "begins with"},
		{false, "S7 a S8", "ends with another"},
		{false, "S7 a s7", "ends with another"},
		{false, "S7 x S7", "not in the zone"},
		{false, "S7 t S7", "a SOA at"},
		{false, "S7 a S7 b", "after the closing"},

		{true, "S3", "current"},
		{true, "S2", "current"},
		{true, "S2147483651", "current"}, // neither is after the other
		{true, "S3 S3", "after the closing"},
		{true, "S7 a b S7", "AXFR S7 a b"},
		{true, "S7 S7", "AXFR S7"},
		{true, "S7", never},
		{true, "S7 S3 a S7 b S7", "IXFR 3-a+b7"},
		{true, "S7 S3 a b S7 c d S7", "IXFR 3-a-b+c+d7"},
		{true, "S7 S3 S7 S7", "IXFR 37"},
		{true, "S7 S3 a S5 b S5 b S7 c S7", "IXFR 3-a+b5 5-b+c7"},
		{true, "S7 S3 a S7 b", never},
		{true, "S7 S3 a S7", never},
		{true, "S7 S3 a", never},
		{true, "S7 S3 a S5 b S5 c S7 d", never},
		{true, "S7 S4 a S7 b S7", "begin at serial 4"},
		{true, "S7 S2 a S7 b S7", "begin at serial 2"},
		{true, "S7 S3 a S2 b S7", "back to 2"},
		{true, "S7 S3 a S3 b S7", "back to 3"},
		{true, "S7 S3 a S5 b S6 c S7 d S7", "lead to serial 5, and go on from 6"},
		{true, "S7 S3 a S5 b S7", "lead to serial 5, and go on from 7"},
		{true, "S7 S3 a S7 b s7", "ends with another"},
		{true, "S7 S3 x S7 S7", "not in the zone"},
		{true, "S7 S3 t S7 S7", "a SOA at"},
		{true, "S7 S3 S7 a S7 a", "after the closing"},
	} {
		t.Run(fmt.Sprintf("%t %s", test.ixfr, test.records), func(t *testing.T) {
			var whole []string
			s := stream{apex: apex, ixfr: test.ixfr, have: 3, maxRecords: 100, maxDifferences: 1 << 20}
			s.whole = func(r zonefile.Record) error {
				if r.Type == zones.TypeSOA {
					whole = append(whole, fmt.Sprintf("S%d", serialOf(r)))
				} else {
					whole = append(whole, r.Owner.Label())
				}
				return nil
			}
			var err error
			words := strings.Fields(test.records)
			for i, word := range words {
				if err = s.add(recordOf(word)); err != nil {
					break
				}
				if s.ended() && i != len(words)-1 && !strings.Contains(test.want, "after") {
					t.Errorf("it ended after %d records", i+1)
				}
			}
			got := never
			switch {
			case err != nil:
				got = err.Error()
				if !errors.Is(err, ErrLying) {
					t.Errorf("%v is not marked", err)
				}
			case s.ended():
				got = s.form.String()
				for _, w := range whole {
					got += " " + w
				}
				for _, st := range s.steps {
					got += fmt.Sprintf(" %d", serialOf(st.from))
					for _, r := range st.deleted {
						got += "-" + r.Owner.Label()
					}
					for _, r := range st.added {
						got += "+" + r.Owner.Label()
					}
					got += fmt.Sprint(serialOf(st.to))
				}
			}
			if got != test.want && (err == nil || !strings.Contains(got, test.want)) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// TestStreamIsBounded: what is kept of a transfer, and how long it may be, has limits.
func TestStreamIsBounded(t *testing.T) {
	s := stream{apex: apex, ixfr: true, have: 3, maxRecords: 1 << 20, maxDifferences: 10_000}
	err := errors.Join(s.add(recordOf("S7")), s.add(recordOf("S3")))
	n := 0
	for ; err == nil && n < 10_000; n++ {
		err = s.add(recordOf("a"))
	}
	if !errors.Is(err, ErrManyDifferences) || n > 100 {
		t.Errorf("after %d records: %v", n, err)
	}
	s = stream{apex: apex, maxRecords: 10, whole: func(zonefile.Record) error { return nil }}
	err = s.add(recordOf("S7"))
	for n = 0; err == nil && n < 100; n++ {
		err = s.add(recordOf("a"))
	}
	if !errors.Is(err, ErrManyRecords) || n != 10 {
		t.Errorf("after %d records: %v", n, err)
	}
}
