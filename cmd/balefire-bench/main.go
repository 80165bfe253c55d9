// Command balefire-bench measures Balefire by itself, and beside other authoritative servers on this machine in one run: the same
// zones, the same load, the servers visited in turn in short slices, in changing order. Only ratios within a run mean anything.
//
// It prints Markdown on standard output, and how far it is on standard error. Servers run pinned to one processor, the load to another.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"balefire/cmd/balefire-bench/load"
)

// settings are what the flags say.
type settings struct {
	parts         string
	servers       string
	parent        string
	names         int
	zones         int
	large         int
	imported      string
	registryNames int
	transferred   int
	hot           string
	idle          int
	clients       int
	changes       int
	rounds        int
	slice         time.Duration
	patience      time.Duration
}

// parts are what can be measured, in this order. One function may do two, which share their servers.
var parts = []struct {
	names []string
	run   func(*bench, context.Context) error
}{
	{[]string{"own"}, (*bench).own},
	{[]string{"cold"}, (*bench).cold},
	{[]string{"apply"}, (*bench).apply},
	{[]string{"udp", "tcp", "tls"}, (*bench).answers},
	{[]string{"cores"}, (*bench).cores},
	{[]string{"zones"}, (*bench).fleet},
	{[]string{"writes"}, (*bench).writes},
	{[]string{"updates"}, (*bench).updates},
	{[]string{"large"}, (*bench).registry},
	{[]string{"transfers"}, (*bench).transfers},
	{[]string{"gc"}, (*bench).collection},
}

func main() {
	var s settings
	var echo string
	flag.StringVar(&program, "balefire", program, "the program to measure")
	flag.StringVar(&s.parts, "parts", "udp|tcp|tls|cores|zones|writes|updates|large|transfers", "what to measure: udp, tcp, tls, cores, zones, writes, updates, large, transfers, and of Balefire alone own, apply, gc, and cold, for more zones than fit into memory")
	flag.StringVar(&s.servers, "servers", "", "only servers whose names begin with one of these, as in NSD|Knot; Balefire and the floor always")
	flag.StringVar(&s.parent, "dir", "", "directory for zones and servers, removed afterwards (default: one for temporary files)")
	flag.IntVar(&s.names, "names", 100_000, "names in the large zone")
	flag.IntVar(&s.zones, "zones", 100_000, "zones in the fleet")
	flag.IntVar(&s.large, "large", 1_000_000, "own: names in the zone that is imported; 0 leaves that out")
	flag.StringVar(&s.imported, "imported", "", "zones, cold, gc: a data directory of Balefire's that has the fleet already, which is used as it is")
	flag.IntVar(&s.registryNames, "delegations", 2_000_000, "large: delegations in the zone")
	flag.IntVar(&s.transferred, "transferred", 1_000_000, "transfers: names in the zone")
	flag.StringVar(&s.hot, "hot", "", "zones, large, gc: Balefire's memory for zones (default: as it is shipped; large and gc: "+hotBudget+")")
	flag.IntVar(&s.idle, "idle", 10_000, "idle TCP or TLS connections beside those that ask")
	flag.IntVar(&s.clients, "clients", 64, "clients that change zones at once")
	flag.IntVar(&s.changes, "changes", 400_000, "apply: changes that a node finds in its log")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds of slices")
	flag.DurationVar(&s.slice, "slice", 1500*time.Millisecond, "length of a slice")
	flag.DurationVar(&s.patience, "patience", 10*time.Minute, "how long a server may take to start")
	flag.StringVar(&echo, "echo", "", "be the floor: send everything that comes to this address back (used by the program itself)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := run(ctx, s, echo)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "balefire-bench:", err)
		os.Exit(1)
	}
}

// bench is a run of the benchmark.
type bench struct {
	settings
	wanted               []string
	dir                  string
	serverCPU, clientCPU int
}

func (b *bench) wants(part string) bool { return slices.Contains(b.wanted, part) }

func run(ctx context.Context, s settings, echo string) error {
	if echo != "" {
		addr, err := netip.ParseAddrPort(echo)
		if err != nil {
			return fmt.Errorf("-echo: %w", err)
		}
		return load.Echo(addr)
	}
	b := &bench{settings: s, wanted: strings.Split(s.parts, "|"), serverCPU: 0, clientCPU: 1}
	var known []string
	for _, p := range parts {
		known = append(known, p.names...)
	}
	for _, w := range b.wanted {
		if !slices.Contains(known, w) {
			return fmt.Errorf("-parts: there is no %q, but %s", w, strings.Join(known, ", "))
		}
	}
	if runtime.NumCPU() < 2 {
		b.serverCPU, b.clientCPU = -1, -1
	}
	var err error
	if program, err = filepath.Abs(program); err != nil {
		return err
	}
	if s.imported != "" {
		if b.imported, err = filepath.Abs(s.imported); err != nil {
			return err
		}
	}
	if err := allowFiles(b.idle + 2000); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(s.parent, "balefire-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	fmt.Printf("%s, on %s.\n`balefire-bench %s`\n\n", time.Now().UTC().Format("2006-01-02 15:04"), machine(), strings.Join(os.Args[1:], " "))
	if b.serverCPU >= 0 && slices.ContainsFunc([]string{"udp", "tcp", "tls", "zones", "large", "transfers", "gc", "cold"}, b.wants) {
		fmt.Printf("Servers that answer are pinned to processor %d, the load to processor %d.\n\n", b.serverCPU, b.clientCPU)
	}
	for _, p := range parts {
		if !slices.ContainsFunc(p.names, b.wants) {
			continue
		}
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(p.names, "|"), err)
		}
	}
	return nil
}

// progress says on standard error what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// allowFiles raises the number of files that this process, and each server that it starts, may have open.
func allowFiles(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("ask how many files may be open: %w", err)
	}
	want := unix.Rlimit{Cur: max(limit.Cur, uint64(n)), Max: max(limit.Max, uint64(n))}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &want); err != nil {
		return fmt.Errorf("for %d open files (ulimit -n, or a smaller -idle): %w", n, err)
	}
	return nil
}
