package differential

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"balefire/zones"
)

// question is a query and the way it is sent.
type question struct {
	name  zones.Name
	qtype zones.Type
	upper uint64 // letters to send in upper case, by position modulo 64
	edns  bool
	size  uint16 // offered
	do    bool
	tcp   bool
}

func (q question) String() string {
	how := "udp"
	if q.tcp {
		how = "tcp"
	}
	if q.edns {
		how += fmt.Sprintf(" edns %d", q.size)
	}
	if q.do {
		how += " do"
	}
	return fmt.Sprintf("%s %s over %s", q.name, q.qtype, how)
}

// limit returns how long the answer may be.
func (q question) limit() int {
	switch {
	case q.tcp:
		return 65535
	case q.edns:
		return int(min(q.size, 1232))
	}
	return 512
}

// pack writes the query's message.
func (q question) pack(id uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	at := len(b)
	b = append(b, q.name...)
	for i := at; i < len(b); i++ {
		// A length octet is never a letter: they are at most 63.
		if c := b[i]; 'a' <= c && c <= 'z' && q.upper>>(i%64)&1 != 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	b = binary.BigEndian.AppendUint16(b, uint16(q.qtype))
	b = append(b, 0, 1)
	if q.edns {
		b[11] = 1
		b = append(b, 0, 0, byte(zones.TypeOPT), byte(q.size>>8), byte(q.size), 0, 0, 0, 0, 0, 0)
		if q.do {
			b[len(b)-4] = 0x80
		}
	}
	return b
}

// askedTypes are asked for at any name. Meta types, of which the rows of ANSWERS.md 4.2 are, come rarely.
var askedTypes = []zones.Type{
	zones.TypeA, zones.TypeA, zones.TypeAAAA, zones.TypeNS, zones.TypeSOA, zones.TypeMX, zones.TypeTXT, zones.TypeSRV,
	zones.TypeCNAME, zones.TypeDNAME, zones.TypeDS, zones.TypeDS, zones.TypeANY, zones.TypeRRSIG, zones.TypeNSEC,
	zones.TypeNSEC3, zones.TypeNSEC3PARAM, zones.TypeDNSKEY, zones.TypeCAA, zones.TypeHTTPS, zones.TypePTR, zones.TypeNAPTR,
	65280, 65281, 44, 52, zones.TypeCDS,
}

var rareTypes = []zones.Type{
	zones.TypeOPT, zones.TypeTSIG, zones.TypeTKEY, zones.TypeMAILA, zones.TypeMAILB, zones.TypeNXNAME, 200, zones.TypeNULL, 65535,
}

// asker makes questions about a zone.
type asker struct {
	rng    *rand.Rand
	apex   zones.Name
	owners []zones.Name
	types  map[zones.Name][]zones.Type
}

func newAsker(rng *rand.Rand, apex zones.Name, sets []zones.RRset) *asker {
	a := &asker{rng: rng, apex: apex, types: map[zones.Name][]zones.Type{}}
	for _, s := range sets {
		if len(a.types[s.Owner]) == 0 {
			a.owners = append(a.owners, s.Owner)
		}
		a.types[s.Owner] = append(a.types[s.Owner], s.Type)
	}
	return a
}

func (a *asker) next() question {
	q := question{name: pick(a.rng, a.owners)}
	q.qtype = pick(a.rng, askedTypes)
	if a.rng.IntN(3) == 0 {
		q.qtype = pick(a.rng, a.types[q.name])
	}
	if a.rng.IntN(200) == 0 {
		q.qtype = pick(a.rng, rareTypes)
	}
	if a.rng.IntN(2) == 0 {
		q.name = a.near(q.name)
	}
	if a.rng.IntN(300) == 0 {
		q.name = zones.MustParseName(pick(a.rng, []string{"www.elsewhere.invalid.", "com.", "invalid."}))
	}
	switch a.rng.IntN(7) {
	case 0: // plain
	case 1:
		q.edns, q.size = true, 512
	case 2:
		q.edns, q.size, q.do = true, 512, true
	case 3:
		q.edns, q.size = true, 1232
	case 4:
		q.edns, q.size, q.do = true, 1232, true
	case 5:
		q.tcp = true
	case 6:
		q.tcp, q.edns, q.size, q.do = true, true, 4096, true
	}
	if a.rng.IntN(4) == 0 {
		q.upper = a.rng.Uint64()
	}
	return q
}

// near returns a name above, beside, or below name, which may exist or not.
func (a *asker) near(name zones.Name) zones.Name {
	for range a.rng.IntN(3) {
		if name != a.apex {
			name = name.Parent()
		}
	}
	for range a.rng.IntN(3) {
		label := pick(a.rng, labels)
		if a.rng.IntN(3) == 0 {
			label = pick(a.rng, []string{"nx", "zz", "0", "ns1", "*", "x", "server00", "com", "line0"})
		}
		below, err := zones.ParseNameIn(label, name)
		if err != nil {
			break // too long
		}
		name = below
	}
	return name
}
