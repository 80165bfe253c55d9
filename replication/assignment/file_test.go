package assignment

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const golden = "../../testdata/formats/v1/assignment.json"

var goldenTopic = [16]byte{0x9e, 0x10, 0x7d, 0x9d, 0x37, 0x2b, 0xb6, 0x82, 0x6b, 0xd8, 0x1d, 0x35, 0x42, 0xa4, 0x19, 0xd6}

func TestFileFormat(t *testing.T) {
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "assignment.json")
	if err := writeFile(file, goldenTopic, "balefire.eu.1", []int32{0, 3, 11}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
		t.Fatalf("wrote %s, want %s; %v", got, want, err)
	}
	got, err := readFile(golden, goldenTopic, "balefire.eu.1")
	if err != nil || !slices.Equal(got, []int32{0, 3, 11}) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestFile(t *testing.T) {
	whole, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, with string) string {
		text := strings.Replace(string(whole), old, with, 1)
		if text == string(whole) {
			t.Fatalf("there is no %q", old)
		}
		return text
	}
	for name, c := range map[string]struct {
		text  string
		topic [16]byte
		group string
		wrong string // "" when the file is just not for us
	}{
		"another topic":      {text: string(whole), topic: [16]byte{1}},
		"another group":      {text: string(whole), group: "balefire.eu.2"},
		"empty":              {text: "", wrong: "can't be used"},
		"cut":                {text: string(whole[:len(whole)/2]), wrong: "can't be used"},
		"zeros":              {text: strings.Repeat("\x00", len(whole)), wrong: "can't be used"},
		"something behind":   {text: string(whole) + "{}", wrong: "can't be used"},
		"of a newer version": {text: replaced(`"v":1`, `"v":2`), wrong: "version 2, this program knows 1"},
		"of no version":      {text: "{}", wrong: "version 0"},
		"negative":           {text: replaced(`0,3`, `-1,3`), wrong: "negative partition"},
		"no number":          {text: replaced(`0,3`, `"0",3`), wrong: "can't be used"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "assignment.json")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.topic == ([16]byte{}) {
				c.topic = goldenTopic
			}
			if c.group == "" {
				c.group = "balefire.eu.1"
			}
			got, err := readFile(file, c.topic, c.group)
			if len(got) != 0 {
				t.Errorf("read %v", got)
			}
			switch {
			case c.wrong == "" && err != nil:
				t.Error(err)
			case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.Contains(err.Error(), file)):
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		if got, err := readFile(filepath.Join(t.TempDir(), "none"), goldenTopic, ""); got != nil || err != nil {
			t.Fatalf("%v, %v", got, err)
		}
	})
}

// A file that was being written when the process died is in nobody's way.
func TestUnfinishedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "assignment.json")
	if err := writeFile(file, goldenTopic, "g", []int32{1}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".unfinished", []byte(`{"v":1,"topic_id":"and very much more than what will be written, so that its end would show"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readFile(file, goldenTopic, "g"); err != nil || !slices.Equal(got, []int32{1}) {
		t.Fatalf("%v, %v", got, err)
	}
	if err := writeFile(file, goldenTopic, "g", nil); err != nil {
		t.Fatal(err)
	}
	if got, err := readFile(file, goldenTopic, "g"); err != nil || len(got) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
}
