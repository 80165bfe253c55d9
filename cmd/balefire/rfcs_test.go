package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every RFC that the source cites is in docs/rfc-index.md, and no other.
func TestRFCIndex(t *testing.T) {
	index, err := os.ReadFile("../../docs/rfc-index.md")
	if err != nil {
		t.Fatal(err)
	}
	indexed := map[string]bool{}
	for line := range strings.Lines(string(index)) {
		if cells := strings.SplitN(line, "|", 3); len(cells) == 3 {
			for _, number := range regexp.MustCompile(`\d{3,4}`).FindAllString(cells[1], -1) {
				indexed[number] = true
			}
		}
	}
	cited := map[string]string{}
	pattern := regexp.MustCompile(`RFCs? (\d{3,4})`)
	err = filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			cited[m[1]] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for number, path := range cited {
		if !indexed[number] {
			t.Errorf("RFC %s, cited in %s, is not in docs/rfc-index.md", number, path)
		}
	}
	for number := range indexed {
		if cited[number] == "" {
			t.Errorf("RFC %s is in docs/rfc-index.md, and cited nowhere", number)
		}
	}
}
