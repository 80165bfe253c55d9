package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// SecretLen is the octets of the namespace's secret.
const SecretLen = 32

// sealPurpose keeps what is derived from the namespace's secret for one purpose from being of use for another.
const sealPurpose = "balefire control topic, version 1"

// sealer seals small secrets with AES-256-GCM, with a key derived by HKDF (RFC 5869). A nonce of 96 random bits is enough for 2³² of them (NIST SP 800-38D §8.3).
type sealer struct{ aead cipher.AEAD }

func newSealer(secret []byte) (*sealer, error) {
	if len(secret) != SecretLen {
		return nil, fmt.Errorf("the namespace's secret has %d octets: want %d", len(secret), SecretLen)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, sealPurpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead}, nil
}

// seal returns the nonce and what it was sealed with: text, and its tag. It opens only with the same binding.
func (s *sealer) seal(text, binding []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(text)+s.aead.Overhead())
	rand.Read(nonce) // never fails
	return s.aead.Seal(nonce, nonce, text, binding)
}

func (s *sealer) open(sealed, binding []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("sealed text is too short")
	}
	return s.aead.Open(nil, sealed[:n], sealed[n:], binding)
}
