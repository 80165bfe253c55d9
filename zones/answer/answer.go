package answer

import (
	"balefire/zones"
)

// Question is what is asked of one zone, in class IN. Name must be at or below the zone's apex.
type Question struct {
	Name zones.Name
	Type zones.Type // any type; the meta types, but for ANY, find nothing
	// DNSSEC asks for signatures and proofs of denial (the DO bit, RFC 3225).
	DNSSEC bool
}

// Section is a section of the message that an entry belongs to.
type Section uint8

// The sections, in the order of a message.
const (
	SectionAnswer Section = iota
	SectionAuthority
	SectionAdditional
)

func (s Section) String() string {
	return [...]string{"answer", "authority", "additional"}[s]
}

// RCode is a response code (RFC 1035 §4.1.1), of which this package gives the ones below.
type RCode uint8

// The response codes that a zone's content decides.
const (
	NoError  RCode = 0
	NXDomain RCode = 3
	YXDomain RCode = 6 // a DNAME made a name longer than 255 octets (RFC 6672 §2.2)
)

func (r RCode) String() string {
	switch r {
	case NoError:
		return "NOERROR"
	case NXDomain:
		return "NXDOMAIN"
	case YXDomain:
		return "YXDOMAIN"
	}
	return "RCODE?"
}

// NoExtendedError means that the answer carries no extended error; every other value of
// Answer.ExtendedError is an INFO-CODE of RFC 8914.
const NoExtendedError = -1

// Kind is what the last name of the alias chain (the question's own name, mostly) came to.
type Kind uint8

const (
	// Positive: the type asked for, or the last alias of a chain that ends here.
	Positive Kind = iota
	// NoData: the name exists, or a wildcard matches it, without the type (RFC 2308 §2.2).
	NoData
	// NameError: the name does not exist (RFC 2308 §2.1); RCode is NXDomain.
	NameError
	// Referral: the name is at or below a delegation.
	Referral
)

func (k Kind) String() string {
	return [...]string{"positive", "nodata", "name error", "referral"}[k]
}

// Entry is one RRset of an answer with the signatures that go along with it. It is the unit of
// truncation: RRset and Signatures are sent both, or neither (RFC 2181 §9).
type Entry struct {
	Section Section
	// Optional entries are left out when they don't fit, without a word; without any other, the message
	// is truncated (TC). Only additional entries are optional, and they come last.
	Optional bool
	// RRset has the owner and the TTL to be sent, which may differ from those in the zone (wildcards,
	// negative TTLs). It may itself be of type RRSIG, when that was asked for.
	RRset zones.RRset
	// Signatures are the RRSIGs of RRset, with their owner and TTL; zero when there are none, or they were not asked for.
	Signatures zones.RRset
}

// Answer is the answer to a question, filled by Resolve. The zero value is ready for use. Used again and again it keeps its memory.
// It shares memory with the view and the question's name, and must not be used after either is gone, or
// by two goroutines at once.
type Answer struct {
	RCode RCode
	// Authoritative is the AA bit.
	Authoritative bool
	// ExtendedError is an INFO-CODE (RFC 8914), or NoExtendedError.
	ExtendedError int
	Kind          Kind
	// Encloser is the name that this answer is accounted to by response rate limiting: the closest encloser for
	// wildcard expansions and name errors, the zone cut for referrals, else the name that the chain of aliases ended at.
	Encloser zones.Name
	// Entries are ordered by section. No owner and key occurs twice.
	Entries []Entry

	resolver
}

// resolver is what Resolve works with: its place on the alias chain, and memory for the names it makes.
type resolver struct {
	view zones.View
	q    Question
	apex zones.Node

	name  zones.Name     // QNAME, or the alias target that is being looked up
	at    zones.Location // what the zone has at name
	wild  zones.Location // what it has at the wildcard that may match name
	place place
	found zones.Node // what answers for name when place is present

	aliases    int
	expansions []expansion
	denial     denial
	salt       []byte
	iterations int

	around   zones.Location // what the zone has at a target, for additional
	names    []byte         // names made by DNAMEs, and the RRsets that say so
	wildcard [zones.MaxNameLen]byte
	hash     [2 * zones.MaxNameLen]byte // what is hashed: a name or a digest, and a salt
	hashed   [zones.MaxNameLen]byte
}

func (r *resolver) reset() {
	clear(r.expansions)
	r.view, r.q, r.apex = nil, Question{}, zones.Node{}
	r.name, r.at, r.wild, r.found, r.around = "", zones.Location{}, zones.Location{}, zones.Node{}, zones.Location{}
	r.aliases, r.expansions, r.names = 0, r.expansions[:0], r.names[:0]
	r.denial, r.salt = denialUnknown, nil
}

// Reset empties a, and lets go of the memory that it shares with a view.
func (a *Answer) Reset() {
	clear(a.Entries) // beyond its length it is clear already
	a.Entries = a.Entries[:0]
	a.RCode, a.Authoritative, a.ExtendedError, a.Kind, a.Encloser = NoError, false, NoExtendedError, Positive, ""
	a.resolver.reset()
}

// Section returns the entries of one section.
func (a *Answer) Section(s Section) []Entry {
	start := 0
	for start < len(a.Entries) && a.Entries[start].Section < s {
		start++
	}
	end := start
	for end < len(a.Entries) && a.Entries[end].Section == s {
		end++
	}
	return a.Entries[start:end]
}
