package notify

import (
	"encoding/binary"
	"errors"

	"balefire/zones"
)

const (
	headerLen = 12
	classIN   = 1
	// flagsRequest are opcode NOTIFY and AA (RFC 1996 §4.5); flagsAnswer QR and opcode NOTIFY, of flagsMask.
	flagsRequest = 4<<11 | 1<<10
	flagsAnswer  = 1<<15 | 4<<11
	flagsMask    = 1<<15 | 0xf<<11
	// maxRequest is how long a NOTIFY may be with its SOA, which is a hint that it can do without.
	maxRequest = 512
)

// appendRequest appends a NOTIFY of a zone to dst, which is empty. A SOA that is zero, or does not fit, is left out.
func appendRequest(dst []byte, id uint16, apex zones.Name, soa zones.RRset) []byte {
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = binary.BigEndian.AppendUint16(dst, flagsRequest)
	dst = append(dst, 0, 1, 0, 0, 0, 0, 0, 0)
	dst = append(dst, apex...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(zones.TypeSOA))
	dst = binary.BigEndian.AppendUint16(dst, classIN)
	rdata := soa.First()
	if soa.Type != zones.TypeSOA || rdata == nil || len(dst)+12+len(rdata) > maxRequest {
		return dst
	}
	dst[7] = 1
	dst = append(dst, 0xc0, headerLen) // the question's name
	dst = binary.BigEndian.AppendUint16(dst, uint16(zones.TypeSOA))
	dst = binary.BigEndian.AppendUint16(dst, classIN)
	dst = binary.BigEndian.AppendUint32(dst, soa.TTL)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(rdata)))
	return append(dst, rdata...)
}

// answerID returns the ID of what may be an answer to a NOTIFY.
func answerID(msg []byte) (id uint16, ok bool) {
	if len(msg) < headerLen || binary.BigEndian.Uint16(msg[2:])&flagsMask != flagsAnswer {
		return 0, false
	}
	return binary.BigEndian.Uint16(msg), true
}

var errOtherQuestion = errors.New("an answer to another question")

// readAnswer returns the RCODE of an answer to a NOTIFY of a zone. Whoever can't read the question may leave it out.
func readAnswer(msg []byte, apex zones.Name) (rcode uint8, err error) {
	rcode = msg[3] & 0xf
	switch binary.BigEndian.Uint16(msg[4:]) {
	case 0:
		if rcode != 0 {
			return rcode, nil
		}
	case 1:
		name, n, err := zones.NameFromWire(msg[headerLen:])
		rest := msg[min(len(msg), headerLen+n):]
		if err == nil && name == apex && len(rest) >= 4 && binary.BigEndian.Uint16(rest) == uint16(zones.TypeSOA) &&
			binary.BigEndian.Uint16(rest[2:]) == classIN {
			return rcode, nil
		}
	}
	return 0, errOtherQuestion
}

// rcodeFaults are of the codes that servers answer a NOTIFY with.
var rcodeFaults = map[uint8]string{
	1: "answered FORMERR", 2: "answered SERVFAIL", 3: "answered NXDOMAIN", 4: "answered NOTIMP", 5: "answered REFUSED", 9: "answered NOTAUTH",
}

func rcodeFault(rcode uint8) string {
	if text, ok := rcodeFaults[rcode]; ok {
		return text
	}
	return "answered with an error"
}
