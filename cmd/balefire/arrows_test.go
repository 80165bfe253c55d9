package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rooms of the house, from the one that knows most to the one that knows least. A room may import
// those to its right, and never those to its left; admin and dnsserver stand side by side.
var rooms = []string{"cmd", "admin", "dnsserver", "replication", "store", "zones"}

// forbidden are the edges between rooms, each with its why. A room's name stands for all packages in it.
var forbidden = []struct{ from, to, why string }{
	{"zones", "store", "zones is DNS as values: it can be tested with a table, without a disk"},
	{"zones", "replication", "zones is DNS as values: what a valid zone is does not depend on who says so"},
	{"zones", "dnsserver", "the answer algorithm knows nothing of wire messages"},
	{"zones", "admin", "zones knows no HTTP"},
	{"zones", "cmd", "nobody imports a command"},
	{"store", "replication", "a store can be replayed without a log: it knows offsets, not Kafka; streams, not object storage"},
	{"store", "dnsserver", "progress is returned, never called back"},
	{"store", "admin", "progress is returned, never called back"},
	{"store", "cmd", "nobody imports a command"},
	{"replication", "dnsserver", "the log does not know who listens to it"},
	{"replication", "admin", "the log does not know who writes to it"},
	{"replication", "cmd", "nobody imports a command"},
	{"dnsserver", "admin", "DNS must answer when there is no HTTP"},
	{"dnsserver", "cmd", "nobody imports a command"},
	{"admin", "dnsserver", "HTTP and DNS are two doors to one house, each of which can be walled up"},
	{"admin", "cmd", "nobody imports a command"},
}

// leafEdges are the imports between the leaves of one room that are allowed.
var leafEdges = map[[2]string]string{
	{"zones/change", "zones/dnssec"}:                  "applying a change signs",
	{"replication/backup", "replication/objectstore"}: "a backup is a set of objects",
	{"cmd/balefire-bench", "cmd/balefire-bench/load"}: "the benchmark composes its load",
}

// rootIsVocabulary are the rooms whose leaves import the root; elsewhere the root composes its leaves.
var rootIsVocabulary = map[string]bool{"zones": true}

// testRooms hold helpers for tests, and may import what they test.
var testRooms = []string{"store/storetest", "replication/kafkatest", "replication/porttest", "replication/s3test"}

// mayImportMiekg are the places that know miekg/dns: v1 is frozen, so that moving away from it must be the
// work of a few files. The benchmark is a client, as tests are.
var mayImportMiekg = regexp.MustCompile(`^(cmd/balefire-bench/|zones/zonefile/|zones/dnssec/|dnsserver/(slowlane|transfer|update|notify|tsig)[a-z_]*\.go$)`)

// source is one Go file of the module.
type source struct {
	path    string // slashes, relative to the module
	pkg     string // the folder
	test    bool
	file    *ast.File
	imports []string
}

func moduleSources(t *testing.T) []source {
	t.Helper()
	root := "../.."
	fset := token.NewFileSet()
	var sources []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "balefire-data" || rel == "bin") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(rel, "_test.go"), file: f}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
		}
		sources = append(sources, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 50 {
		t.Fatalf("found only %d Go files: is %s still the module?", len(sources), root)
	}
	return sources
}

func roomOf(pkg string) string {
	for _, r := range rooms {
		if pkg == r || strings.HasPrefix(pkg, r+"/") {
			return r
		}
	}
	return ""
}

// TestImportsPointOneWay also looks at tests, which may use miekg/dns anywhere, but no room to the left.
func TestImportsPointOneWay(t *testing.T) {
	for _, s := range moduleSources(t) {
		from := roomOf(s.pkg)
		for _, imported := range s.imports {
			pkg, ours := strings.CutPrefix(imported, "balefire/")
			if !ours {
				continue
			}
			to := roomOf(pkg)
			for _, edge := range forbidden {
				if edge.from == from && edge.to == to {
					t.Errorf("%s imports %s: %s", s.path, imported, edge.why)
				}
			}
			if from == "" || from != to || pkg == s.pkg || s.test || slices.Contains(testRooms, s.pkg) {
				continue
			}
			switch {
			case pkg == from && !rootIsVocabulary[from]:
				t.Errorf("%s imports %s: a leaf knows nothing of its root, which composes it", s.path, imported)
			case s.pkg == from && rootIsVocabulary[from]:
				t.Errorf("%s imports %s: the root is the vocabulary, and the leaves import it", s.path, imported)
			case pkg != from && s.pkg != from:
				if _, ok := leafEdges[[2]string{s.pkg, pkg}]; !ok {
					t.Errorf("%s imports %s: leaves of one room do not know each other", s.path, imported)
				}
			}
		}
	}
}

// TestForbiddenEdgesAreWhole fails when a room is added without saying what it must not know.
func TestForbiddenEdgesAreWhole(t *testing.T) {
	has := func(from, to string) bool {
		return slices.ContainsFunc(forbidden, func(e struct{ from, to, why string }) bool {
			return e.from == from && e.to == to && e.why != ""
		})
	}
	for i, left := range rooms {
		for _, right := range rooms[i+1:] {
			if !has(right, left) {
				t.Errorf("nothing forbids %s to import %s", right, left)
			}
		}
	}
	if !has("admin", "dnsserver") {
		t.Error("nothing forbids admin to import dnsserver")
	}
}

func TestMiekgStaysInItsRooms(t *testing.T) {
	for _, s := range moduleSources(t) {
		if s.test || mayImportMiekg.MatchString(s.path) || slices.Contains(testRooms, s.pkg) || strings.HasPrefix(s.path, "testdata/") {
			continue
		}
		for _, imported := range s.imports {
			if strings.HasPrefix(imported, "github.com/miekg/dns") {
				t.Errorf("%s imports %s: only zones/zonefile, zones/dnssec and dnsserver's slow files may", s.path, imported)
			}
		}
	}
}

// TestMiekgIsInNoSignature looks at exported functions, methods, fields and types of the packages that use it.
func TestMiekgIsInNoSignature(t *testing.T) {
	for _, s := range moduleSources(t) {
		if s.test || !slices.Contains(s.imports, "github.com/miekg/dns") {
			continue
		}
		check := func(what string, n ast.Node) {
			ast.Inspect(n, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && x.Name == "dns" {
						t.Errorf("%s: the exported %s shows dns.%s", s.path, what, sel.Sel.Name)
					}
				}
				return true
			})
		}
		for _, decl := range s.file.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && (d.Recv == nil || receiverIsExported(d.Recv)) {
					check(d.Name.Name, d.Type)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.IsExported() {
						checkType(ts, check)
					}
				}
			}
		}
	}
}

func receiverIsExported(recv *ast.FieldList) bool {
	exported := false
	ast.Inspect(recv, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.IsExported() {
			exported = true
		}
		return true
	})
	return exported
}

// checkType looks at a type, without the fields of structs that nobody else can see.
func checkType(ts *ast.TypeSpec, check func(string, ast.Node)) {
	st, ok := ts.Type.(*ast.StructType)
	if !ok {
		check(ts.Name.Name, ts.Type)
		return
	}
	for _, field := range st.Fields.List {
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
			check(ts.Name.Name, field.Type)
		}
	}
}

func TestOnePackageDocEach(t *testing.T) {
	docs := map[string][]string{}
	for _, s := range moduleSources(t) {
		if s.test {
			continue
		}
		if docs[s.pkg] == nil {
			docs[s.pkg] = []string{}
		}
		if s.file.Doc != nil {
			docs[s.pkg] = append(docs[s.pkg], s.path)
		}
	}
	for pkg, files := range docs {
		if len(files) != 1 {
			t.Errorf("%s has %d package docs, want one: %v", pkg, len(files), files)
		}
	}
}

var roomWithoutIdea = regexp.MustCompile(`(^|/)(utils?|common|helpers?|misc)(/|\.go$|_)`)

func TestEveryRoomHasAnIdea(t *testing.T) {
	for _, s := range moduleSources(t) {
		if roomWithoutIdea.MatchString(s.path) {
			t.Errorf("%s: name it after its idea", s.path)
		}
	}
}

var mayExit = regexp.MustCompile(`^cmd/[a-z-]+/main\.go$`)

// TestOnlyMainExits: anywhere else, an exit would skip what others deferred. Tests' own processes, which are
// started to be killed, may.
func TestOnlyMainExits(t *testing.T) {
	for _, s := range moduleSources(t) {
		if s.test || mayExit.MatchString(s.path) || strings.HasPrefix(s.path, "testdata/") {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			if call := x.Name + "." + sel.Sel.Name; call == "os.Exit" || call == "syscall.Exit" || call == "log.Fatal" || call == "log.Fatalf" || call == "log.Fatalln" {
				t.Errorf("%s calls %s: return an error", s.path, call)
			}
			return true
		})
	}
}
