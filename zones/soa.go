package zones

import (
	"bytes"
	"encoding/binary"
)

// soaNumbers is the length of the five numbers that end the RDATA of a SOA (RFC 1035 §3.3.13): serial, refresh,
// retry, expire and minimum, four octets each.
const soaNumbers = 20

// SOASerial returns the serial in a SOA RRset; 0 when s is not a SOA.
func (s RRset) SOASerial() Serial {
	if s.Type != TypeSOA || len(s.rdata) < 2+soaNumbers {
		return 0
	}
	return Serial(binary.BigEndian.Uint32(s.rdata[len(s.rdata)-soaNumbers:]))
}

// WithSOASerial returns a copy of a SOA RRset of one RDATA with another serial; anything else as it is.
func (s RRset) WithSOASerial(serial Serial) RRset {
	if s.Type != TypeSOA || s.count != 1 || len(s.rdata) < 2+soaNumbers {
		return s
	}
	s.rdata = bytes.Clone(s.rdata)
	binary.BigEndian.PutUint32(s.rdata[len(s.rdata)-soaNumbers:], uint32(serial))
	return s
}
