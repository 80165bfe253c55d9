package keyring

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"balefire/zones"
)

// keyPrefix is followed by the key's name, as people write it, with its final dot.
const keyPrefix = "tsig/"

// keyRecord is the value of a key.
type keyRecord struct {
	V         int       `json:"v"`
	Name      string    `json:"name"`
	Algorithm string    `json:"algorithm,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	// Sealed is the secret, sealed, in base64.
	Sealed  string `json:"sealed,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
}

// heldKey is a key with what is known of it. Without Secret it can't be used.
type heldKey struct {
	zones.TSIGKey
	created time.Time
	sealed  string // as it is in the topic
	problem string
}

func (k *heldKey) info() KeyInfo {
	return KeyInfo{Name: k.Name, Algorithm: k.Algorithm, Created: k.created, Sealed: k.sealed, Problem: k.problem}
}

// sealKey makes the record of a key.
func sealKey(key zones.TSIGKey, s *sealer, now time.Time) keyRecord {
	return keyRecord{
		V: recordVersion, Name: key.Name.String(), Algorithm: key.Algorithm.String(), Created: now.UTC().Truncate(time.Second),
		Sealed: base64.StdEncoding.EncodeToString(s.seal(key.Secret, bindingOf(key.Name, key.Algorithm))),
	}
}

// bindingOf is what a sealed secret is bound to, so that it can't be taken for that of another key.
func bindingOf(name, algorithm zones.Name) []byte {
	return []byte("tsig " + name.String() + " " + algorithm.String())
}

// readVersion reads the version that all records have.
func readVersion(value []byte) error {
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(value, &head); err != nil {
		return errors.New("it is not JSON with a version")
	}
	if head.V != recordVersion {
		return fmt.Errorf("version %d is not known here", head.V)
	}
	return nil
}

// readKey reads the record of a key; nil for one that was deleted. With an error there may be a key that can't be used.
func readKey(topicKey string, value []byte, sealers []*sealer) (*heldKey, error) {
	if err := readVersion(value); err != nil {
		return nil, err
	}
	var r keyRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	name, err := zones.ParseName(r.Name)
	if err != nil || topicKey != keyPrefix+name.String() {
		return nil, fmt.Errorf("it is of the name %q", r.Name)
	}
	if r.Deleted {
		return nil, nil
	}
	algorithm, err := zones.ParseTSIGAlgorithm(r.Algorithm)
	if err != nil {
		return nil, err
	}
	k := &heldKey{TSIGKey: zones.TSIGKey{Name: name, Algorithm: algorithm}, created: r.Created.UTC().Truncate(time.Second), sealed: r.Sealed}
	err = k.open(sealers)
	if err != nil {
		k.problem = err.Error()
	}
	return k, err
}

// open opens the sealed secret.
func (k *heldKey) open(sealers []*sealer) error {
	if len(sealers) == 0 {
		return ErrNoSecret
	}
	octets, err := base64.StdEncoding.DecodeString(k.sealed)
	if err != nil {
		return errors.New("the sealed secret is not base64")
	}
	for _, s := range sealers {
		secret, err := s.open(octets, bindingOf(k.Name, k.Algorithm))
		if err != nil {
			continue
		}
		opened := k.TSIGKey
		opened.Secret = secret
		if err := opened.Check(); err != nil {
			return err
		}
		k.TSIGKey = opened
		return nil
	}
	return ErrOtherSecret
}
