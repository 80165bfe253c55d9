package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

func newConfigCommand() *cobra.Command {
	return group("config", "Check and show what the server is told",
		newConfigCheckCommand(), newConfigShowCommand(), newConfigDocsCommand())
}

// reportMistakes prints one line for each.
func reportMistakes(w io.Writer, found []mistake) error {
	for _, m := range found {
		fmt.Fprintln(w, m.Error())
	}
	return errReported
}

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file, and name the place of each mistake",
		Long: `Check a configuration file. Each mistake is a line FILE:LINE:COLUMN: OPTION: what is wrong, and what would
be right. The environment and flags are not looked at. Exits with 1 when there is any.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := configFlags{file: args[0]}
			if _, found := flags.load(nil); len(found) > 0 {
				return reportMistakes(cmd.ErrOrStderr(), found)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: no mistakes\n", args[0])
			return nil
		},
	}
}

// hiddenValue stands for a secret that is set.
const hiddenValue = "(hidden)"

func newConfigShowCommand() *cobra.Command {
	var flags configFlags
	var out output
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the values that `serve` would use with the same flags, file and environment",
		Long: `Show the effective value of every option, and where it comes from. What is printed is a configuration
file, but for secrets, which are hidden.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, found := flags.load(os.Environ())
			if len(found) > 0 {
				return reportMistakes(cmd.ErrOrStderr(), found)
			}
			for _, name := range l.strange {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: no option has this name; it is ignored\n", name)
			}
			if out.json() {
				return printJSON(cmd, l.rows())
			}
			return l.print(cmd.OutOrStdout())
		},
	}
	flags.register(cmd.Flags())
	out.register(cmd.Flags())
	return cmd
}

// row is one option as `config show -o json` prints it.
type row struct {
	Option string `json:"option"`
	Value  string `json:"value"`
	From   string `json:"from"`
}

func (l *loaded) rows() []row {
	var rows []row
	for _, o := range l.options() {
		rows = append(rows, row{o.key, o.shown(), l.from[o.key]})
	}
	return rows
}

func (o option) shown() string {
	s := o.value.String()
	if o.secret && s != "" {
		return hiddenValue
	}
	return s
}

// print writes the Config as YAML, with comments that say where values came from.
func (l *loaded) print(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	sections := map[string]*yaml.Node{"": root}
	for _, o := range l.options() {
		at, path := root, ""
		parts := strings.Split(o.key, ".")
		for _, part := range parts[:len(parts)-1] {
			path += "." + part
			next := sections[path]
			if next == nil {
				next = &yaml.Node{Kind: yaml.MappingNode}
				sections[path] = next
				at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: part}, next)
			}
			at = next
		}
		value := &yaml.Node{LineComment: l.from[o.key]}
		if list, ok := o.value.(listValue); ok {
			value.Kind, value.Style = yaml.SequenceNode, yaml.FlowStyle
			for _, item := range *list.p {
				value.Content = append(value.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: item, Style: yaml.DoubleQuotedStyle})
			}
		} else {
			value.Kind, value.Value = yaml.ScalarNode, o.shown()
			switch o.value.(type) {
			case numberValue, boolValue:
			default:
				if needsQuotes(value.Value) {
					value.Style = yaml.DoubleQuotedStyle
				}
			}
		}
		at.Content = append(at.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: parts[len(parts)-1]}, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(root), enc.Close())
}

// needsQuotes reports whether YAML would read a plain scalar as something other than this text.
func needsQuotes(s string) bool {
	var back any
	if err := yaml.Unmarshal([]byte(s), &back); err != nil {
		return true
	}
	text, ok := back.(string)
	return !ok || text != s
}

func newConfigDocsCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "docs",
		Short:  "Print a Markdown table of every option",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := cmd.OutOrStdout()
			fmt.Fprintln(w, "| in the file | on the command line | in the environment | default | what it is |")
			fmt.Fprintln(w, "| --- | --- | --- | --- | --- |")
			for _, o := range defaultConfig().options() {
				flag := "`--" + o.flag() + "`"
				if o.secret {
					flag = "–"
				}
				preset := o.value.String()
				switch {
				case o.key == "node-id":
					preset = "the host's name"
				case preset == "":
					preset = "–"
				default:
					preset = "`" + preset + "`"
				}
				fmt.Fprintf(w, "| `%s` | %s | `%s` | %s | %s |\n", o.key, flag, o.env(), preset, o.doc)
			}
			return nil
		},
	}
}
