package answer_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"balefire/zones"
	"balefire/zones/answer"
	"balefire/zones/zonefile"
	"balefire/zones/zonestest"
)

const scripts = "../../testdata/answers"

var rewrite = flag.Bool("rewrite", false, "write what is answered into the scripts, to be read before it is committed")

// rowTitle is the comment that says which rows of ANSWERS.md a query is about.
var rowTitle = regexp.MustCompile(`^# Row (\d+): (.+)$`)

// TestScripts runs the scripts of testdata/answers: a zone, queries, and after "----" what is answered.
func TestScripts(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(scripts, "*.txt"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts in %s: %v", scripts, err)
	}
	cited := map[int]bool{}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { runScript(t, path, cited) })
	}
	if t.Failed() {
		return
	}
	for _, rows := range [][2]int{{3, 21}, {23, 32}, {34, 37}, {65, 65}, {70, 70}, {73, 80}} {
		for row := rows[0]; row <= rows[1]; row++ {
			if !cited[row] {
				t.Errorf("no query is about row %d of ANSWERS.md", row)
			}
		}
	}
}

// runScript runs one script. Its blocks are parted by blank lines; a block's last comment names the test.
func runScript(t *testing.T, path string, cited map[int]bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var view *zonestest.View
	var a answer.Answer // one for all, as servers do
	blocks := strings.Split(strings.TrimRight(string(text), "\n"), "\n\n")
	for i, block := range blocks {
		var title string
		lines := strings.Split(block, "\n")
		for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
			title, lines = lines[0], lines[1:]
		}
		if len(lines) == 0 {
			continue
		}
		split := slices.Index(lines, "----")
		if split < 0 {
			t.Fatalf("%s: block %q has no ----", path, lines[0])
		}
		head, want := lines[:split], strings.Join(lines[split+1:], "\n")
		words := strings.Fields(head[0])
		switch words[0] {
		case "zone":
			view = scriptZone(t, words[1], strings.Join(head[1:], "\n")+"\n")
		case "file":
			data, err := os.ReadFile(filepath.Join(scripts, words[2]))
			if err != nil {
				t.Fatal(err)
			}
			view = scriptZone(t, words[1], string(data))
		case "query":
			m := rowTitle.FindStringSubmatch(title)
			if m == nil {
				t.Fatalf("%s: %q names no row", path, head[0])
			}
			row, _ := strconv.Atoi(m[1])
			cited[row] = true
			t.Run("row "+m[1]+" "+m[2], func(t *testing.T) {
				q := scriptQuestion(t, words)
				got := ""
				if err := answer.Resolve(view, q, &a); err != nil {
					got = "error: " + err.Error()
				} else {
					got = formatAnswer(view, q, &a)
				}
				if *rewrite {
					blocks[i] = strings.TrimSuffix(block, "\n"+want) + strings.TrimRight("\n"+got, "\n")
				} else if got != want {
					t.Errorf("%s\ngot:\n%s\nwant:\n%s", strings.Join(words, " "), got, want)
				}
			})
		default:
			t.Fatalf("%s: unknown command %q", path, words[0])
		}
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(strings.Join(blocks, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func scriptZone(t *testing.T, apex, text string) *zonestest.View {
	t.Helper()
	origin := zones.MustParseName(apex)
	c, err := zonefile.Read(strings.NewReader(text), zonefile.Options{Origin: origin})
	if err != nil {
		t.Fatal(err)
	}
	return zonestest.NewView(origin, c.RRsets)
}

func scriptQuestion(t *testing.T, words []string) answer.Question {
	t.Helper()
	name, err := zones.ParseName(words[1])
	if err != nil {
		t.Fatal(err)
	}
	qtype, err := zones.ParseType(words[2])
	if err != nil {
		t.Fatal(err)
	}
	return answer.Question{Name: name, Type: qtype, DNSSEC: len(words) > 3 && words[3] == "do"}
}

// formatAnswer writes an answer as the scripts have it: a line for the header, and one for each RR.
// Signatures are shown by the type that they cover.
func formatAnswer(view *zonestest.View, q answer.Question, a *answer.Answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", a.RCode)
	if a.Authoritative {
		b.WriteString(" aa")
	}
	fmt.Fprintf(&b, " %s at %s", a.Kind, a.Encloser)
	if a.ExtendedError != answer.NoExtendedError {
		fmt.Fprintf(&b, " ede %d", a.ExtendedError)
	}
	for _, e := range a.Entries {
		section := e.Section.String()
		if e.Optional {
			section = "(" + section + ")"
		}
		for rdata := range e.RRset.RDatas() {
			text := zonefile.FormatRData(e.RRset.Type, rdata)
			owner := e.RRset.Owner.String()
			switch e.RRset.Type {
			case zones.TypeRRSIG:
				text = e.RRset.Covered.String()
			case zones.TypeNSEC3:
				owner, text = "hash", describeNSEC3(view, q, a, e.RRset)
			case zones.TypeDNSKEY:
				text = "key"
			}
			fmt.Fprintf(&b, "\n%-12s %s %d %s %s", section, owner, e.RRset.TTL, e.RRset.Type, text)
		}
		if !e.Signatures.IsZero() {
			if e.Signatures.Owner != e.RRset.Owner || e.Signatures.Covered != e.RRset.Type {
				fmt.Fprintf(&b, "\nSTRAY SIGNATURES %s %s", e.Signatures.Owner, e.Signatures.Key)
			}
			for rdata := range e.Signatures.RDatas() {
				fmt.Fprintf(&b, "\n%-12s  + signature %d of %d labels", "", e.Signatures.TTL, rdata[3])
			}
		}
	}
	return b.String()
}

// describeNSEC3 says which of the names that a proof may be about the NSEC3 matches or covers, as
// miekg/dns sees it: the question's and the alias targets' names, their ancestors, and the wildcards there.
func describeNSEC3(view *zonestest.View, q answer.Question, a *answer.Answer, set zones.RRset) string {
	rr := asRR(set)
	apex := view.Apex().Owner
	var matches, covers []string
	about := []zones.Name{q.Name}
	for _, e := range a.Section(answer.SectionAnswer) {
		about = append(about, e.RRset.Owner)
		if target, ok := zones.Target(e.RRset.Type, e.RRset.First()); ok && e.RRset.Type == zones.TypeCNAME {
			about = append(about, target)
		}
	}
	for _, e := range a.Section(answer.SectionAuthority) {
		if e.RRset.Type == zones.TypeNS {
			about = append(about, e.RRset.Owner)
		}
	}
	for _, name := range about {
		for ; name.IsAtOrBelow(apex); name = name.Parent() {
			wildcard, _ := name.Child("*")
			for _, n := range []string{name.String(), wildcard.String()} {
				if rr.Match(n) && !slices.Contains(matches, n) {
					matches = append(matches, n)
				}
				if rr.Cover(n) && !rr.Match(n) && !slices.Contains(covers, n) {
					covers = append(covers, n)
				}
			}
			if name == apex {
				break
			}
		}
	}
	slices.Sort(matches)
	slices.Sort(covers)
	var parts []string
	if len(matches) > 0 {
		parts = append(parts, "matches "+strings.Join(matches, " ")+" with"+typesOf(rr))
	}
	if len(covers) > 0 {
		parts = append(parts, "covers "+strings.Join(covers, " "))
	}
	if rr.Flags&1 != 0 {
		parts = append(parts, "opt-out")
	}
	return strings.Join(parts, ", ")
}
