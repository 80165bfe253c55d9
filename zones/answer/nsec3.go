package answer

import (
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"

	"balefire/zones"
)

// MaxIterations is the number of additional NSEC3 iterations (RFC 5155 §3.1.3) that is served. RFC 9276
// §3.1 wants 0; validators take no more than this for secure. It bounds the work for a query.
const MaxIterations = 150

// Errors of zones whose proofs can't be made.
var (
	ErrIterations = errors.New("too many NSEC3 iterations")
	ErrNSEC3Param = errors.New("unusable NSEC3PARAM")
)

// hashLen is the length of a SHA-1 digest in base32hex.
const hashLen = 32

// useNSEC3 takes the parameters of the zone's chain.
func (a *Answer) useNSEC3(params zones.RRset) error {
	for rdata := range params.RDatas() {
		// Algorithm 1 is SHA-1; others are unknown, and flags other than 0 mean a chain in the making (RFC 5155 §4.1.2).
		if len(rdata) < 5 || len(rdata) != 5+int(rdata[4]) || rdata[0] != 1 || rdata[1] != 0 {
			continue
		}
		a.iterations = int(binary.BigEndian.Uint16(rdata[2:]))
		if a.iterations > MaxIterations {
			return fmt.Errorf("%w: %d, and %d is the limit", ErrIterations, a.iterations, MaxIterations)
		}
		if 1+hashLen+len(a.apex.Owner) > zones.MaxNameLen {
			return ErrNSEC3Param // no hashed name fits below this apex
		}
		a.salt, a.denial = rdata[5:], denialNSEC3
		return nil
	}
	return ErrNSEC3Param
}

// denyNSEC3 proves that a.name does not exist, and what the wildcard of its closest encloser is: nothing
// (RFC 5155 §7.2.2) or something without the type (§7.2.5).
func (a *Answer) denyNSEC3() error {
	encloser, err := a.encloseNSEC3(a.name, a.at.Encloser.Owner)
	if err != nil || encloser == "" {
		return err
	}
	node, matches, err := a.findNSEC3(a.wildcardOf(encloser))
	if err != nil {
		return err
	}
	// A wildcard that opt-out leaves out of the chain can't be shown. That there is no DS follows without it (§7.2.4).
	if matches || a.Kind == NameError || a.q.Type != zones.TypeDS {
		a.addNSEC3(node)
	}
	return nil
}

// matchNSEC3 proves what types name, which exists, does not have (RFC 5155 §7.2.3). A name that opt-out
// leaves out of the chain gets a closest provable encloser proof (§7.2.4, §7.2.7).
func (a *Answer) matchNSEC3(name zones.Name) error {
	node, matches, err := a.findNSEC3(name)
	if err != nil {
		return err
	}
	if matches {
		a.addNSEC3(node)
		return nil
	}
	_, err = a.encloseNSEC3(name, name.Parent())
	return err
}

// encloseNSEC3 puts the closest encloser proof for name (RFC 5155 §7.2.1), and returns the encloser, or ""
// where the chain is broken. It looks from encloser upwards: an empty non-terminal above nothing but
// insecure delegations may not be in an opt-out chain.
func (a *Answer) encloseNSEC3(name, encloser zones.Name) (zones.Name, error) {
	for {
		node, matches, err := a.findNSEC3(encloser)
		if err != nil {
			return "", err
		}
		if matches {
			a.addNSEC3(node)
			return encloser, a.proveNSEC3(nextCloser(name, encloser))
		}
		if encloser == a.apex.Owner {
			return "", nil
		}
		encloser = encloser.Parent()
	}
}

// proveNSEC3 puts the NSEC3 that matches name, or covers it.
func (a *Answer) proveNSEC3(name zones.Name) error {
	node, _, err := a.findNSEC3(name)
	if err == nil {
		a.addNSEC3(node)
	}
	return err
}

func (a *Answer) addNSEC3(node zones.Node) {
	if set, ok := node.RRset(zones.TypeNSEC3); ok {
		a.addDenial(node, set)
	}
}

// findNSEC3 returns the node whose NSEC3 matches name, or else covers it.
func (a *Answer) findNSEC3(name zones.Name) (node zones.Node, matches bool, err error) {
	hashed := a.hashedOwner(name)
	node, err = a.view.FindNSEC3(hashed)
	return node, err == nil && node.Owner == hashed, err
}

// hashedOwner returns the owner name of the NSEC3 that matches name (RFC 5155 §5), in memory that the next call uses again.
func (a *Answer) hashedOwner(name zones.Name) zones.Name {
	in := append(append(a.hash[:0], name...), a.salt...)
	digest := sha1.Sum(in)
	for range a.iterations {
		in = append(append(a.hash[:0], digest[:]...), a.salt...)
		digest = sha1.Sum(in)
	}
	out := append(a.hashed[:0], hashLen)
	out = appendBase32Hex(out, digest)
	return zones.NameView(append(out, a.apex.Owner...))
}

// appendBase32Hex appends the digest in the extended hex alphabet (RFC 4648 §7), in lower case. Five octets make eight digits.
func appendBase32Hex(dst []byte, digest [sha1.Size]byte) []byte {
	const digits = "0123456789abcdefghijklmnopqrstuv"
	for i := 0; i < sha1.Size; i += 5 {
		bits := uint64(digest[i])<<32 | uint64(binary.BigEndian.Uint32(digest[i+1:]))
		for shift := 35; shift >= 0; shift -= 5 {
			dst = append(dst, digits[bits>>shift&31])
		}
	}
	return dst
}
