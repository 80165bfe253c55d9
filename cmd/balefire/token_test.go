package main

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestAdminTokenIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	tokens := make([]string, 8)
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			token, err := adminToken(dir)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = token
		})
	}
	all.Wait()
	for _, token := range tokens {
		if token != tokens[0] || len(token) < 43 {
			t.Errorf("tokens differ, or are short: %q", tokens)
		}
	}
	info, err := os.Stat(filepath.Join(dir, tokenFileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestEmptyTokenFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, tokenFileName), []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if token, err := adminToken(dir); err == nil {
		t.Errorf("an empty file gave the token %q", token)
	}
}
