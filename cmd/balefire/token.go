package main

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

// tokenFileName is the administrator's token below the data directory.
const tokenFileName = "admin.token"

// tokenOctets is how much is random in a token that is made here.
const tokenOctets = 32

// adminToken returns the administrator's token of a data directory, and makes one when there is none. The file
// appears whole, or not at all, and only its owner may read it.
func adminToken(dataDir string) (token string, err error) {
	file := filepath.Join(dataDir, tokenFileName)
	content, err := os.ReadFile(file)
	if err == nil {
		if token = strings.TrimSpace(string(content)); token == "" {
			return "", fmt.Errorf("%s is empty: write a token into it, or remove it and one is made", file)
		}
		return token, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	random := make([]byte, tokenOctets)
	rand.Read(random) // never fails (crypto/rand)
	token = base64.RawURLEncoding.EncodeToString(random)

	f, err := os.CreateTemp(dataDir, tokenFileName+".*") // mode 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("write %s: %w", file, err)
	}
	// A link, unlike a rename, never takes the place of a token that somebody made meanwhile.
	if err := os.Link(f.Name(), file); errors.Is(err, fs.ErrExist) {
		return adminToken(dataDir)
	} else if err != nil {
		return "", err
	}
	return token, nil
}
