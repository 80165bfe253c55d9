package secondary

import (
	"encoding/binary"
	"errors"
	"fmt"

	"balefire/zones"
	"balefire/zones/zonefile"
)

const (
	headerLen  = 12
	maxMessage = 65535
	classIN    = 1

	flagQR     = 1 << 15
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	opcodeMask = 0xf << 11
	rcodeMask  = 0xf
)

// ErrMalformed marks messages that can't be read, or are not what they should be.
var ErrMalformed = errors.New("malformed answer")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// RcodeError is an answer that is no answer.
type RcodeError uint8

var rcodeNames = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"}

func (e RcodeError) Error() string {
	if int(e) < len(rcodeNames) {
		return "the primary answers " + rcodeNames[e]
	}
	return fmt.Sprintf("the primary answers with RCODE %d", uint8(e))
}

// appendQuery appends a query for a type at an apex to dst, which is empty. For IXFR, soa is what we have (RFC 1995 §3).
func appendQuery(dst []byte, id uint16, apex zones.Name, t zones.Type, soa zones.RRset) []byte {
	dst = binary.BigEndian.AppendUint16(dst, id)
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	dst = append(dst, apex...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(t))
	dst = binary.BigEndian.AppendUint16(dst, classIN)
	if t != zones.TypeIXFR {
		return dst
	}
	dst[9] = 1
	dst = append(dst, 0xc0, headerLen) // the question's name
	dst = binary.BigEndian.AppendUint16(dst, uint16(zones.TypeSOA))
	dst = binary.BigEndian.AppendUint16(dst, classIN)
	dst = binary.BigEndian.AppendUint32(dst, soa.TTL)
	rdata := soa.First()
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(rdata)))
	return append(dst, rdata...)
}

// answer is a message that answers, read from its front to its end.
type answer struct {
	msg   []byte
	at    int // of the next record
	flags uint16
	left  [3]int // records of the sections that were not read yet
}

// parseAnswer reads the header and the question, which must be the one that was asked. An answer after the first may have none
// (RFC 5936 §2.2.1).
func parseAnswer(msg []byte, id uint16, apex zones.Name, t zones.Type, first bool) (a answer, err error) {
	if len(msg) < headerLen {
		return a, malformed("%d octets", len(msg))
	}
	a = answer{msg: msg, at: headerLen, flags: binary.BigEndian.Uint16(msg[2:])}
	for i := range a.left {
		a.left[i] = int(binary.BigEndian.Uint16(msg[6+2*i:]))
	}
	switch {
	case binary.BigEndian.Uint16(msg) != id:
		return a, malformed("its ID is another")
	case a.flags&flagQR == 0 || a.flags&opcodeMask != 0:
		return a, malformed("it is no answer to a query")
	}
	questions := binary.BigEndian.Uint16(msg[4:])
	switch {
	case questions > 1:
		return a, malformed("%d questions", questions)
	case questions == 1:
		name, next, err := zones.NameFromMessage(msg, headerLen)
		if err != nil || len(msg)-next < 4 {
			return a, malformed("its question can't be read")
		}
		asked, class := zones.Type(binary.BigEndian.Uint16(msg[next:])), binary.BigEndian.Uint16(msg[next+2:])
		if name != apex || asked != t || class != classIN {
			return a, malformed("it answers another question: %s %s", name, asked)
		}
		a.at = next + 4
	}
	if rcode := a.flags & rcodeMask; rcode != 0 { // who can't read a question may leave it out
		return a, RcodeError(rcode)
	}
	if first && questions == 0 {
		return a, malformed("it has no question")
	}
	return a, nil
}

// next reads the next record of the answer section, and false after the last.
func (a *answer) next(rec *zonefile.Record) (bool, error) {
	if a.left[0] == 0 {
		return false, nil
	}
	a.left[0]--
	owner, t, class, ttl, at, size, err := a.record()
	if err != nil {
		return false, err
	}
	if class != classIN {
		return false, malformed("%s %s is of class %d", owner, t, class)
	}
	if t.IsMeta() {
		return false, malformed("%s %s: no zone has this type", owner, t)
	}
	if ttl > zones.MaxTTL { // RFC 2181 §8
		ttl = 0
	}
	rdata, err := zones.RDataFromMessage(t, a.msg, at, size)
	if err != nil || !zonefile.FitsType(t, rdata) {
		return false, malformed("RDATA of %s %s", owner, t)
	}
	*rec = zonefile.Record{Owner: owner, Type: t, TTL: ttl, RData: rdata}
	return true, nil
}

// finish goes over what follows the answer section, which must be all.
func (a *answer) finish() error {
	for range a.left[1] + a.left[2] {
		if _, _, _, _, _, _, err := a.record(); err != nil {
			return err
		}
	}
	if a.at != len(a.msg) {
		return malformed("%d octets too many", len(a.msg)-a.at)
	}
	return nil
}

// record reads a record but for its RDATA, which is size octets at at.
func (a *answer) record() (owner zones.Name, t zones.Type, class uint16, ttl uint32, at, size int, err error) {
	owner, next, err := zones.NameFromMessage(a.msg, a.at)
	if err != nil || len(a.msg)-next < 10 {
		return "", 0, 0, 0, 0, 0, malformed("a record at octet %d", a.at)
	}
	fixed := a.msg[next:]
	size = int(binary.BigEndian.Uint16(fixed[8:]))
	at = next + 10
	if len(a.msg)-at < size {
		return "", 0, 0, 0, 0, 0, malformed("RDATA at octet %d", at)
	}
	a.at = at + size
	return owner, zones.Type(binary.BigEndian.Uint16(fixed)), binary.BigEndian.Uint16(fixed[2:]), binary.BigEndian.Uint32(fixed[4:]), at, size, nil
}
