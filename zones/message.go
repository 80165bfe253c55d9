package zones

import "encoding/binary"

// NameFromMessage reads the name at msg[at:], which may end in a compression pointer (RFC 1035 §4.1.4), and returns it with where
// it ends in the message. Pointers only go back: each leads to before all that was read of the name until then. There are no more of them than
// a name has labels: who writes names has no use for a pointer to a pointer, and a message of nothing else would take long to read.
func NameFromMessage(msg []byte, at int) (n Name, next int, err error) {
	var buf [MaxNameLen]byte
	size := 0
	next = -1
	for bound, pointers := at, 0; ; {
		if at >= len(msg) {
			return "", 0, ErrNotWireName
		}
		l := int(msg[at])
		switch {
		case l == 0:
			buf[size] = 0 // there is room: labels leave an octet
			if next < 0 {
				next = at + 1
			}
			return Name(buf[:size+1]), next, nil
		case l >= 0xc0:
			if at+2 > len(msg) {
				return "", 0, ErrNotWireName
			}
			if next < 0 {
				next = at + 2
			}
			to := int(binary.BigEndian.Uint16(msg[at:]) & 0x3fff)
			if pointers++; to >= bound || pointers > MaxLabels {
				return "", 0, ErrNotWireName
			}
			at, bound = to, to
		case l > MaxLabelLen, size+1+l >= MaxNameLen, at+1+l > len(msg):
			return "", 0, ErrNotWireName
		default:
			buf[size] = byte(l)
			for i, c := range msg[at+1 : at+1+l] {
				buf[size+1+i] = lower[c]
			}
			size += 1 + l
			at += 1 + l
		}
	}
}

// RDataFromMessage reads RDATA of n octets at msg[at:], and returns a copy in canonical form, without compression. Names are taken
// compressed where some server may have done so (RFC 3597 §4): in the types of RFC 4034 §6.2. The error is ErrRData.
func RDataFromMessage(t Type, msg []byte, at, n int) ([]byte, error) {
	end := at + n
	if end > len(msg) {
		return nil, ErrRData
	}
	rdata := make([]byte, 0, n)
	if int(t) < len(layouts) && layouts[t].lower {
		l := layouts[t]
		skip := int(l.skip)
		for range l.strings {
			if at+skip >= end {
				return nil, ErrRData
			}
			skip += 1 + int(msg[at+skip])
		}
		if at+skip > end {
			return nil, ErrRData
		}
		rdata = append(rdata, msg[at:at+skip]...)
		at += skip
		for range l.names {
			name, next, err := NameFromMessage(msg[:end], at)
			if err != nil {
				return nil, ErrRData
			}
			rdata = append(rdata, name...)
			at = next
		}
	}
	rdata = append(rdata, msg[at:end]...)
	if len(rdata) > 0xffff {
		return nil, ErrRData
	}
	if err := CanonicalRData(t, rdata); err != nil {
		return nil, err
	}
	return rdata, nil
}
