package zonefile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"balefire/zones"
)

// errNotRData marks every refusal of RDATA.
var errNotRData = errors.New("not RDATA")

// rdataError says which item of the RDATA's text is wrong.
type rdataError struct {
	token int
	msg   string
}

func (e *rdataError) Error() string { return e.msg }
func (e *rdataError) Unwrap() error { return errNotRData }

// ParseRData reads the presentation form of one RDATA of type t into canonical wire form. Relative names
// are completed by origin; with origin "" they are refused. RFC 3597's \# form is read for every type.
func ParseRData(t zones.Type, text string, origin zones.Name) ([]byte, error) {
	e, err := newLexer(strings.NewReader(text), "rdata", min(len(text), fileBuffer)).next()
	if err != nil {
		var bad *Error
		if errors.As(err, &bad) {
			return nil, &rdataError{msg: bad.Msg}
		}
		return parseTokens(t, nil, origin) // nothing but white space
	}
	end := e.tokens[len(e.tokens)-1]
	if strings.ContainsRune(strings.TrimRight(text, " \t\r\n"), '\n') && end.line == 1 {
		return nil, &rdataError{msg: "RDATA on more than one line"}
	}
	return parseTokens(t, e.tokens, origin)
}

// parseTokens reads RDATA that the lexer has split. Its error is an *rdataError.
func parseTokens(t zones.Type, tokens []token, origin zones.Name) ([]byte, error) {
	if len(tokens) > 0 && tokens[0].text == `\#` && !tokens[0].quoted {
		return parseGeneric(t, tokens)
	}
	var rdata []byte
	var err error
	switch {
	case t == zones.TypeA || t == zones.TypeAAAA:
		rdata, err = parseAddress(t, tokens)
	case t == zones.TypeNS || t == zones.TypeCNAME || t == zones.TypePTR || t == zones.TypeDNAME:
		rdata, err = parseOneName(tokens, origin)
	default:
		rdata, err = parseByLibrary(t, tokens, origin)
	}
	if err != nil {
		return nil, err
	}
	if err := zones.CanonicalRData(t, rdata); err != nil {
		return nil, &rdataError{msg: err.Error()}
	}
	return rdata, nil
}

func wantItems(tokens []token, n int, what string) error {
	if len(tokens) < n {
		return &rdataError{len(tokens), "want " + what}
	}
	if len(tokens) > n {
		return &rdataError{n, "unexpected " + strconv.Quote(tokens[n].text) + " after " + what}
	}
	return nil
}

func parseAddress(t zones.Type, tokens []token) ([]byte, error) {
	what := "one IPv4 address"
	if t == zones.TypeAAAA {
		what = "one IPv6 address"
	}
	if err := wantItems(tokens, 1, what); err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(tokens[0].text)
	if err != nil || a.Zone() != "" || a.Is4() != (t == zones.TypeA) {
		return nil, &rdataError{msg: strconv.Quote(tokens[0].text) + " is not an " + strings.TrimPrefix(what, "one ")}
	}
	return a.AsSlice(), nil
}

func parseOneName(tokens []token, origin zones.Name) ([]byte, error) {
	if err := wantItems(tokens, 1, "one domain name"); err != nil {
		return nil, err
	}
	text := tokens[0].text
	if origin == "" && !endsInDot(text) {
		return nil, &rdataError{msg: "relative name " + strconv.Quote(text) + " without an origin: end it with a dot"}
	}
	n, err := zones.ParseNameIn(text, origin)
	if err != nil {
		return nil, &rdataError{msg: err.Error()}
	}
	return []byte(n), nil
}

// parseGeneric reads \# LENGTH HEX… (RFC 3597 §5), and checks it against the type where that is known.
func parseGeneric(t zones.Type, tokens []token) ([]byte, error) {
	if len(tokens) < 2 {
		return nil, &rdataError{0, `want \# LENGTH HEX`}
	}
	size, err := strconv.ParseUint(tokens[1].text, 10, 16)
	if err != nil {
		return nil, &rdataError{1, "length " + strconv.Quote(tokens[1].text) + ": want 0 to 65535"}
	}
	var digits strings.Builder
	for _, tok := range tokens[2:] {
		digits.WriteString(tok.text)
	}
	rdata, err := hex.DecodeString(digits.String())
	if err != nil {
		return nil, &rdataError{2, "RDATA must be hexadecimal, two digits an octet"}
	}
	if uint64(len(rdata)) != size {
		return nil, &rdataError{1, "length is " + tokens[1].text + ", but there are " + strconv.Itoa(len(rdata)) + " octets"}
	}
	return rdata, CheckRData(t, rdata)
}

// CheckRData puts rdata into canonical form in place, and checks that it is well-formed for its type,
// without compressed names; types that are not known here are opaque.
func CheckRData(t zones.Type, rdata []byte) error {
	if err := zones.CanonicalRData(t, rdata); err != nil {
		return &rdataError{msg: err.Error()}
	}
	if _, known := dns.TypeToRR[uint16(t)]; !known {
		return nil
	}
	bad := &rdataError{msg: "octets do not fit type " + t.String()}
	if len(rdata) == 0 {
		if t == zones.TypeNULL || t.String() == "APL" {
			return nil
		}
		return bad
	}
	rr, err := unpack(t, rdata)
	if err != nil {
		return bad
	}
	again, err := pack(rr)
	if err != nil || !bytes.Equal(again, rdata) {
		return bad
	}
	return nil
}

// FitsType reports whether rdata, in canonical form, can be read as RDATA of a type; those of types that are not known here all can. Unlike
// CheckRData it takes what could be written otherwise, too.
func FitsType(t zones.Type, rdata []byte) bool {
	switch t {
	case zones.TypeA, zones.TypeAAAA, zones.TypeNS, zones.TypeCNAME, zones.TypePTR, zones.TypeDNAME, zones.TypeSOA, zones.TypeMX, zones.TypeSRV:
		return zones.CheckCanonicalRData(t, rdata) == nil
	}
	if _, known := dns.TypeToRR[uint16(t)]; !known {
		return true
	}
	if len(rdata) == 0 {
		return t == zones.TypeNULL || t.String() == "APL"
	}
	_, err := unpack(t, rdata)
	return err == nil
}

// maxString is the longest character-string (RFC 1035 §3.3).
const maxString = 255

// hasStrings lists the types whose RDATA has character-strings, and nothing else that could be so long. The library
// would part a longer one without a word.
var hasStrings = map[zones.Type]bool{
	13: true, zones.TypeTXT: true, 19: true, 20: true, zones.TypeNAPTR: true, 56: true, 99: true, 258: true, 261: true, 262: true,
}

// unescapedLen returns the octets that the text of an item stands for.
func unescapedLen(text string) int {
	n := 0
	for i := 0; i < len(text); n++ {
		switch {
		case text[i] != '\\':
			i++
		case i+1 < len(text) && '0' <= text[i+1] && text[i+1] <= '9':
			i += 4
		default:
			i += 2
		}
	}
	return n
}

func parseByLibrary(t zones.Type, tokens []token, origin zones.Name) ([]byte, error) {
	if _, known := dns.TypeToRR[uint16(t)]; !known {
		return nil, &rdataError{0, `write RDATA of this type as \# LENGTH HEX (RFC 3597)`}
	}
	if len(tokens) == 0 && t.String() != "APL" {
		return nil, &rdataError{0, "no RDATA"}
	}
	if hasStrings[t] {
		for i, tok := range tokens {
			if n := unescapedLen(tok.text); n > maxString {
				return nil, &rdataError{i, fmt.Sprintf("string of %d octets: want at most %d; write it as several strings", n, maxString)}
			}
		}
	}
	var b strings.Builder
	b.WriteString(". 0 IN ")
	b.WriteString(dns.TypeToString[uint16(t)])
	for _, tok := range tokens {
		if !tok.glued {
			b.WriteByte(' ')
		}
		if tok.quoted {
			b.WriteByte('"')
		}
		b.WriteString(tok.text)
		if tok.quoted {
			b.WriteByte('"')
		}
	}
	b.WriteByte('\n')
	parser := dns.NewZoneParser(strings.NewReader(b.String()), origin.String(), "")
	rr, ok := parser.Next()
	if !ok || rr == nil {
		return nil, libraryError(parser.Err(), tokens)
	}
	rdata, err := pack(rr)
	if err != nil {
		return nil, &rdataError{0, strings.TrimPrefix(err.Error(), "dns: ")}
	}
	return rdata, nil
}

// libraryError finds the item that the library stumbled over: its error ends in
// `message: "item" at line: 1:20`.
func libraryError(err error, tokens []token) error {
	if err == nil {
		return &rdataError{0, "no RDATA"}
	}
	msg := strings.TrimPrefix(err.Error(), "dns: ")
	msg, _, _ = strings.Cut(msg, " at line: ")
	k := 0
	if i := strings.LastIndex(msg, `: "`); i >= 0 {
		item, unquoteErr := strconv.Unquote(msg[i+2:])
		if unquoteErr == nil {
			msg = msg[:i]
			for j, tok := range tokens {
				if tok.text == item && item != "" {
					k = j
					msg += ": " + strconv.Quote(item)
					break
				}
			}
		}
	}
	return &rdataError{k, msg}
}

// pack returns the RDATA of rr in wire form.
func pack(rr dns.RR) ([]byte, error) {
	rr.Header().Name = "."
	buf := make([]byte, dns.Len(rr)+16)
	end, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil && dns.Len(rr) < 0xffff {
		buf = make([]byte, 0x10100)
		end, err = dns.PackRR(rr, buf, 0, nil, false)
	}
	if err != nil {
		return nil, err
	}
	const header = 1 + 10 // the root, then type, class, TTL and length
	return bytes.Clone(buf[header:end]), nil
}

func unpack(t zones.Type, rdata []byte) (dns.RR, error) {
	h := dns.RR_Header{Name: ".", Rrtype: uint16(t), Class: dns.ClassINET, Rdlength: uint16(len(rdata))}
	rr, _, err := dns.UnpackRRWithHeader(h, rdata, 0)
	return rr, err
}

// plain lists the types whose RDATA the library is known to write so that they can be read again to the
// same octets; what it writes of others is checked each time.
var plain = map[zones.Type]bool{
	zones.TypeA: true, zones.TypeAAAA: true, zones.TypeNS: true, zones.TypeCNAME: true, zones.TypeSOA: true,
	zones.TypePTR: true, zones.TypeMX: true, zones.TypeSRV: true, zones.TypeDNAME: true,
	zones.TypeDS: true, zones.TypeDNSKEY: true, zones.TypeRRSIG: true, zones.TypeNSEC: true, zones.TypeNSEC3: true,
	zones.TypeNSEC3PARAM: true,
}

// FormatRData returns the presentation form of rdata, names absolute: ParseRData reads it back to the
// same octets. What the type's own form can't say is written in that of RFC 3597.
func FormatRData(t zones.Type, rdata []byte) string {
	switch t {
	case zones.TypeA, zones.TypeAAAA:
		if a, ok := netip.AddrFromSlice(rdata); ok && a.Is4() == (t == zones.TypeA) {
			return a.String()
		}
		return generic(rdata)
	case zones.TypeNS, zones.TypeCNAME, zones.TypePTR, zones.TypeDNAME:
		if n, ok := zones.Target(t, rdata); ok {
			return n.String()
		}
		return generic(rdata)
	}
	if _, known := dns.TypeToRR[uint16(t)]; !known || len(rdata) == 0 {
		return generic(rdata)
	}
	rr, err := unpack(t, rdata)
	if err != nil {
		return generic(rdata)
	}
	text := strings.TrimPrefix(rr.String(), rr.Header().String())
	if !plain[t] {
		again, err := ParseRData(t, text, zones.Root)
		if err != nil || !bytes.Equal(again, rdata) {
			return generic(rdata)
		}
	}
	return text
}

func generic(rdata []byte) string {
	if len(rdata) == 0 {
		return `\# 0`
	}
	return `\# ` + strconv.Itoa(len(rdata)) + " " + hex.EncodeToString(rdata)
}

// SOASerial returns the serial in the RDATA of a SOA.
func SOASerial(rdata []byte) zones.Serial {
	if len(rdata) < 20 {
		return 0
	}
	return zones.Serial(binary.BigEndian.Uint32(rdata[len(rdata)-20:]))
}
