// Package wire reads queries from, and writes answers to, the octets of DNS messages (RFC 1035 §4), without
// allocating. It judges by a message's own content alone: which zones there are, who asks and over which
// transport, it does not know.
//
// Parse never panics, and takes time linear in the packet's length, whatever is in the packet. What Append
// writes is never longer than the limit it is given, holds RRsets whole or not at all, and has
// compression pointers that only go backwards.
package wire

// RCode is a response code, with the upper bits that EDNS adds (RFC 6891 §6.1.3).
type RCode uint16

// The response codes that the server gives.
const (
	NoError   RCode = 0
	FormErr   RCode = 1
	ServFail  RCode = 2
	NXDomain  RCode = 3
	NotImp    RCode = 4
	Refused   RCode = 5
	YXDomain  RCode = 6
	YXRRSet   RCode = 7
	NXRRSet   RCode = 8
	NotAuth   RCode = 9
	NotZone   RCode = 10
	BadVers   RCode = 16
	BadCookie RCode = 23
)

// Opcode is the kind of a query (RFC 1035 §4.1.1).
type Opcode uint8

// The opcodes that are not simply unknown here.
const (
	OpQuery  Opcode = 0
	OpNotify Opcode = 4 // RFC 1996
	OpUpdate Opcode = 5 // RFC 2136
)

// Class is a class (RFC 1035 §3.2.4).
type Class uint16

// The classes that the server has answers in.
const (
	ClassIN Class = 1
	ClassCH Class = 3
)

// ExtendedError is an INFO-CODE of RFC 8914; NoExtendedError is none.
type ExtendedError int32

// The INFO-CODEs that the server gives.
const (
	NoExtendedError     ExtendedError = -1
	EDEOther            ExtendedError = 0
	EDENotReady         ExtendedError = 14
	EDEProhibited       ExtendedError = 18
	EDENotAuthoritative ExtendedError = 20
	EDEInvalidData      ExtendedError = 24
	EDEInvalidQueryType ExtendedError = 30 // RFC 9824 §10.1
)

// Sizes, in octets.
const (
	HeaderLen = 12
	// MinUDPSize is what every client can take (RFC 1035 §4.2.1); smaller offers count as this (RFC 6891 §6.2.3).
	MinUDPSize = 512
	// DefaultUDPSize passes every path without fragments (DNS Flag Day 2020).
	DefaultUDPSize = 1232
	// MaxUDPSize is the largest answer over UDP that can be configured.
	MaxUDPSize = 4096
	// MaxSize is the largest message (RFC 1035 §4.2.2).
	MaxSize = 65535
	// MaxNSID and MaxExtraText keep header, question and a full OPT below MinUDPSize.
	MaxNSID      = 64
	MaxExtraText = 64
	// ClientCookieLen and CookieLen are those of RFC 9018: a client cookie alone, and with the server's.
	ClientCookieLen = 8
	CookieLen       = 24
)

// The header's flags, in its second and third octet.
const (
	flagQR = 0x80
	flagAA = 0x04
	flagTC = 0x02
	flagRD = 0x01
)

// EDNS options.
const (
	optionNSID          = 3  // RFC 5001
	optionCookie        = 10 // RFC 7873
	optionPadding       = 12 // RFC 7830
	optionExtendedError = 15 // RFC 8914
)

// lower maps ASCII upper case to lower case, and every other octet to itself (RFC 4343 §3).
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()
