package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// none stands where a server can't do what is measured.
const none = "–"

// table is one of the report's.
type table struct {
	title string
	head  []string
	rows  [][]string
	notes []string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(t.notes, n) {
		t.notes = append(t.notes, n)
	}
}

// write prints the table as Markdown.
func (t *table) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", t.title)
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(t.head)
	line(slices.Repeat([]string{"---"}, len(t.head)))
	for _, r := range t.rows {
		line(r)
	}
	b.WriteByte('\n')
	for _, n := range t.notes {
		fmt.Fprintf(&b, "- %s\n", strings.ReplaceAll(strings.TrimSpace(n), "\n", "; "))
	}
	if len(t.notes) > 0 {
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// figures are what was measured of one thing in all rounds.
type figures []float64

// median returns the middle one, the mean of both in the middle when they are even; 0 of none.
func (f figures) median() float64 {
	if len(f) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(f))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// quantile returns the least figure that is not below so much of them; 0 of none.
func (f figures) quantile(q float64) float64 {
	if len(f) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(f))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// spread returns the least and the greatest, with as many decimals as asked.
func (f figures) spread(decimals int) string {
	if len(f) == 0 {
		return none
	}
	return fmt.Sprintf("%.*f – %.*f", decimals, slices.Min(f), decimals, slices.Max(f))
}

// micros returns microseconds with what digits they deserve.
func micros(v float64) string {
	if v < 100 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func inMicros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func megabytes(n int64) string { return fmt.Sprintf("%d", n>>20) }
