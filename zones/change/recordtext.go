package change

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"balefire/zones"
)

// recordText writes RDATA, in canonical form and of the right shape, as text. It is part of the format level, and so
// kept apart from the zone-file writer, which may learn new types.
func recordText(t zones.Type, rdata []byte) string {
	switch t {
	case zones.TypeA, zones.TypeAAAA:
		if addr, ok := netip.AddrFromSlice(rdata); ok {
			return addr.String()
		}
	case zones.TypeNS, zones.TypeCNAME, zones.TypeDNAME, zones.TypePTR:
		if name, _, ok := nameAt(rdata); ok {
			return name
		}
	case zones.TypeMX:
		if len(rdata) > 2 {
			if name, _, ok := nameAt(rdata[2:]); ok {
				return numbers(rdata[:2]) + " " + name
			}
		}
	case zones.TypeSRV:
		if len(rdata) > 6 {
			if name, _, ok := nameAt(rdata[6:]); ok {
				return numbers(rdata[:6]) + " " + name
			}
		}
	case zones.TypeSOA:
		if text, ok := soaText(rdata); ok {
			return text
		}
	case zones.TypeTXT:
		if _, ok := charStrings(rdata); ok {
			return txtText(rdata)
		}
	}
	return fmt.Sprintf("\\# %d %x", len(rdata), rdata) // RFC 3597 §5
}

func nameAt(b []byte) (text string, rest []byte, ok bool) {
	n, used, err := zones.NameFromWire(b)
	if err != nil {
		return "", nil, false
	}
	return n.String(), b[used:], true
}

// numbers writes 16-bit numbers in decimal.
func numbers(b []byte) string {
	var parts []string
	for ; len(b) >= 2; b = b[2:] {
		parts = append(parts, strconv.Itoa(int(binary.BigEndian.Uint16(b))))
	}
	return strings.Join(parts, " ")
}

func soaText(rdata []byte) (string, bool) {
	mname, rest, ok := nameAt(rdata)
	if !ok {
		return "", false
	}
	rname, rest, ok := nameAt(rest)
	if !ok || len(rest) != 20 {
		return "", false
	}
	parts := []string{mname, rname}
	for ; len(rest) > 0; rest = rest[4:] {
		parts = append(parts, strconv.FormatUint(uint64(binary.BigEndian.Uint32(rest)), 10))
	}
	return strings.Join(parts, " "), true
}

// txtText joins the character-strings without quotes or anything between them. Octets outside printable ASCII become
// \DDD, and a backslash two.
func txtText(rdata []byte) string {
	var b strings.Builder
	for ; len(rdata) > 0; rdata = rdata[1+int(rdata[0]):] {
		for _, c := range rdata[1 : 1+int(rdata[0])] {
			switch {
			case c == '\\':
				b.WriteString(`\\`)
			case c < ' ' || c >= 0x7f:
				fmt.Fprintf(&b, `\%03d`, c)
			default:
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}
