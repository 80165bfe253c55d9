package update

import "balefire/zones"

// Class is a class in an UPDATE message, where it says what is meant (RFC 2136 §1.3, §2.4, §2.5).
type Class uint16

// The classes that mean something.
const (
	ClassIN   Class = 1
	ClassNONE Class = 254
	ClassANY  Class = 255
)

// RCode is what an UPDATE message is answered with (RFC 2136 §2.2).
type RCode uint16

// The RCODEs of this package.
const (
	NoError  RCode = 0
	FormErr  RCode = 1
	ServFail RCode = 2
	NXDomain RCode = 3  // some name that ought to exist does not
	Refused  RCode = 5  // for reasons of policy
	YXDomain RCode = 6  // some name that ought not to exist does
	YXRRSet  RCode = 7  // some RRset that ought not to exist does
	NXRRSet  RCode = 8  // some RRset that ought to exist does not
	NotAuth  RCode = 9  // the zone is not one of the server's
	NotZone  RCode = 10 // a name is not within the zone
)

var rcodeNames = map[RCode]string{
	NoError: "NOERROR", FormErr: "FORMERR", ServFail: "SERVFAIL", NXDomain: "NXDOMAIN", Refused: "REFUSED", YXDomain: "YXDOMAIN",
	YXRRSet: "YXRRSET", NXRRSet: "NXRRSET", NotAuth: "NOTAUTH", NotZone: "NOTZONE",
}

// String returns the mnemonic.
func (r RCode) String() string { return rcodeNames[r] }

// Record is a record of the prerequisite or update section.
type Record struct {
	Owner zones.Name
	Type  zones.Type
	Class Class
	TTL   uint32
	// RData is without compression and in canonical form when the record has values of a zone: in class IN and, in the update
	// section, NONE. Otherwise it is as it came.
	RData []byte
}

// Message is an UPDATE message (RFC 2136 §2). It shares no memory with the packet.
type Message struct {
	Zone  zones.Name
	Class Class // of the zone
	// Prerequisites and Updates are in the order of the message.
	Prerequisites, Updates []Record
}
