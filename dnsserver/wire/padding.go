package wire

import (
	"encoding/binary"

	"balefire/zones"
)

// PaddingBlock is what the lengths of padded answers are multiples of (RFC 8467 §4.1).
const PaddingBlock = 468

// Pad pads the message that was appended to dst's first base octets as the answer to q with r (RFC 7830), so that its length tells less of
// what is in it: to whole blocks, or to the greatest length that there is. One without OPT is left as it is.
func Pad(dst []byte, base int, q *Query, r *Reply) []byte {
	const head = 4 // of the option
	size := len(dst) - base
	content := r.optLen(q) - 11
	at := len(dst) - content - 11
	if !q.EDNS || q.Echo != EchoAll || size+head > r.Limit || at < base+HeaderLen {
		return dst
	}
	opt := dst[at:]
	if opt[0] != 0 || zones.Type(binary.BigEndian.Uint16(opt[1:])) != zones.TypeOPT || int(binary.BigEndian.Uint16(opt[9:])) != content {
		return dst
	}
	padded := min((size+head+PaddingBlock-1)/PaddingBlock*PaddingBlock, r.Limit)
	n := padded - size - head
	binary.BigEndian.PutUint16(opt[9:], uint16(content+head+n))
	dst = binary.BigEndian.AppendUint16(dst, optionPadding)
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	start := len(dst)
	for len(dst) < start+n {
		dst = append(dst, zeros[:min(len(zeros), start+n-len(dst))]...) // RFC 7830 §3
	}
	return dst
}

var zeros [PaddingBlock]byte
