package change

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"balefire/zones"
)

var rewrite = flag.Bool("rewrite", false, "rewrite what the scripts of testdata/changes expect")

// TestScripts runs testdata/changes. A script is blocks parted by empty lines: a change set, a line of dashes, and what
// comes of it. A change set is operations and preconditions in the order of their lines; records belong to the
// operation above them, and are indented. After each block the whole model is checked.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../../testdata/changes/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{t: t, model: newModel(name("example.")), now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
			var out []string
			for _, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				input, want, isBlock := strings.Cut(block+"\n", "----\n")
				if !isBlock { // a comment
					out = append(out, block)
					continue
				}
				got := s.run(input)
				if got != want && !*rewrite {
					t.Errorf("%s\n----\ngot:\n%s\nwant:\n%s", input, got, want)
				}
				out = append(out, strings.TrimSuffix(input+"----\n"+got, "\n"))
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(strings.Join(out, "\n\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type script struct {
	t     *testing.T
	model *model
	now   time.Time
	ids   byte
}

func (s *script) run(input string) string {
	s.ids++
	cs := &zones.ChangeSet{ID: zones.ChangeID{s.ids}, Zone: s.model.apex}
	var verb []string
	var records []string
	flush := func() {
		if verb != nil {
			s.verb(cs, verb, records)
		}
		verb, records = nil, nil
	}
	for line := range strings.Lines(input) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, " "):
			records = append(records, strings.TrimSpace(line))
		default:
			flush()
			verb = strings.Fields(line)
		}
	}
	flush()
	r, rej := s.model.apply(s.t, cs, s.now)
	if rej != nil {
		at := ""
		if rej.Owner != "" {
			at += " at " + rej.Owner.String()
		}
		if rej.Type != 0 {
			at += " " + rej.Type.String()
		}
		return fmt.Sprintf("rejected: %s%s (%d)\n", rej.Rule, at, rej.Op)
	}
	return s.describe(r)
}

func (s *script) describe(r Result) string {
	var b strings.Builder
	kinds := map[Kind]string{
		Unchanged: "unchanged", Patch: "patch", Replace: "replace", Delete: "delete", Chunk: "chunk", Switch: "switch",
		Abort: "abort", RaiseLevel: "level",
	}
	b.WriteString(kinds[r.Kind])
	switch r.Kind {
	case Patch, Replace, Switch, Unchanged:
		fmt.Fprintf(&b, ": serial %d, policy %s, %d RRsets, %d records", r.Zone.Serial, r.Zone.Settings.SerialPolicy, r.Zone.RRsets, r.Zone.Records)
		if r.Zone.Delegations > 0 {
			fmt.Fprintf(&b, ", %d delegations", r.Zone.Delegations)
		}
		if r.Zone.Signed {
			b.WriteString(", signed")
		}
		if r.Zone.Settings.Frozen {
			b.WriteString(", frozen")
		}
		b.WriteString(describeStanding(r.Zone))
	case Chunk:
		fmt.Fprintf(&b, ": next %d", r.Stage.Next)
	}
	if r.DropStage {
		b.WriteString(", stage dropped")
	}
	b.WriteString("\n")
	for _, c := range r.Delta.Changes {
		if !c.Before.IsZero() {
			for _, l := range lines(c.Before) {
				fmt.Fprintf(&b, "- %s\n", l)
			}
		}
		if !c.After.IsZero() {
			for _, l := range lines(c.After) {
				fmt.Fprintf(&b, "+ %s\n", l)
			}
		}
	}
	return b.String()
}

// describeStanding says how a secondary zone stands; "" for other zones.
func describeStanding(z Zone) string {
	text := ""
	if z.Settings.IsSecondary() {
		text = ", secondary"
	}
	if z.Standing.Awaiting {
		text += ", awaiting"
	}
	if z.Standing.Expired {
		text += ", expired"
	}
	if c := z.Standing.Confirmed; !c.IsZero() {
		text += ", confirmed " + c.Format(time.RFC3339)
	}
	return text
}

func (s *script) verb(cs *zones.ChangeSet, words, records []string) {
	t := s.t
	sets := rrsets(t, records...)
	arg := func(i int) string {
		if i >= len(words) {
			t.Fatalf("%q needs %d words", words, i)
		}
		return words[i]
	}
	typ := func(i int) zones.Type {
		ty, err := zones.ParseType(arg(i))
		if err != nil {
			t.Fatal(err)
		}
		return ty
	}
	num := func(i int) uint64 {
		n, err := strconv.ParseUint(arg(i), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// settings are a serial policy, "frozen", and the addresses of primaries.
	settings := func(i int) (z zones.ZoneSettings) {
		for _, word := range words[min(i, len(words)):] {
			if addr, err := netip.ParseAddrPort(word); err == nil {
				z.Primaries = append(z.Primaries, zones.Remote{Addr: addr})
				continue
			}
			if word == "frozen" {
				z.Frozen = true
				continue
			}
			p, err := zones.ParseSerialPolicy(word)
			if err != nil {
				t.Fatal(err)
			}
			z.SerialPolicy = p
		}
		return z
	}
	op := func(op zones.Op) { cs.Ops = append(cs.Ops, op) }
	cond := func(p zones.Precondition) { cs.Preconditions = append(cs.Preconditions, p) }
	switch words[0] {
	case "now":
		now, err := time.Parse(time.RFC3339, arg(1))
		if err != nil {
			t.Fatal(err)
		}
		s.now = now
	case "from":
		cs.Source = map[string]zones.Source{"primary": zones.SourcePrimary, "retransfer": zones.SourceRetransfer, "nobody": 99}[arg(1)]
	case "confirm", "expire": // with the time that the writer knows, if any
		o := zones.OpSetStanding{Expired: words[0] == "expire"}
		if len(words) > 1 {
			since, err := time.Parse(time.RFC3339, arg(1))
			if err != nil {
				t.Fatal(err)
			}
			o.Since = since
		}
		op(o)
	case "create":
		op(zones.OpCreateZone{Settings: settings(1), RRsets: sets})
	case "replace": // in canonical order, whatever the script's
		slices.SortFunc(sets, zones.CompareRRsets)
		op(zones.OpReplaceZone{Settings: settings(1), SetSettings: len(words) > 1, RRsets: sets})
	case "replace-as-is":
		op(zones.OpReplaceZone{Settings: settings(1), SetSettings: len(words) > 1, RRsets: sets})
	case "delete-zone":
		op(zones.OpDeleteZone{})
	case "settings":
		op(zones.OpSetSettings{Settings: settings(1)})
	case "put":
		for _, set := range sets {
			op(zones.OpPutRRset{RRset: set})
		}
	case "add":
		for _, set := range sets {
			op(zones.OpAddRecords{RRset: set})
		}
	case "delete":
		for _, set := range sets {
			op(zones.OpDeleteRecords{RRset: set})
		}
	case "delete-rrset":
		op(zones.OpDeleteRRset{Owner: name(arg(1)), Type: typ(2)})
	case "delete-name":
		op(zones.OpDeleteName{Owner: name(arg(1))})
	case "stage":
		op(zones.OpStageChunk{Stage: zones.ChangeID{byte(num(1))}, Index: uint32(num(2)), RRsets: sets})
	case "commit": // of what is staged, but for chunks and RRsets more than there are
		o := zones.OpStageCommit{Stage: zones.ChangeID{byte(num(1))}, Settings: settings(3), SetSettings: len(words) > 3}
		if st := s.model.stage; st != nil {
			z := st.Sequence.Zone()
			o.Chunks, o.RRsets, o.Digest = st.Next, z.RRsets, z.Digest
		}
		switch arg(2) {
		case "whole":
		case "chunks":
			o.Chunks++
		case "rrsets":
			o.RRsets++
		case "digest":
			o.Digest[3]++
		default:
			t.Fatalf("commit %s", arg(2))
		}
		op(o)
	case "abort":
		op(zones.OpStageAbort{Stage: zones.ChangeID{byte(num(1))}})
	case "raise":
		op(zones.OpRaiseFormatLevel{Level: uint32(num(1))})
	case "if-exists":
		cond(zones.IfRRsetExists{Owner: name(arg(1)), Type: typ(2)})
	case "if-absent":
		cond(zones.IfRRsetAbsent{Owner: name(arg(1)), Type: typ(2)})
	case "if-equals":
		for _, set := range sets {
			cond(zones.IfRRsetEquals{RRset: set})
		}
	case "if-in-use":
		cond(zones.IfNameInUse{Owner: name(arg(1))})
	case "if-not-in-use":
		cond(zones.IfNameNotInUse{Owner: name(arg(1))})
	case "if-serial":
		cond(zones.IfSerial{Serial: zones.Serial(num(1))})
	case "if-zone-absent":
		cond(zones.IfZoneAbsent{})
	case "if":
		cond(zones.IfExpression{Owner: name(arg(1)), Type: typ(2), Expression: strings.Join(words[3:], " ")})
	default:
		t.Fatalf("verb %q", words[0])
	}
}
