package transfer

import (
	"encoding/binary"

	"balefire/zones"
)

// Since returns the serial that the sender of an IXFR query has: that of the SOA in its authority section (RFC 1995 §3). at is where
// the question ends; all records of the packet are known to be well-formed, as far as their lengths say. It is false when there is no such SOA.
func Since(packet []byte, at int) (zones.Serial, bool) {
	const soaLen = 1 + 1 + 20 // of two names and five numbers, at least
	if len(packet) < headerLen || binary.BigEndian.Uint16(packet[6:]) != 0 {
		return 0, false
	}
	for range binary.BigEndian.Uint16(packet[8:]) {
		if at = endOfName(packet, at); at < 0 || at+10 > len(packet) {
			return 0, false
		}
		kind := zones.Type(binary.BigEndian.Uint16(packet[at:]))
		end := at + 10 + int(binary.BigEndian.Uint16(packet[at+8:]))
		if end > len(packet) {
			return 0, false
		}
		if kind == zones.TypeSOA && end-at-10 >= soaLen {
			return zones.Serial(binary.BigEndian.Uint32(packet[end-20:])), true
		}
		at = end
	}
	return 0, false
}

// endOfName returns where the name at an offset ends; −1 when that is outside the packet.
func endOfName(packet []byte, at int) int {
	for at < len(packet) {
		switch l := int(packet[at]); {
		case l == 0:
			return at + 1
		case l >= 0xc0:
			return at + 2
		default:
			at += 1 + l
		}
	}
	return -1
}
