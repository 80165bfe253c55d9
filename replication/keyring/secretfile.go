package keyring

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxSecrets is how many secrets a file may have: the one in use, and some before it.
const maxSecrets = 8

// LoadSecrets reads the namespace's secrets from a file: lines of SecretLen octets in base64, the one to seal with first. Lines that are empty or begin with #
// are passed over. A file that others can read is refused.
func LoadSecrets(path string) (secrets [][]byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("the namespace's secret: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("the namespace's secret: %s can be read by others (mode %04o): make it 0600", path, mode)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the namespace's secret: %w", err)
	}
	number := 0
	for line := range strings.Lines(string(content)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		secret, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(secret) != SecretLen {
			return nil, fmt.Errorf("the namespace's secret: line %d of %s is not %d octets in base64", number, path, SecretLen) // without the line
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return nil, fmt.Errorf("the namespace's secret: %s has %d secrets, want 1 to %d", path, len(secrets), maxSecrets)
	}
	return secrets, nil
}

// LoadOrCreateSecret returns the first secret of a file. When there is no such file it makes one, with mode 0600.
func LoadOrCreateSecret(path string) ([]byte, error) {
	secrets, err := LoadSecrets(path)
	if err == nil {
		return secrets[0], nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	secret := make([]byte, SecretLen)
	rand.Read(secret) // never fails
	// Written elsewhere and linked, so that a crash leaves no half of one; and synced with its directory before anything is sealed with it.
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = fmt.Fprintf(tmp, "# seals the secrets in the control topic: keep a copy\n%s\n", base64.StdEncoding.EncodeToString(secret))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return nil, err
	}
	return secret, nil
}
