package secondary

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"iter"

	"balefire/zones"
)

// ErrZONEMD says that a zone has a digest of itself (RFC 8976) which is not its own.
var ErrZONEMD = errors.New("the zone's ZONEMD is not that of its content")

// ZONEMD is RFC 8976 §2: serial, scheme, hash algorithm, digest.
const (
	zonemdFixed  = 6
	schemeSimple = 1
	hashSHA384   = 1
	hashSHA512   = 2
)

// sequence yields a zone's RRsets in the order of zones.CompareRRsets. It can be gone through more than once, and twice at a time.
type sequence = iter.Seq2[zones.RRset, error]

// checkZONEMD compares a zone with the digest in it (RFC 8976 §4). A zone without one, or with none that is known here, is not held against it.
// names and hashed are two sequences of the same zone.
func checkZONEMD(apex zones.Name, set, soa zones.RRset, names, hashed sequence) error {
	wanted := map[byte][]byte{}
	for rd := range set.RDatas() {
		if len(rd) < zonemdFixed+12 {
			return fmt.Errorf("%w: it is too short", ErrZONEMD)
		}
		scheme, algorithm := rd[4], rd[5]
		if scheme != schemeSimple || algorithm != hashSHA384 && algorithm != hashSHA512 {
			continue
		}
		if _, twice := wanted[algorithm]; twice {
			return fmt.Errorf("%w: there are two of one scheme and algorithm", ErrZONEMD)
		}
		if serial := zones.Serial(binary.BigEndian.Uint32(rd)); serial != soa.SOASerial() {
			return fmt.Errorf("%w: it is for serial %d, and the zone has %d", ErrZONEMD, serial, soa.SOASerial())
		}
		wanted[algorithm] = rd[zonemdFixed:]
	}
	if len(wanted) == 0 {
		return nil
	}
	digests := map[byte]hash.Hash{hashSHA384: sha512.New384(), hashSHA512: sha512.New()}
	var buf []byte
	for set, err := range canonical(names, hashed) {
		if err != nil {
			return err
		}
		if set.Owner == apex && (set.Type == zones.TypeZONEMD || set.Covered == zones.TypeZONEMD) {
			continue
		}
		buf = buf[:0]
		for rd := range set.RDatas() {
			buf = append(buf, set.Owner...)
			buf = binary.BigEndian.AppendUint16(buf, uint16(set.Type))
			buf = binary.BigEndian.AppendUint16(buf, classIN)
			buf = binary.BigEndian.AppendUint32(buf, set.TTL)
			buf = binary.BigEndian.AppendUint16(buf, uint16(len(rd)))
			buf = append(buf, rd...)
		}
		for algorithm := range wanted {
			digests[algorithm].Write(buf)
		}
	}
	for algorithm, want := range wanted { // one that matches is enough (RFC 8976 §4 item 4)
		if bytes.Equal(digests[algorithm].Sum(nil), want) {
			return nil
		}
	}
	return ErrZONEMD
}

// canonical yields a zone in the order of RFC 4034 §6.1, in which the NSEC3 chain is not apart: RRsets outside of it are taken from names, those of
// it from hashed.
func canonical(names, hashed sequence) sequence {
	return func(yield func(zones.RRset, error) bool) {
		next, stop := iter.Pull2(chainOnly(hashed))
		defer stop()
		h, errH, more := next()
		for n, err := range names {
			if err != nil {
				yield(n, err)
				return
			}
			if n.Hashed() {
				break // all the others are, too
			}
			for more && errH == nil && compareCanonical(h, n) < 0 {
				if !yield(h, nil) {
					return
				}
				h, errH, more = next()
			}
			if errH != nil {
				break
			}
			if !yield(n, nil) {
				return
			}
		}
		for more {
			if !yield(h, errH) || errH != nil {
				return
			}
			h, errH, more = next()
		}
	}
}

func chainOnly(all sequence) sequence {
	return func(yield func(zones.RRset, error) bool) {
		for set, err := range all {
			if err == nil && !set.Hashed() {
				continue
			}
			if !yield(set, err) || err != nil {
				return
			}
		}
	}
}

func compareCanonical(a, b zones.RRset) int {
	if c := zones.Compare(a.Owner, b.Owner); c != 0 {
		return c
	}
	return a.Key.Compare(b.Key)
}
