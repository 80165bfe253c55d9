package change

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/expr-lang/expr"
	"pgregory.net/rapid"

	"balefire/zones"
)

func subject(t testing.TB) Subject {
	return Subject{
		Zone: name("example."), Serial: 2026030400, Owner: name("www.example."), Type: zones.TypeA,
		RRset: rrset(t, "www.example. 300 A 192.0.2.2", "www.example. 300 A 192.0.2.1"),
	}
}

func TestConditions(t *testing.T) {
	nested := func(n int, open, middle, end string) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	tests := []struct {
		expression string
		want       string // true, false, or a part of the error
	}{
		{`true`, "true"},
		{`exists`, "true"},
		{`not exists`, "false"},
		{`!exists or ttl >= 300`, "true"},
		{`"192.0.2.1" in records`, "true"},
		{`"192.0.2.3" not in records`, "true"},
		{`records == ["192.0.2.1", "192.0.2.2"]`, "true"},
		{`records != ["192.0.2.2", "192.0.2.1"]`, "true"},
		{`records[0] == "192.0.2.1" && records[-1] == "192.0.2.2"`, "true"},
		{`records[2] == ""`, "out of range"},
		{`records[-3] == ""`, "out of range"},
		{`count == 2 and len(records) == 2`, "true"},
		{`owner == "www." + zone`, "true"},
		{`owner endsWith zone and owner startsWith "www" and owner contains "."`, "true"},
		{`upper(type) == "A" and lower(type) == "a"`, "true"},
		{`serial == 2026030400 and serial - 1 < serial and -serial < 0 and serial + 1 > serial`, "true"},
		{`-1 == 0 - 1`, "true"},
		{`0 < count < 3`, "true"},
		{`type in ["A", "AAAA"] ? ttl > 1 : ttl > 1000`, "true"},
		{`if exists { count > 0 } else { true }`, "true"},
		{`exists ?: false`, "true"},
		{`records | len() == 2`, "true"},
		{`false and records[9] == ""`, "false"},
		{`"é" == "É"`, "false"},
		{`lower("É") == "É"`, "true"},
		{`len("é") == 1`, "true"},

		{``, "unexpected"},
		{`count`, "must be true or false"},
		{`records`, "must be true or false"},
		{`exists and`, "unexpected"},
		{`exists == 1`, "between a boolean and an integer"},
		{`ttl == "300"`, "between an integer and a string"},
		{`records < records`, "between a list"},
		{`192 in records`, "between an integer and a list"},
		{`1 in [1]`, "strings only"},
		{`"w" in owner`, "between a string and a string"},
		{`ttl and true`, "between an integer and a boolean"},
		{`not ttl`, "can't be used with an integer"},
		{`+ttl == 1`, `operator "+"`},
		{`now() > ttl`, `function "now"`},
		{`owner matches "(a+)+$"`, `operator "matches"`},
		{`ttl / 0 == 1`, `operator "/"`},
		{`ttl % 0 == 1`, `operator "%"`},
		{`ttl * 2 == 1`, `operator "*"`},
		{`ttl ** 2 == 1`, `operator "**"`},
		{`ttl in 1..1000000000`, `operator ".."`},
		{`all(records, true)`, `function "all"`},
		{`all(records, all(records, # == ""))`, `function "all"`},
		{`records | filter(# == "") | len() == 0`, `function "filter"`},
		{`count(records) == 1`, `function "count"`},
		{`repeat("x", 1000000000) == ""`, `function "repeat"`},
		{`map(records, #) == records`, `function "map"`},
		{`{"a": 1} == {}`, "maps"},
		{`owner[0] == "w"`, "only lists have members"},
		{`records["0"] == "w"`, "only lists have members"},
		{`records?.[0] == "w"`, "optional chaining"},
		{`owner.length == 1`, "only lists have members"},
		{`records[0:1] == records`, "slices"},
		{`let x = true; x`, `"let"`},
		{`true; true`, `";"`},
		{`nil == nil`, "nil"},
		{`exists ?? true`, `operator "??"`},
		{`1.5 > 1`, "fraction"},
		{`unknown == 1`, `no variable "unknown"`},
		{`$env == 1`, "no variable"},
		{`owner.foo()`, "methods"},
		{`foo()`, `function "foo"`},
		{`len(1) == 1`, `function "len" can't be used`},
		{`len(records, records) == 1`, "one argument"},
		{`lower(records) == ""`, `function "lower" can't be used`},
		{`true ? 1 : ""`, "one type"},
		{`99999999999999999999 == 1`, "integer literal"},
		{strings.Repeat("x", MaxExpression+1), "at most 1024 octets"},
		{strings.Repeat("true and ", 110) + "true", "true"},
		{strings.Repeat("1+", 200) + "1==1", "at most 256 parts"},
		{nested(500, "(", "true", ")"), "true"},
		{nested(500, "!", "true", ""), "at most 256 parts"},
		// The parser shares the middle of a chained comparison: depth must not multiply.
		{nested(50, "1<(", "1<1<1?1:2", ")<1?1:2"), "at most 256 parts"},
		{strings.Repeat("owner + ", 80) + `"" == ""`, "false"},
		{`"` + strings.Repeat("x", 900) + `" == ""`, "false"},
	}
	for _, test := range tests {
		got, err := evaluate(test.expression, subject(t))
		if err != nil {
			got = err.Error()
			if strings.Contains(got, "\n") {
				t.Errorf("%.60s: an error of many lines: %q", test.expression, got)
			}
		}
		if got != test.want && (err == nil || test.want == "true" || test.want == "false" || !strings.Contains(got, test.want)) {
			t.Errorf("%.60s: %s, want %s", test.expression, got, test.want)
		}
	}
}

func evaluate(expression string, s Subject) (string, error) {
	c, err := ParseCondition(expression)
	if err != nil {
		return "", err
	}
	holds, err := c.Holds(s)
	return fmt.Sprint(holds), err
}

// A string that grows ends the condition, not the node.
func TestConditionConcatenation(t *testing.T) {
	s := subject(t)
	s.Type = zones.TypeTXT
	s.RRset = rrset(t, `www.example. 300 TXT "`+strings.Repeat("x", 255)+`" "`+strings.Repeat("y", 255)+`"`)
	_, err := evaluate(strings.Repeat("records[0] + ", 17)+`"" == ""`, s)
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("error %v", err)
	}
}

func TestRecordText(t *testing.T) {
	tests := []struct{ record, want string }{
		{"a. 1 A 192.0.2.1", "192.0.2.1"},
		{"a. 1 AAAA 2001:DB8:0:0:0:0:0:1", "2001:db8::1"},
		{"a. 1 AAAA ::ffff:192.0.2.1", "::ffff:192.0.2.1"},
		{"a. 1 NS NS.example.", "ns.example."},
		{"a. 1 CNAME .", "."},
		{`a. 1 DNAME a\.b\009.example.`, `a\.b\009.example.`},
		{"a. 1 PTR b.", "b."},
		{"a. 1 MX 10 Mail.", "10 mail."},
		{"a. 1 SRV 1 2 65535 t.", "1 2 65535 t."},
		{"a. 1 SOA m. r. 4294967295 1 2 3 4", "m. r. 4294967295 1 2 3 4"},
		{`a. 1 TXT "v=spf1 " "-all"`, "v=spf1 -all"},
		{`a. 1 TXT "\"q\" \\ \009\200"`, `"q" \\ \009\200`},
		{`a. 1 CAA 0 issue "ca.example"`, `\# 17 0005697373756563612e6578616d706c65`},
		{`a. 1 TYPE65280 \# 0`, `\# 0 `},
	}
	for _, test := range tests {
		s := rrset(t, test.record)
		if got := recordText(s.Type, s.First()); got != test.want {
			t.Errorf("%s: %q, want %q", test.record, got, test.want)
		}
	}
}

// What the subset means is what expr-lang means: random expressions of the subset give what its own machine gives.
// Its optimizer is off: it drops operands that would have failed, and how much it drops is no part of the language.
func TestConditionsAgainstExprLang(t *testing.T) {
	s := subject(t)
	records := []string{"192.0.2.1", "192.0.2.2"}
	env := map[string]any{
		"exists": true, "owner": "www.example.", "type": "A", "ttl": 300, "count": 2, "records": records,
		"serial": 2026030400, "zone": "example.",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := generate(t, boolean, 4)
		if len(text) > MaxExpression {
			return
		}
		got, err := evaluate(text, s)
		if err != nil && strings.Contains(err.Error(), "at most 256 parts") {
			return
		}
		program, cerr := expr.Compile(text, expr.Env(env), expr.Optimize(false))
		if cerr != nil {
			t.Fatalf("%s: not in the language: %v", text, cerr)
		}
		want, rerr := expr.Run(program, env)
		if (err != nil) != (rerr != nil) || err == nil && got != fmt.Sprint(want) {
			t.Fatalf("%s: %s, %v; expr-lang: %v, %v", text, got, err, want, rerr)
		}
	})
}

// generate writes a random expression of the given type.
func generate(t *rapid.T, k kind, depth int) string {
	pick := func(choices ...string) string { return rapid.SampledFrom(choices).Draw(t, "choice") }
	sub := func(k kind) string { return generate(t, k, depth-1) }
	if depth == 0 {
		switch k {
		case boolean:
			return pick("true", "false", "exists")
		case integer:
			return pick("0", "1", "300", "ttl", "count", "serial")
		case text:
			return pick(`""`, `"A"`, `"192.0.2.1"`, "owner", "type", "zone", `"www."`, "records[0]", "records[-1]", "records[7]")
		default:
			return pick("records", "[]", `["A"]`, `["192.0.2.1", "192.0.2.2"]`)
		}
	}
	switch k {
	case boolean:
		switch rapid.IntRange(0, 7).Draw(t, "boolean") {
		case 0:
			return "(" + sub(boolean) + pick(" and ", " or ", " && ", " || ", " == ", " != ") + sub(boolean) + ")"
		case 1:
			return pick("not ", "!") + "(" + sub(boolean) + ")"
		case 2:
			return "(" + sub(integer) + pick("==", "!=", "<", "<=", ">", ">=") + sub(integer) + ")"
		case 3:
			return "(" + sub(text) + pick(" == ", " != ", " < ", " <= ", " > ", " >= ", " contains ", " startsWith ", " endsWith ", " not contains ") + sub(text) + ")"
		case 4:
			return "(" + sub(text) + pick(" in ", " not in ") + sub(list) + ")"
		case 5:
			return "(" + sub(list) + pick(" == ", " != ") + sub(list) + ")"
		case 6:
			return "(" + sub(boolean) + " ? " + sub(boolean) + " : " + sub(boolean) + ")"
		}
		return "(" + sub(integer) + " < " + sub(integer) + " <= " + sub(integer) + ")"
	case integer:
		switch rapid.IntRange(0, 3).Draw(t, "integer") {
		case 0:
			return "(" + sub(integer) + pick(" + ", " - ") + sub(integer) + ")"
		case 1:
			return "-(" + sub(integer) + ")"
		case 2:
			return "len(" + sub(text) + ")"
		}
		return "len(" + sub(list) + ")"
	case text:
		switch rapid.IntRange(0, 2).Draw(t, "text") {
		case 0:
			return "(" + sub(text) + " + " + sub(text) + ")"
		case 1:
			return pick("lower(", "upper(") + sub(text) + ")"
		}
		return "(" + sub(boolean) + " ? " + sub(text) + " : " + sub(text) + ")"
	}
	return "[" + sub(text) + ", " + sub(text) + "]"
}

// FuzzCondition holds that no expression, however odd, panics or takes long.
func FuzzCondition(f *testing.F) {
	for _, seed := range []string{
		`exists and "192.0.2.1" in records`, `all(records, # == "")`, `let x = 1; x`, `{"a": [1, 2..3]}.a?.b ?? nil`,
		`1 < (1 < 2 < 3 ? 1 : 2) < 3`, `if true {1} else {2}`, "`raw`", `b"bytes" == 'x'`, `#`, `x | y(1)`, `not not in`, `"\u00e9\x"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := subject(t)
		began := time.Now()
		c, err := ParseCondition(text)
		if err == nil {
			_, _ = c.Holds(s)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%q took %v", text, took)
		}
	})
}
