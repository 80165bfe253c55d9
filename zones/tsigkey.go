package zones

import (
	"errors"
	"fmt"
	"strings"
)

// TSIGKey is a secret that two parties share to sign DNS messages with (TSIG, RFC 8945). Its secret is shared, and not to be changed.
type TSIGKey struct {
	Name Name
	// Algorithm is one of TSIGAlgorithms.
	Algorithm Name
	Secret    []byte
}

// The algorithms of keys, as names on the wire (RFC 8945 §6).
var (
	HMACSHA224 = MustParseName("hmac-sha224.")
	HMACSHA256 = MustParseName("hmac-sha256.")
	HMACSHA384 = MustParseName("hmac-sha384.")
	HMACSHA512 = MustParseName("hmac-sha512.")
	// These two are broken or worn, and there for peers that have nothing better.
	HMACSHA1 = MustParseName("hmac-sha1.")
	HMACMD5  = MustParseName("hmac-md5.sig-alg.reg.int.")
)

// TSIGAlgorithms are all algorithms, the strong ones first.
func TSIGAlgorithms() []Name {
	return []Name{HMACSHA256, HMACSHA512, HMACSHA384, HMACSHA224, HMACSHA1, HMACMD5}
}

// TSIGHashLen returns the octets of an algorithm's hash, which is how long a new secret should be (RFC 2104 §3); 0 when the algorithm is not
// known.
func TSIGHashLen(algorithm Name) int {
	switch algorithm {
	case HMACMD5:
		return 16
	case HMACSHA1:
		return 20
	case HMACSHA224:
		return 28
	case HMACSHA256:
		return 32
	case HMACSHA384:
		return 48
	case HMACSHA512:
		return 64
	}
	return 0
}

// ParseTSIGAlgorithm reads an algorithm as people and other servers write it: with or without the final dot, hmac-md5 for its long name.
func ParseTSIGAlgorithm(text string) (Name, error) {
	name := strings.TrimSuffix(strings.ToLower(text), ".")
	for _, a := range TSIGAlgorithms() {
		if name == TSIGAlgorithmText(a) || name+"." == a.String() {
			return a, nil
		}
	}
	var known []string
	for _, a := range TSIGAlgorithms() {
		known = append(known, TSIGAlgorithmText(a))
	}
	return "", fmt.Errorf("%q is no algorithm: want one of %s", text, strings.Join(known, ", "))
}

// TSIGAlgorithmText returns an algorithm as BIND, NSD and Knot write it.
func TSIGAlgorithmText(algorithm Name) string {
	if algorithm == HMACMD5 {
		return "hmac-md5"
	}
	return strings.TrimSuffix(algorithm.String(), ".")
}

// Limits of a key's secret, in octets. Shorter ones can be guessed; what is longer than a hash's block adds nothing (RFC 2104 §3).
const (
	MinTSIGSecret = 8
	MaxTSIGSecret = 512
)

// Check returns what is wrong with a key.
func (k TSIGKey) Check() error {
	switch {
	case k.Name == "" || k.Name == Root:
		return errors.New("a key needs a name")
	case TSIGHashLen(k.Algorithm) == 0:
		return fmt.Errorf("the key's algorithm %s is not known", k.Algorithm)
	case len(k.Secret) < MinTSIGSecret || len(k.Secret) > MaxTSIGSecret:
		return fmt.Errorf("the key's secret has %d octets: want %d to %d", len(k.Secret), MinTSIGSecret, MaxTSIGSecret)
	}
	return nil
}
