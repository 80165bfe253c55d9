// Package storetest helps to test what is built on package store: it makes logs of records in memory,
// stores in temporary directories, and random change sets that are the same for the same seed.
package storetest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

// TopicID is the topic of all partitions that this package opens.
var TopicID = [16]byte{'s', 't', 'o', 'r', 'e', 't', 'e', 's', 't'}

// Began is the log time of the first record of a Log.
var Began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Options are those of a small store in dir: no ballast, no reserve to speak of, log output to the test.
func Options(tb testing.TB, dir string) store.Options {
	return store.Options{
		Dir: dir, HotBytes: 32 << 20, Reserve: 1 << 20, Ballast: -1,
		Logger: zerolog.New(zerolog.NewTestWriter(tb)).Level(zerolog.WarnLevel),
	}
}

// New makes a store, and closes it when the test ends.
func New(tb testing.TB, opts store.Options) *store.Store {
	tb.Helper()
	s, err := store.New(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// Open makes a store with one open partition.
func Open(tb testing.TB, opts store.Options) (*store.Store, *store.Partition) {
	tb.Helper()
	s := New(tb, opts)
	p, err := s.Open(0, TopicID)
	if err != nil {
		tb.Fatal(err)
	}
	return s, p
}

// Log is the log of one partition, in memory.
type Log struct {
	Records []store.Record
	// Step is how much log time passes between records; a second when zero.
	Step time.Duration
	ids  uint64
}

// Raw adds a record of any octets, and returns its offset.
func (l *Log) Raw(key string, value []byte) int64 {
	step := l.Step
	if step == 0 {
		step = time.Second
	}
	at := Began
	if n := len(l.Records); n > 0 {
		at = l.Records[n-1].Time.Add(step)
	}
	offset := int64(len(l.Records))
	l.Records = append(l.Records, store.Record{Offset: offset, LeaderEpoch: 1, Time: at, Key: []byte(key), Value: value})
	return offset
}

// Add encodes a change set and adds it as a record; it gives it an ID when it has none. It returns the offset.
func (l *Log) Add(tb testing.TB, cs *zones.ChangeSet) int64 {
	tb.Helper()
	if cs.ID == (zones.ChangeID{}) {
		cs.ID = l.NextID()
	}
	value, err := change.Encode(cs)
	if err != nil {
		tb.Fatalf("encode %+v: %v", cs, err)
	}
	return l.Raw(cs.Zone.String(), value)
}

// NextID returns an ID that this log has not given yet.
func (l *Log) NextID() (id zones.ChangeID) {
	l.ids++
	binary.BigEndian.PutUint64(id[:], 0xba1ef19e00000000)
	binary.BigEndian.PutUint64(id[8:], l.ids)
	return id
}

// From returns the records from an offset on.
func (l *Log) From(offset int64) []store.Record { return l.Records[offset:] }

// Set makes an RRset from presentation form. Names in the RDATA are absolute.
func Set(owner string, ttl uint32, t zones.Type, rdata ...string) zones.RRset {
	var all [][]byte
	for _, text := range rdata {
		rd, err := zonefile.ParseRData(t, text, zones.Root)
		if err != nil {
			panic(fmt.Sprintf("%s %s %q: %v", owner, t, text, err))
		}
		all = append(all, rd)
	}
	s, err := zones.NewRRset(zones.MustParseName(owner), t, ttl, all...)
	if err != nil {
		panic(fmt.Sprintf("%s %s %q: %v", owner, t, rdata, err))
	}
	return s
}

// Apex returns the SOA and NS of a zone.
func Apex(apex string, serial uint32) []zones.RRset {
	return []zones.RRset{
		Set(apex, 3600, zones.TypeNS, "ns1.test.", "ns2.test."),
		Set(apex, 3600, zones.TypeSOA, fmt.Sprintf("ns1.test. hostmaster.test. %d 7200 3600 1209600 300", serial)),
	}
}

// Create returns a change set that makes a zone of Apex and more RRsets.
func Create(apex string, more ...zones.RRset) *zones.ChangeSet {
	return Change(apex, zones.OpCreateZone{RRsets: append(Apex(apex, 1), more...)})
}

// Change returns a change set of operations.
func Change(apex string, ops ...zones.Op) *zones.ChangeSet {
	return &zones.ChangeSet{Zone: zones.MustParseName(apex), Author: "storetest", Reason: "a test", Ops: ops}
}

// Put returns a change set that puts RRsets.
func Put(apex string, sets ...zones.RRset) *zones.ChangeSet {
	cs := Change(apex)
	for _, s := range sets {
		cs.Ops = append(cs.Ops, zones.OpPutRRset{RRset: s})
	}
	return cs
}

// Stage returns the change sets that stage a zone in chunks of the given number of RRsets, and switch to it.
// The RRsets must be in canonical order (zones.CompareRRsets).
func Stage(apex string, id zones.ChangeID, sets []zones.RRset, size int) []*zones.ChangeSet {
	var all []*zones.ChangeSet
	commit := zones.OpStageCommit{Stage: id}
	for at := 0; at < len(sets); at += size {
		chunk := sets[at:min(at+size, len(sets))]
		all = append(all, Change(apex, zones.OpStageChunk{Stage: id, Index: commit.Chunks, RRsets: chunk}))
		commit.Chunks++
		for _, s := range chunk {
			commit.Digest.Add(zones.EntryOf(s, zones.MustParseName(apex)))
			commit.RRsets++
		}
	}
	return append(all, Change(apex, commit))
}

// Random adds n records to the log: changes of a few zones, most of them good, some rejected, some that are
// no change sets. The same rng gives the same records.
func Random(tb testing.TB, l *Log, rng *rand.Rand, n int) {
	tb.Helper()
	apexes := []string{"example.", "sub.example.", "other.test.", ".", "second.test."}
	for range n {
		apex := apexes[rng.IntN(len(apexes))]
		below := func(label string) string {
			if apex == "." {
				return label + "."
			}
			return label + "." + apex
		}
		name := func() string {
			text := []string{"a", "b", "www", "*", "ns", "deep.er", "x.y.z", `\000`, `\001.a`}[rng.IntN(9)]
			return below(text)
		}
		set := func() zones.RRset {
			owner, ttl := name(), uint32(60*(1+rng.IntN(3)))
			switch rng.IntN(8) {
			case 0:
				return Set(owner, ttl, zones.TypeTXT, fmt.Sprintf(`"%d"`, rng.IntN(100)))
			case 1:
				return Set(owner, ttl, zones.TypeCNAME, name())
			case 2:
				return Set(owner, ttl, zones.TypeNS, name())
			case 3:
				return Set(owner, ttl, zones.TypeMX, fmt.Sprintf("%d %s", rng.IntN(50), name()))
			case 4:
				return Set(owner, ttl, zones.TypeDNAME, "elsewhere.test.")
			case 5:
				return Set(owner, ttl, zones.TypeAAAA, fmt.Sprintf("2001:db8::%x", rng.IntN(1000)))
			}
			return Set(owner, ttl, zones.TypeA, fmt.Sprintf("192.0.2.%d", rng.IntN(256)), fmt.Sprintf("198.51.100.%d", rng.IntN(256)))
		}
		switch rng.IntN(26) {
		case 0:
			l.Add(tb, Create(apex, set()))
		case 1:
			l.Add(tb, Change(apex, zones.OpReplaceZone{RRsets: Apex(apex, rng.Uint32N(1000))}))
		case 2:
			if rng.IntN(3) == 0 {
				l.Add(tb, Change(apex, zones.OpDeleteZone{}))
			}
		case 3:
			l.Raw(apex, []byte{0xff, byte(rng.IntN(256)), 0xff})
		case 4:
			cs := Put(apex, set())
			cs.Preconditions = []zones.Precondition{zones.IfSerial{Serial: zones.Serial(rng.IntN(20))}}
			l.Add(tb, cs)
		case 5:
			if len(l.Records) > 0 { // the same once more
				old := l.Records[rng.IntN(len(l.Records))]
				l.Raw(string(old.Key), old.Value)
			}
		case 6:
			for _, cs := range Stage(apex, l.NextID(), Apex(apex, rng.Uint32N(1000)), 1+rng.IntN(2)) {
				if rng.IntN(6) > 0 { // now and then one is missing
					l.Add(tb, cs)
				}
			}
		case 7:
			l.Add(tb, Change(apex, zones.OpSetSettings{Settings: zones.ZoneSettings{SerialPolicy: zones.SerialPolicy(rng.IntN(3))}}))
		case 8:
			l.Add(tb, Change(apex, zones.OpDeleteName{Owner: zones.MustParseName(name())}))
		case 9:
			s := set()
			l.Add(tb, Change(apex, zones.OpDeleteRRset{Owner: s.Owner, Type: s.Type}))
		case 10:
			l.Add(tb, Change(apex, zones.OpCreateZone{Settings: Secondary()}))
		case 11:
			settings := zones.ZoneSettings{Frozen: rng.IntN(4) == 0}
			if rng.IntN(2) == 0 {
				settings = settings.With(zones.PartPrimaries|zones.PartTransferGrants, Secondary())
			}
			l.Add(tb, Change(apex, zones.OpSetSettings{Parts: zones.PartFrozen | zones.PartPrimaries | zones.PartTransferGrants, Settings: settings}))
		case 12:
			l.Add(tb, From(zones.Source(1+rng.IntN(2)), Change(apex, zones.OpReplaceZone{RRsets: Apex(apex, rng.Uint32N(1000))})))
		case 13:
			signed := Set(below("www"), 60, zones.TypeNSEC, below("a")+" A NSEC")
			if rng.IntN(2) == 0 {
				signed = Set(below("0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"), 60, zones.TypeNSEC3, "1 0 5 aabb 2t7b4g4vsa5smi47k61mv5bv1a22bojr A")
			}
			l.Add(tb, From(zones.SourcePrimary, Put(apex, set(), signed, Apex(apex, rng.Uint32N(2000))[1])))
		case 14:
			l.Add(tb, From(zones.SourcePrimary, Change(apex, zones.OpSetStanding{Expired: rng.IntN(3) == 0})))
		default:
			l.Add(tb, Put(apex, set(), set()))
		}
	}
}

// Secondary are the settings of a secondary zone that others may transfer.
func Secondary() zones.ZoneSettings {
	return zones.ZoneSettings{
		Primaries: []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.53:53"), Key: zones.MustParseName("key.test.")}},
		Grants:    []zones.Grant{{Deeds: zones.DeedTransfer, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
	}
}

// From returns a change set with another source.
func From(source zones.Source, cs *zones.ChangeSet) *zones.ChangeSet {
	cs.Source = source
	return cs
}
