package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// The README's table of options is what `balefire config docs` prints.
func TestReadmeOptions(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "<!-- options: `balefire config docs` prints this table -->\n")
	table, _, ok2 := strings.Cut(rest, "<!-- end of options -->")
	if !ok || !ok2 {
		t.Fatal("README.md has no table of options between its marks")
	}
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"config", "docs"}, strings.NewReader(""), &out, &errOut); code != 0 {
		t.Fatalf("exit %d: %s", code, errOut.String())
	}
	if out.String() != table {
		t.Error("README.md's table of options differs from what `balefire config docs` prints: put that in its place")
	}
}
