package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// envOf is an option's name in the environment.
func (o option) env() string {
	return "BALEFIRE_" + strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(o.key))
}

// flag is an option's name on the command line, without dashes.
func (o option) flag() string { return strings.ReplaceAll(o.key, ".", "-") }

// loaded is a Config with where each value came from.
type loaded struct {
	*Config
	from map[string]string // by key: "default", "FILE:LINE:COLUMN", "BALEFIRE_…", "--flag"
	// strange are variables BALEFIRE_… that are no options. They are no mistakes, since orchestrators set
	// such variables for services of that name.
	strange []string
}

// configFlags collects what the command line says about options, for applying over file and environment.
type configFlags struct {
	file  string
	texts map[string][]string // by key
}

// register adds a flag for every option that isn't a secret, and --config.
func (f *configFlags) register(flags *pflag.FlagSet) {
	f.texts = map[string][]string{}
	flags.StringVar(&f.file, "config", "", "YAML file with options (BALEFIRE_CONFIG)")
	for _, o := range defaultConfig().options() {
		if o.secret {
			continue
		}
		added := flags.VarPF(&optionFlag{f, o}, o.flag(), "", o.doc)
		if _, ok := o.value.(boolValue); ok {
			added.NoOptDefVal = "true"
		}
	}
}

// optionFlag checks what it is given at once, so that it is a mistake in usage, and keeps it.
type optionFlag struct {
	into *configFlags
	o    option
}

func (v *optionFlag) Set(text string) error {
	if err := v.o.value.Set(text); err != nil {
		return err
	}
	if _, list := v.o.value.(listValue); !list {
		v.into.texts[v.o.key] = nil // the last one counts
	}
	v.into.texts[v.o.key] = append(v.into.texts[v.o.key], text)
	return nil
}
func (v *optionFlag) String() string { return v.o.value.String() }
func (v *optionFlag) Type() string   { return v.o.value.Type() }

// load puts the file, the environment and the command line together. It returns every mistake that it finds;
// with any, the Config must not be used.
func (f *configFlags) load(environ []string) (*loaded, []mistake) {
	l := &loaded{Config: defaultConfig(), from: map[string]string{}}
	table := l.options()
	for _, o := range table {
		l.from[o.key] = "default"
	}
	var found []mistake

	env := map[string]string{}
	for _, pair := range environ {
		if k, v, ok := strings.Cut(pair, "="); ok && strings.HasPrefix(k, "BALEFIRE_") {
			env[k] = v
		}
	}
	file := f.file
	if file == "" {
		file = env["BALEFIRE_CONFIG"]
	}
	if file != "" {
		found = append(found, l.readFile(file)...)
	}

	// What the command line and its clients understand without being the server's options.
	for _, known := range []string{"BALEFIRE_CONFIG", "BALEFIRE_SERVER", "BALEFIRE_TOKEN_FILE"} {
		delete(env, known)
	}
	for _, o := range table {
		if v, ok := env[o.env()]; ok {
			l.from[o.key] = o.env()
			if err := o.value.Set(v); err != nil {
				found = append(found, o.mistake(o.env(), err))
			}
			delete(env, o.env())
		}
		if texts := f.texts[o.key]; len(texts) > 0 {
			l.from[o.key] = "--" + o.flag()
			if err := o.value.Set(strings.Join(texts, ",")); err != nil {
				found = append(found, o.mistake("--"+o.flag(), err))
			}
		}
	}
	for k := range env {
		l.strange = append(l.strange, k)
	}
	sort.Strings(l.strange)

	// Only when each value is right by itself does it make sense to compare them.
	if len(found) == 0 {
		for _, m := range l.Validate() {
			if from := l.from[m.key]; from != "default" {
				m.where = from
			}
			found = append(found, m)
		}
	}
	return l, found
}

// mistake hides what a secret was set to.
func (o option) mistake(where string, err error) mistake {
	if o.secret {
		err = errors.New("is not acceptable")
	}
	return mistake{where, o.key, err.Error()}
}

// readFile applies a file, and returns all its mistakes.
func (l *loaded) readFile(file string) []mistake {
	content, err := os.ReadFile(file)
	if err != nil {
		return []mistake{{what: err.Error()}}
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(content))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil // an empty file says nothing, and nothing wrong
	case err != nil:
		return []mistake{syntaxMistake(file, err)}
	}
	r := fileReader{file: file, into: l, byKey: map[string]option{}}
	for _, o := range l.options() {
		r.byKey[o.key] = o
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		r.add(&second, "", "a second document: want one")
	} else if !errors.Is(err, io.EOF) {
		r.found = append(r.found, syntaxMistake(file, err))
	}
	r.section("", doc.Content[0])
	return r.found
}

// syntaxMistake turns "yaml: line 3: …" into a place; the library knows no column.
func syntaxMistake(file string, err error) mistake {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
		file = fmt.Sprintf("%s:%d:1", file, line)
	}
	return mistake{where: file, what: "not YAML: " + text}
}

// fileReader walks a YAML document along the table of options.
type fileReader struct {
	file  string
	into  *loaded
	byKey map[string]option
	found []mistake
}

func (r *fileReader) place(n *yaml.Node) string {
	return fmt.Sprintf("%s:%d:%d", r.file, n.Line, n.Column)
}

func (r *fileReader) add(n *yaml.Node, key, format string, args ...any) {
	r.found = append(r.found, mistake{r.place(n), key, fmt.Sprintf(format, args...)})
}

// section reads the mapping of a key ("" is the whole file).
func (r *fileReader) section(key string, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		r.add(n, key, "an alias: write the value here, so that it has a place of its own")
		return
	}
	if isNull(n) {
		return // "dns:" with all its options commented out
	}
	if n.Kind != yaml.MappingNode {
		r.add(n, key, "is %s: want a section with %s", kindOf(n), strings.Join(r.below(key), ", "))
		return
	}
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		full := k.Value
		if key != "" {
			full = key + "." + k.Value
		}
		if first, twice := seen[k.Value]; twice {
			r.add(k, full, "is there twice, first in line %d", first.Line)
			continue
		}
		seen[k.Value] = k
		switch o, known := r.byKey[full]; {
		case known:
			r.option(o, v)
		case len(r.below(full)) > 0:
			r.section(full, v)
		default:
			r.add(k, full, "unknown: want one of %s", strings.Join(r.below(key), ", "))
		}
	}
}

// option reads the value of an option.
func (r *fileReader) option(o option, n *yaml.Node) {
	list, isList := o.value.(listValue)
	var value string
	switch {
	case n.Kind == yaml.AliasNode:
		r.add(n, o.key, "an alias: write the value here, so that it has a place of its own")
		return
	case isNull(n):
		r.add(n, o.key, "has no value: want %s, or leave the line out", o.value.Type())
		return
	case n.Kind == yaml.SequenceNode && isList:
		var items []string
		bad := false
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				r.add(item, o.key, "is %s: want %s", kindOf(item), list.of)
				bad = true
			} else if err := list.check(item.Value); err != nil {
				r.found = append(r.found, o.mistake(r.place(item), err))
				bad = true
			}
			items = append(items, item.Value)
		}
		if bad {
			return
		}
		value = strings.Join(items, ",")
	case n.Kind == yaml.ScalarNode:
		value = n.Value
	default:
		r.add(n, o.key, "is %s: want %s", kindOf(n), o.value.Type())
		return
	}
	if err := o.value.Set(value); err != nil {
		r.found = append(r.found, o.mistake(r.place(n), err))
		return
	}
	r.into.from[o.key] = r.place(n)
}

// below lists the names of what may stand in a section, in order.
func (r *fileReader) below(section string) []string {
	prefix := section
	if prefix != "" {
		prefix += "."
	}
	var names []string
	for key := range r.byKey {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			names = append(names, first)
		}
	}
	sort.Strings(names)
	return slices.Compact(names)
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	return "a single value"
}
