package answer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"balefire/zones"
)

// EncodingVersion is the first octet of an encoded answer. docs/formats/answer.md draws what follows.
const EncodingVersion = 1

// The flags of an encoded answer, and of an encoded entry. They are part of the format.
const (
	encodedAuthoritative = 1 << 0
	encodedExtended      = 1 << 1 // there is an extended error
	encodedEncloser      = 1 << 2 // there is an encloser

	encodedSection    = 3 // a mask: the section
	encodedOptional   = 1 << 2
	encodedSignatures = 1 << 3
)

// encodedHeader is the length of what precedes the encloser.
const encodedHeader = 8

// maxMessage is the most octets that any message has (RFC 1035 §4.2.2).
const maxMessage = 0xffff

// Errors of Decode.
var (
	// ErrVersion means that the answer was encoded by a later program.
	ErrVersion = errors.New("unknown version of an encoded answer")
	// ErrEncoding means that the octets are no encoded answer.
	ErrEncoding = errors.New("malformed encoded answer")
)

// Encode appends to dst what makes the same messages of a on another node, whatever their size, transport
// and EDNS. Entries that no message has room for are left out: those after the first one at which even the
// largest message is cut.
func Encode(dst []byte, a *Answer) []byte {
	var flags byte
	extended := uint16(0)
	if a.Authoritative {
		flags |= encodedAuthoritative
	}
	if a.ExtendedError != NoExtendedError {
		flags |= encodedExtended
		extended = uint16(a.ExtendedError)
	}
	if a.Encloser != "" {
		flags |= encodedEncloser
	}
	entries := a.Entries[:reached(a.Entries)]
	dst = append(dst, EncodingVersion, flags, byte(a.RCode), byte(a.Kind))
	dst = binary.BigEndian.AppendUint16(dst, extended)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(entries)))
	dst = append(dst, a.Encloser...)
	for i := range entries {
		e := &entries[i]
		flags := byte(e.Section)
		if e.Optional {
			flags |= encodedOptional
		}
		if !e.Signatures.IsZero() {
			flags |= encodedSignatures
		}
		dst = append(dst, flags)
		dst = append(dst, e.RRset.Owner...)
		dst = e.RRset.AppendPacked(dst)
		if !e.Signatures.IsZero() {
			dst = e.Signatures.AppendPacked(dst)
		}
	}
	return dst
}

// reached returns how many of the entries a message's writer may come to. It stops at the first entry that
// is not optional and doesn't fit, at the latest where the least that such entries can take is too much.
func reached(entries []Entry) int {
	least := 0
	for i := range entries {
		if e := &entries[i]; !e.Optional {
			least += leastSize(e.RRset) + leastSize(e.Signatures)
		}
		if least > maxMessage {
			return i + 1
		}
	}
	return len(entries)
}

// leastSize returns the octets that an RRset takes at least in a message: an owner that is the root, ten octets
// of type, class, TTL and length, and RDATA whose names, where they may be compressed, come to nothing.
func leastSize(s zones.RRset) int {
	n := (1 + 10) * s.Len()
	if !zones.MayCompress(s.Type) {
		n += s.Size() - 2*s.Len()
	}
	return n
}

// Decode reads what Encode wrote into a, whose memory it uses again. All of src must be one answer. The
// answer shares src's memory, which must not change while a is in use. After an error a is empty.
func Decode(src []byte, a *Answer) error {
	a.Reset()
	if err := a.decode(src); err != nil {
		a.Reset()
		return err
	}
	return nil
}

func (a *Answer) decode(src []byte) error {
	if len(src) == 0 {
		return fmt.Errorf("%w: it is empty", ErrEncoding)
	}
	if src[0] != EncodingVersion {
		return fmt.Errorf("%w: %d, and this program knows %d", ErrVersion, src[0], EncodingVersion)
	}
	if len(src) < encodedHeader {
		return fmt.Errorf("%w: %d octets", ErrEncoding, len(src))
	}
	flags, count := src[1], int(binary.BigEndian.Uint16(src[6:]))
	a.RCode, a.Kind = RCode(src[2]), Kind(src[3])
	extended := binary.BigEndian.Uint16(src[4:])
	if flags > encodedAuthoritative|encodedExtended|encodedEncloser || a.RCode > 15 || a.Kind > Referral ||
		flags&encodedExtended == 0 && extended != 0 {
		return fmt.Errorf("%w: header %x", ErrEncoding, src[:encodedHeader])
	}
	a.Authoritative = flags&encodedAuthoritative != 0
	if flags&encodedExtended != 0 {
		a.ExtendedError = int(extended)
	}
	rest := src[encodedHeader:]
	if flags&encodedEncloser != 0 {
		name, n, err := zones.NameViewFromWire(rest)
		if err != nil {
			return fmt.Errorf("%w: encloser: %w", ErrEncoding, err)
		}
		a.Encloser, rest = name, rest[n:]
	}
	section := SectionAnswer
	for i := range count { // a.Entries grows with what has been read, not with what count says
		e, more, err := decodeEntry(rest)
		if err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrEncoding, i, err)
		}
		if e.Section < section {
			return fmt.Errorf("%w: entry %d: the %s section after the %s section", ErrEncoding, i, e.Section, section)
		}
		section, rest = e.Section, more
		a.Entries = append(a.Entries, e)
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: %d octets after its end", ErrEncoding, len(rest))
	}
	return nil
}

var (
	errFlags      = errors.New("unknown flags, or ones that exclude each other")
	errShort      = errors.New("it ends too early")
	errKey        = errors.New("a type that no zone holds, or covered type and RDATA that differ")
	errOrder      = errors.New("RDATA out of canonical order")
	errSignatures = errors.New("signatures of something else")
)

func decodeEntry(b []byte) (e Entry, rest []byte, err error) {
	if len(b) == 0 {
		return Entry{}, nil, errShort
	}
	flags := b[0]
	e.Section, e.Optional = Section(flags&encodedSection), flags&encodedOptional != 0
	if flags > encodedSection|encodedOptional|encodedSignatures || e.Section > SectionAdditional || e.Optional && e.Section != SectionAdditional {
		return Entry{}, nil, errFlags
	}
	owner, n, err := zones.NameViewFromWire(b[1:])
	if err != nil {
		return Entry{}, nil, err
	}
	e.RRset, rest, err = decodeRRset(owner, b[1+n:])
	if err == nil && flags&encodedSignatures != 0 {
		e.Signatures, rest, err = decodeRRset(owner, rest)
		if err == nil && e.Signatures.Key != (zones.Key{Type: zones.TypeRRSIG, Covered: e.RRset.Type}) {
			err = errSignatures
		}
	}
	if err != nil {
		return Entry{}, nil, err
	}
	return e, rest, nil
}

// decodeRRset reads a packed RRset, and checks what else an RRset is known to be.
func decodeRRset(owner zones.Name, b []byte) (zones.RRset, []byte, error) {
	s, rest, err := zones.ReadPacked(owner, b)
	switch {
	case err != nil:
		return zones.RRset{}, nil, err
	case s.Type.IsMeta(), s.Type != zones.TypeRRSIG && s.Covered != 0:
		return zones.RRset{}, nil, errKey
	case s.TTL > zones.MaxTTL:
		return zones.RRset{}, nil, zones.ErrTTLOutOfRange
	}
	var before []byte
	for rdata := range s.RDatas() {
		switch err := zones.CheckCanonicalRData(s.Type, rdata); {
		case err != nil:
			return zones.RRset{}, nil, err
		case s.Type == zones.TypeRRSIG && zones.CoveredType(rdata) != s.Covered:
			return zones.RRset{}, nil, errKey
		case before != nil && bytes.Compare(before, rdata) >= 0:
			return zones.RRset{}, nil, errOrder
		}
		before = rdata
	}
	return s, rest, nil
}
