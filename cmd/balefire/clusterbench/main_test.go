//go:build clusterbench && kafka && s3

package clusterbench

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

var program string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "balefire-clusterbench-")
	if err == nil {
		defer os.RemoveAll(dir)
		program, err = balefiretest.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Printf("%d processors, %s, %s; tasks that wanted one of them in the last minute: %s\n",
		runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly), waiting())
	return m.Run()
}

// waiting is the load average: with more than a few, figures are of the machine's other work.
func waiting() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(load), " ")
	return first
}

// durations are measured times.
type durations []time.Duration

// at returns a quantile, which is 0 when nothing was measured.
func (d durations) at(quantile float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(d))
	return sorted[min(len(d)-1, int(quantile*float64(len(d))))]
}

// spread is the median, two quantiles and the number, as cells of a row.
func (d durations) spread() []string {
	return []string{short(d.at(0.5)), short(d.at(0.9)), short(d.at(0.99)), fmt.Sprint(len(d))}
}

// short is a time with three digits.
func short(d time.Duration) string {
	unit := time.Microsecond
	for d >= 1000*unit && unit < time.Second {
		unit *= 1000
	}
	return d.Round(max(unit/100, time.Microsecond)).String()
}

// heading begins a table.
func heading(title string, columns ...string) {
	fmt.Printf("\n### %s\n\n", title)
	row(columns...)
	row(slices.Repeat([]string{"---"}, len(columns))...)
}

func row(cells ...string) { fmt.Printf("| %s |\n", strings.Join(cells, " | ")) }
