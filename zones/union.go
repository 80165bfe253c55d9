package zones

import (
	"bytes"
	"encoding/binary"
)

// Union returns s with the RDATA of other added, in time proportional to both. Owner, key and TTL are s's; the
// types must be the same. The error is ErrTooManyRData.
func (s RRset) Union(other RRset) (RRset, error) {
	merged := s
	merged.rdata = make([]byte, 0, len(s.rdata)+len(other.rdata))
	merged.count = 0
	a, b := s.rdata, other.rdata
	for len(a) > 0 || len(b) > 0 {
		order := compareFirst(a, b)
		var next []byte
		if order <= 0 {
			next, a = cutFirst(a)
		}
		if order >= 0 {
			next, b = cutFirst(b)
		}
		merged.rdata = append(merged.rdata, next...)
		merged.count++
	}
	if merged.count > 0xffff {
		return RRset{}, ErrTooManyRData
	}
	return merged, nil
}

// Minus returns s without the RDATA of other, in time proportional to both: the zero RRset when none is left.
func (s RRset) Minus(other RRset) RRset {
	rest := s
	rest.rdata = make([]byte, 0, len(s.rdata))
	rest.count = 0
	a, b := s.rdata, other.rdata
	for len(a) > 0 {
		order := compareFirst(a, b)
		var next []byte
		if order <= 0 {
			next, a = cutFirst(a)
		}
		if order >= 0 {
			_, b = cutFirst(b)
		}
		if order < 0 {
			rest.rdata = append(rest.rdata, next...)
			rest.count++
		}
	}
	if rest.count == 0 {
		return RRset{}
	}
	return rest
}

// compareFirst compares the first RDATA of two packed lists; the end of a list comes after every RDATA.
func compareFirst(a, b []byte) int {
	switch {
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	first, _ := cutFirst(a)
	second, _ := cutFirst(b)
	return bytes.Compare(first[2:], second[2:])
}

// cutFirst cuts the first RDATA, with its length, off a packed list that is not empty.
func cutFirst(packed []byte) (first, rest []byte) {
	end := 2 + int(binary.BigEndian.Uint16(packed))
	return packed[:end], packed[end:]
}
