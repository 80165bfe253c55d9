package update

import (
	"encoding/binary"
	"errors"

	"balefire/zones"
)

// ErrMalformed means that octets are no UPDATE message: FORMERR.
var ErrMalformed = errors.New("malformed UPDATE message")

const (
	headerLen    = 12
	recordHeader = 10 // type, class, TTL, length of RDATA
	// minRecord is the least that a record takes: how many are announced says nothing of how many there are.
	minRecord = 1 + recordHeader
)

// Parse reads an UPDATE message off a packet: the zone section, which must name one zone (RFC 2136 §3.1.1), the prerequisites and the
// updates. The additional section has nothing to do with the zone (§2.6: a server may ignore it), and is not looked at. The error is
// ErrMalformed. What the records' classes, TTLs and types must be, Evaluate looks at, in the RFC's order.
func Parse(packet []byte) (*Message, error) {
	if len(packet) < headerLen || binary.BigEndian.Uint16(packet[4:]) != 1 {
		return nil, ErrMalformed
	}
	m := &Message{}
	apex, at, err := zones.NameFromMessage(packet, headerLen)
	if err != nil || at+4 > len(packet) {
		return nil, ErrMalformed
	}
	// RFC 2136 §2.3: ZTYPE is SOA.
	if zones.Type(binary.BigEndian.Uint16(packet[at:])) != zones.TypeSOA {
		return nil, ErrMalformed
	}
	m.Zone, m.Class = apex, Class(binary.BigEndian.Uint16(packet[at+2:]))
	at += 4
	if m.Prerequisites, at, err = records(packet, at, binary.BigEndian.Uint16(packet[6:]), false); err != nil {
		return nil, err
	}
	if m.Updates, _, err = records(packet, at, binary.BigEndian.Uint16(packet[8:]), true); err != nil {
		return nil, err
	}
	return m, nil
}

// records reads the records of a section, and returns where it ends.
func records(packet []byte, at int, count uint16, updates bool) (all []Record, end int, err error) {
	if count > 0 {
		all = make([]Record, 0, min(int(count), (len(packet)-at)/minRecord))
	}
	for range count {
		var r Record
		if r.Owner, at, err = zones.NameFromMessage(packet, at); err != nil || at+recordHeader > len(packet) {
			return nil, 0, ErrMalformed
		}
		r.Type = zones.Type(binary.BigEndian.Uint16(packet[at:]))
		r.Class = Class(binary.BigEndian.Uint16(packet[at+2:]))
		r.TTL = binary.BigEndian.Uint32(packet[at+4:])
		size := int(binary.BigEndian.Uint16(packet[at+8:]))
		at += recordHeader
		if at+size > len(packet) {
			return nil, 0, ErrMalformed
		}
		if r.Class == ClassIN || r.Class == ClassNONE && updates {
			if r.RData, err = zones.RDataFromMessage(r.Type, packet, at, size); err != nil {
				return nil, 0, ErrMalformed
			}
		} else if size > 0 {
			r.RData = append([]byte(nil), packet[at:at+size]...)
		}
		all = append(all, r)
		at += size
	}
	return all, at, nil
}
