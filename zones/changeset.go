package zones

import (
	"encoding/hex"
	"fmt"
	"time"
)

// ChangeID identifies a change set from the moment it is made, before it has a position. A second record
// with an ID that the partition remembers is the same change set again, and changes nothing.
type ChangeID [16]byte

func (id ChangeID) String() string { return hex.EncodeToString(id[:]) }

// ChangeSet is an ordered list of operations on one zone, applied whole or not at all, if all of its
// preconditions hold. It is one record of the log.
type ChangeSet struct {
	ID     ChangeID
	Zone   Name   // the apex, also the record's key
	Author string // who asked for it, for history: the name of a token or key, or an address
	Reason string // why, in the author's words, for history
	Source Source // where the content comes from: it must suit the zone
	// Keep says for how many seconds of partition time the ID is remembered, for clients' idempotency
	// keys; 0 means as long as the format level's window against duplicated records.
	Keep          uint32
	Preconditions []Precondition
	Ops           []Op
}

// Op is one operation of a change set: one of the Op… types below.
type Op interface{ op() }

type (
	// OpCreateZone makes the zone, from the RRsets given, which must make a valid zone. It is rejected if the zone exists. A zone with
	// primaries is made without any RRset, and awaits what they send.
	OpCreateZone struct {
		Settings ZoneSettings
		RRsets   []RRset
	}
	// OpReplaceZone replaces the zone's whole content, or makes the zone, by RRsets in canonical order.
	// Settings are kept when the zone exists, but for its serial policy if SetSettings. A shrinking zone (to nothing, or by more than 20% of over 100 RRsets) is
	// refused at the door unless forced; apply does not look at that.
	OpReplaceZone struct {
		Settings    ZoneSettings
		SetSettings bool
		RRsets      []RRset
	}
	// OpDeleteZone removes the zone and all that is in it.
	OpDeleteZone struct{}
	// OpSetSettings changes those parts of the zone's settings that it names, all of them when it names none. The others are zero.
	OpSetSettings struct {
		Parts    SettingsPart
		Settings ZoneSettings
	}
	// OpPutRRset sets the RRset to the one given: new, or in place of what was there.
	OpPutRRset struct{ RRset RRset }
	// OpAddRecords adds RDATA to an RRset, making it when absent; an existing one keeps its RDATA and takes the TTL given.
	OpAddRecords struct{ RRset RRset }
	// OpDeleteRecords removes RDATA from an RRset, and the RRset with its last one; what is absent is no error (RFC 2136 §3.4.2.4). The TTL is ignored.
	OpDeleteRecords struct{ RRset RRset }
	// OpDeleteRRset removes an RRset; an absent one is no error.
	OpDeleteRRset struct {
		Owner Name
		Type  Type
	}
	// OpDeleteName removes all RRsets of a name; at the apex, SOA and NS stay (RFC 2136 §3.4.2.3).
	OpDeleteName struct{ Owner Name }
	// OpStageChunk adds RRsets to a staged generation of the zone, which the first chunk (Index 0) begins. Chunks come in
	// order, RRsets in canonical order over all chunks. It must be the only operation of its change set.
	OpStageChunk struct {
		Stage  ChangeID // chosen by the writer, the same in all chunks and the commit
		Index  uint32
		RRsets []RRset
	}
	// OpStageCommit switches the zone to the staged generation when counts and digest agree with what was staged.
	// It must be the only operation of its change set.
	OpStageCommit struct {
		Stage       ChangeID
		Chunks      uint32
		RRsets      uint64
		Digest      Digest
		Settings    ZoneSettings
		SetSettings bool
	}
	// OpStageAbort gives a staged generation up.
	OpStageAbort struct{ Stage ChangeID }
	// OpRaiseFormatLevel raises the format level of the record's partition.
	OpRaiseFormatLevel struct{ Level uint32 }
	// OpSetStanding says that a secondary zone is still as its primary has it, or that it has expired. It must be the only operation of
	// its change set, which does not come from a client.
	OpSetStanding struct {
		Expired bool
		// Since, unless zero, is the zone's Standing.Confirmed that the writer knows: when it is another one, the operation is rejected,
		// as a precondition is. So nobody lets a zone expire that was confirmed meanwhile.
		Since time.Time
	}
)

func (OpCreateZone) op()       {}
func (OpReplaceZone) op()      {}
func (OpDeleteZone) op()       {}
func (OpSetSettings) op()      {}
func (OpPutRRset) op()         {}
func (OpAddRecords) op()       {}
func (OpDeleteRecords) op()    {}
func (OpDeleteRRset) op()      {}
func (OpDeleteName) op()       {}
func (OpStageChunk) op()       {}
func (OpStageCommit) op()      {}
func (OpStageAbort) op()       {}
func (OpRaiseFormatLevel) op() {}
func (OpSetStanding) op()      {}

// Precondition must hold, before the first operation, for a change set to be applied: one of the If… types below.
type Precondition interface{ precondition() }

type (
	// IfRRsetExists: the RRset exists, whatever its values (RFC 2136 §2.4.1).
	IfRRsetExists struct {
		Owner Name
		Type  Type
	}
	// IfRRsetEquals: the RRset exists with exactly these RDATA; TTLs are not compared (RFC 2136 §2.4.2).
	IfRRsetEquals struct{ RRset RRset }
	// IfRRsetAbsent: no such RRset exists (RFC 2136 §2.4.3).
	IfRRsetAbsent struct {
		Owner Name
		Type  Type
	}
	// IfNameInUse: the name owns at least one RRset (RFC 2136 §2.4.4).
	IfNameInUse struct{ Owner Name }
	// IfNameNotInUse: the name owns no RRset (RFC 2136 §2.4.5).
	IfNameNotInUse struct{ Owner Name }
	// IfSerial: the zone's serial is this one.
	IfSerial struct{ Serial Serial }
	// IfZoneAbsent: the zone is not hosted.
	IfZoneAbsent struct{}
	// IfMember: the zone was made for this catalog, under this label; for none, when both are "".
	IfMember struct{ Member Membership }
	// IfExpression: the expression, in the bounded subset of docs/conditions.md, over the present RRset is true.
	IfExpression struct {
		Owner      Name
		Type       Type
		Expression string
	}
)

func (IfRRsetExists) precondition()  {}
func (IfRRsetEquals) precondition()  {}
func (IfRRsetAbsent) precondition()  {}
func (IfNameInUse) precondition()    {}
func (IfNameNotInUse) precondition() {}
func (IfSerial) precondition()       {}
func (IfZoneAbsent) precondition()   {}
func (IfMember) precondition()       {}
func (IfExpression) precondition()   {}

// Rejection says why a change set changes nothing. It is a result, the same on every replica, and
// not a failure.
type Rejection struct {
	Rule   Rule
	Owner  Name // "" when the rule is not about a name
	Type   Type // 0 when it is not about a type
	Op     int  // index of the operation or, for a precondition, of that; −1 when about the whole
	Detail string
}

// Error makes a Rejection usable as an error at the door, where it is one.
func (r *Rejection) Error() string {
	s := string(r.Rule)
	if r.Owner != "" {
		s += " at " + r.Owner.String()
	}
	if r.Type != 0 {
		s += " " + r.Type.String()
	}
	if r.Detail != "" {
		s = fmt.Sprintf("%s: %s", s, r.Detail)
	}
	return s
}

// Rule names what a rejected change set broke. The values are kept in outcomes and shown to users.
type Rule string

const (
	RuleUndecodable   Rule = "undecodable"         // the record is no change set
	RuleFormatLevel   Rule = "format-level"        // above the partition's format level
	RuleTooLarge      Rule = "too-large"           // over a size cap of the format level
	RuleWrongKey      Rule = "wrong-key"           // the record's key is not its zone, or not of this partition
	RuleMalformed     Rule = "malformed"           // an operation that makes no sense by itself
	RuleNoZone        Rule = "no-such-zone"        // the zone is not hosted
	RuleZoneExists    Rule = "zone-exists"         // the zone is hosted already
	RuleOutOfZone     Rule = "out-of-zone"         // a name outside the zone (RFC 2136 §3.4.1.3)
	RulePrecondition  Rule = "precondition-failed" // a precondition did not hold
	RuleBadCondition  Rule = "bad-condition"       // an expression outside the allowed subset, or one that failed
	RuleApexSOA       Rule = "apex-soa"            // not exactly one SOA, at the apex
	RuleApexNS        Rule = "apex-ns"             // no NS at the apex
	RuleSingleton     Rule = "singleton"           // more than one CNAME, DNAME or SOA at a name
	RuleCNAMEAndOther Rule = "cname-and-other"     // a CNAME beside other data (RFC 2181 §10.1)
	RuleBelowDNAME    Rule = "below-dname"         // data below a DNAME (RFC 6672 §2.4)
	RuleDNAMEAndNS    Rule = "dname-and-ns"        // DNAME beside NS, not at the apex (RFC 6672 §2.3)
	RuleDSWithoutNS   Rule = "ds-without-ns"       // DS where there is no delegation
	RuleApexType      Rule = "apex-type"           // DS or CNAME at the apex
	RuleWildcardType  Rule = "wildcard-type"       // NS or DNAME at a wildcard (RFC 4592 §4.2, §4.4)
	RuleMetaType      Rule = "meta-type"           // a type that no zone can hold
	RuleRRsetSize     Rule = "rrset-size"          // an RRset that does not fit a message
	RuleSerial        Rule = "serial-not-forward"  // a serial that would go back (RFC 1982)
	RuleSigned        Rule = "zone-is-signed"      // single records of a zone that came signed
	RuleNSEC3         Rule = "nsec3-parameters"    // NSEC3 parameters that RFC 9276 forbids
	RuleOrder         Rule = "not-canonical-order" // staged RRsets out of order, or twice
	RuleStage         Rule = "stage"               // a chunk or commit that does not fit what is staged
	RuleDuplicate     Rule = "id-reused"           // the ID of another change set
	RuleFrozen        Rule = "zone-is-frozen"      // the content of a zone that is frozen
	RuleSecondary     Rule = "zone-is-secondary"   // the content of a zone that only its primaries change
	RuleNotSecondary  Rule = "zone-has-no-primary" // what comes from a primary, for a zone that has none
)
