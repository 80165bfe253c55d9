package admin

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Scripts in testdata/api tell what a client sends and what it gets. A blank line ends an exchange:
//
//	# what this shows
//	PUT /v1/zones/example.com./rrsets/www/A
//	If-Match: "1"
//	{"ttl": 300, "records": ["192.0.2.7"]}
//	-> 200
//	ETag: "2"
//	{"status": "applied", "serial": 2, "position": "$at"}
//
// A JSON answer must have the members given, "-" meaning that one is absent and "*" anything; arrays must be whole.
// "$name" keeps a text, or demands the one kept before, and stands for it in later requests. Other bodies must be equal.
// After every refusal (4xx), the runner makes sure that all zones are as they were.
//
// Each is run on a node by itself, and on one that holds nothing, in a region of two others that do.
func TestScripts(t *testing.T) {
	t.Run("alone", func(t *testing.T) {
		testScripts(t, func(t *testing.T) *rig { return newRig(t, nil) })
	})
	t.Run("passed on", func(t *testing.T) {
		testScripts(t, func(t *testing.T) *rig { return newRegion(t, nil, nil, []int32{0, 2}, []int32{1}).members[0].rig })
	})
}

func testScripts(t *testing.T, start func(*testing.T) *rig) {
	files, err := filepath.Glob("../testdata/api/*.txt")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{rig: start(t), kept: map[string]string{}}
			line := 1
			for _, block := range strings.Split(string(text), "\n\n") {
				s.run(fmt.Sprintf("%s:%d", filepath.Base(file), line), strings.Trim(block, "\n"))
				line += strings.Count(block, "\n") + 2
			}
		})
	}
}

type script struct {
	*rig
	kept map[string]string
}

var (
	headerLine = regexp.MustCompile(`^[A-Z][A-Za-z-]*: `)
	keptName   = regexp.MustCompile(`\$[a-z]+[0-9]*`)
)

// headersAndBody splits the lines after a request or status line.
func headersAndBody(lines []string) (headers []string, body string) {
	for len(lines) > 0 && headerLine.MatchString(lines[0]) {
		headers, lines = append(headers, lines[0]), lines[1:]
	}
	return headers, strings.Join(lines, "\n")
}

func (s *script) run(where, block string) {
	lines := strings.Split(block, "\n")
	for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
		lines = lines[1:]
	}
	if len(lines) == 0 || lines[0] == "" {
		return
	}
	arrow := -1
	for i, l := range lines {
		if strings.HasPrefix(l, "-> ") {
			arrow = i
		}
	}
	method, path, ok := strings.Cut(lines[0], " ")
	if arrow < 0 || !ok {
		s.t.Fatalf("%s: want METHOD PATH … -> STATUS …", where)
	}
	fill := func(text string) string {
		return keptName.ReplaceAllStringFunc(text, func(name string) string {
			if v, ok := s.kept[name]; ok {
				return v
			}
			return name
		})
	}
	headers, body := headersAndBody(lines[1:arrow])
	for i := range headers {
		headers[i] = fill(headers[i])
	}
	if body != "" && !strings.HasPrefix(body, "{") {
		body += "\n"
	}
	want, err := strconv.Atoi(strings.TrimPrefix(lines[arrow], "-> "))
	if err != nil {
		s.t.Fatalf("%s: %v", where, err)
	}
	before := s.state()
	got := s.call(method, fill(path), fill(body), headers...)
	if got.status != want {
		s.t.Errorf("%s: %s %s: status %d, want %d\n%s", where, method, path, got.status, want, got.body)
		return
	}
	if after := s.state(); got.status >= 400 && got.status < 500 && after != before {
		s.t.Errorf("%s: %s %s was refused, and yet changed\n%sto\n%s", where, method, path, before, after)
	}
	headers, body = headersAndBody(lines[arrow+1:])
	for _, h := range headers {
		name, v, _ := strings.Cut(h, ": ")
		if err := s.match(got.header.Get(name), fill(v)); err != nil {
			s.t.Errorf("%s: header %s: %v", where, name, err)
		}
	}
	if body == "" {
		return
	}
	if !strings.HasPrefix(body, "{") {
		if string(got.body) != body+"\n" {
			s.t.Errorf("%s: got\n%s\nwant\n%s", where, got.body, body)
		}
		return
	}
	var wanted, has any
	if err := json.Unmarshal([]byte(body), &wanted); err != nil {
		s.t.Fatalf("%s: expectation: %v", where, err)
	}
	if err := json.Unmarshal(got.body, &has); err != nil {
		s.t.Fatalf("%s: %v in %s", where, err, got.body)
	}
	if err := s.match(has, wanted); err != nil {
		s.t.Errorf("%s: %v\nin %s", where, err, got.body)
	}
}

// match says how a value differs from what is wanted.
func (s *script) match(has, want any) error {
	switch want := want.(type) {
	case map[string]any:
		object, ok := has.(map[string]any)
		if !ok {
			return fmt.Errorf("%v is no object", has)
		}
		for k, w := range want {
			h, there := object[k]
			switch {
			case w == "-" && there:
				return fmt.Errorf("%s: %v, want it absent", k, h)
			case w == "-":
			case !there:
				return fmt.Errorf("%s is missing", k)
			default:
				if err := s.match(h, w); err != nil {
					return fmt.Errorf("%s: %w", k, err)
				}
			}
		}
		return nil
	case []any:
		list, ok := has.([]any)
		if !ok || len(list) != len(want) {
			return fmt.Errorf("%v, want %d items", has, len(want))
		}
		for i := range want {
			if err := s.match(list[i], want[i]); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	case string:
		text, ok := has.(string)
		if want == "*" {
			return nil
		}
		if ok && keptName.FindString(want) == want && want != "" {
			if v, known := s.kept[want]; !known {
				s.kept[want] = text
				return nil
			} else if v != text {
				return fmt.Errorf("%q, want %s = %q", text, want, v)
			}
			return nil
		}
		if part, found := strings.CutPrefix(want, "~"); ok && found {
			if !strings.Contains(text, part) {
				return fmt.Errorf("%q, want it to have %q", text, part)
			}
			return nil
		}
	}
	if has != want {
		return fmt.Errorf("%v (%T), want %v", has, has, want)
	}
	return nil
}
