package wire

import (
	"encoding/binary"

	"balefire/zones"
)

// PaddingBlock is what the lengths of padded answers are multiples of (RFC 8467 §4.1).
const PaddingBlock = 468

// PaddingLen is the least that padding takes.
const PaddingLen = 4

// Pad pads the message that was appended to dst's first base octets as the answer to q with r (RFC 7830), so that its length tells less of
// what is in it: to whole blocks, or to the greatest length that there is. One without OPT is left as it is.
func Pad(dst []byte, base int, q *Query, r *Reply) []byte {
	content := r.optLen(q) - 11
	at := len(dst) - content - 11
	if !q.EDNS || q.Echo != EchoAll || at < base+HeaderLen {
		return dst
	}
	opt := dst[at:]
	if opt[0] != 0 || zones.Type(binary.BigEndian.Uint16(opt[1:])) != zones.TypeOPT || int(binary.BigEndian.Uint16(opt[9:])) != content {
		return dst
	}
	return PadOPT(dst, base, len(opt), 0, r.Limit)
}

// PadOPT pads the message dst[base:], which ends in an OPT record of that many octets, and gets some more behind it, to whole blocks with these, or to the
// greatest length that there is.
func PadOPT(dst []byte, base, opt, behind, limit int) []byte {
	size := len(dst) - base + behind + PaddingLen
	if size > limit {
		return dst
	}
	n := min((size+PaddingBlock-1)/PaddingBlock*PaddingBlock, limit) - size
	length := dst[len(dst)-opt+9:]
	binary.BigEndian.PutUint16(length, uint16(opt-11+PaddingLen+n))
	dst = binary.BigEndian.AppendUint16(dst, optionPadding)
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	return append(dst, zeros[:n]...) // RFC 7830 §3
}

var zeros [PaddingBlock]byte
