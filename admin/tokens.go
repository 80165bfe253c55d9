package admin

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Token is who may do everything: a name, for the history of zones, and the hash of a secret. The secret itself is
// not kept.
type Token struct {
	Name string
	Hash [sha256.Size]byte
}

// NewToken makes the Token of a secret.
func NewToken(name, secret string) Token {
	return Token{Name: name, Hash: sha256.Sum256([]byte(secret))}
}

func (t Token) isZero() bool { return t == Token{} }

// accepts compares in a time that does not depend on what differs: both sides are hashes.
func (t Token) accepts(secret string) bool {
	hash := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(hash[:], t.Hash[:]) == 1
}

// TokenFile is the file of the administrator's token, in the data directory.
const TokenFile = "admin.token"

// minSecret is the least length of a secret, in octets. A generated one has 43.
const minSecret = 16

// LoadOrCreateToken returns the administrator's secret: given, when that isn't empty, or what dir/admin.token holds.
// When there is no such file, it makes one, with mode 0600, and returns its path in created. A file that others can
// read is refused.
func LoadOrCreateToken(dir, given string) (secret, created string, err error) {
	if given != "" {
		if len(given) < minSecret {
			return "", "", fmt.Errorf("the token has %d characters: want at least %d", len(given), minSecret)
		}
		return given, "", nil
	}
	path := filepath.Join(dir, TokenFile)
	secret, err = readToken(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, "", err
	}
	random := make([]byte, 32)
	rand.Read(random)
	secret = base64.RawURLEncoding.EncodeToString(random)
	// Written elsewhere and linked, so that two starts at once agree, and a crash leaves no half of one.
	tmp, err := os.CreateTemp(dir, TokenFile+".*") // mode 0600
	if err != nil {
		return "", "", fmt.Errorf("make the token: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(secret + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return "", "", fmt.Errorf("make the token: %w", err)
	}
	err = os.Link(tmp.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		secret, err = readToken(path)
		return secret, "", err
	}
	if err != nil {
		return "", "", fmt.Errorf("make the token: %w", err)
	}
	return secret, path, nil
}

func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("token: %s can be read by others (mode %04o): make it 0600", path, mode)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	secret := strings.TrimSpace(string(content))
	if len(secret) < minSecret {
		return "", fmt.Errorf("token: %s has %d characters: want at least %d, or remove it and one is made", path, len(secret), minSecret)
	}
	return secret, nil
}
