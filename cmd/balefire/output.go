package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// output is the -o flag: tables for people, JSON for scripts.
type output struct{ format string }

func (o *output) register(flags *pflag.FlagSet) {
	o.format = "table"
	flags.VarP((*outputFlag)(o), "output", "o", "table, or json for scripts")
}

func (o *output) json() bool { return o.format == "json" }

type outputFlag output

func (o *outputFlag) Set(s string) error {
	if s != "table" && s != "json" {
		return fmt.Errorf("%q: want table or json", s)
	}
	o.format = s
	return nil
}
func (o *outputFlag) String() string { return o.format }
func (o *outputFlag) Type() string   { return "format" }

func printJSON(cmd *cobra.Command, v any) error {
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table lines columns up. Call flush when all rows are in.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, head ...any) table {
	t := table{tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	t.row(head...)
	return t
}

func (t table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, c)
	}
	fmt.Fprintln(t.w)
}

func (t table) flush() error { return t.w.Flush() }
