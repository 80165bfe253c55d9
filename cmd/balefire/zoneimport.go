package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// importWorkers is how many zones are sent at once: enough to keep the log's batches full.
const importWorkers = 8

func newZoneImportCommand(conn *connection) *cobra.Command {
	var how importOptions
	cmd := &cobra.Command{
		Use:   "import PATH…",
		Short: "Import zone files: create zones, or replace what is in them",
		Long: `Import zone files, or all files named *.zone in directories. A zone's name is that of its SOA record; what is
written relative to it takes --origin, $ORIGIN, or else the file's name (<apex>.zone). "-" is standard input.

Every file is read and checked here before anything of it is sent. A zone that has the same content already,
but for a serial that the server gave it, is not written again: an import that was interrupted is gone on with by
the same command. Small zones are sent many at once. Returns when all are applied; exits with 1 when any failed.`,
		Example: `  balefire zone import zones/
  balefire zone import testdata/zones/root.zone --origin .`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := how.check(); err != nil {
				return err
			}
			files, err := zoneFiles(args)
			if err != nil {
				return err
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			bar := newProgress(cmd.ErrOrStderr(), files)
			results := importAll(cmd.Context(), c, files, how, cmd.InOrStdin(), bar)
			bar.done()
			return printImports(cmd, conn, results)
		},
	}
	conn.registerWait(cmd)
	flags := cmd.Flags()
	flags.StringVar(&how.origin, "origin", "", "what relative names at the start of the files are below")
	flags.BoolVar(&how.force, "force", false, "also when the zone loses more than a fifth of over 100 RRsets, or all")
	flags.BoolVar(&how.dryRun, "dry-run", false, "only say what would be done")
	flags.StringVar(&how.policy, "serial-policy", "", "how the serial goes forward: increment, unixtime, date or keep (default: as it is; for new zones increment)")
	flags.Uint32Var(&how.ttl, "default-ttl", 0, "TTL of records before any is said; without it they are a mistake")
	return cmd
}

type importOptions struct {
	origin        string
	force, dryRun bool
	policy        string
	ttl           uint32
	// onlyNew leaves zones alone that the server has.
	onlyNew bool
}

func (o importOptions) check() error {
	if o.policy != "" {
		if _, err := zones.ParseSerialPolicy(o.policy); err != nil {
			return usagef("--serial-policy: %v", err)
		}
	}
	if o.origin != "" {
		if _, err := zones.ParseName(o.origin); err != nil {
			return usagef("--origin: %v", err)
		}
	}
	return nil
}

// zoneFiles turns files and directories into files, in order.
func zoneFiles(paths []string) ([]string, error) {
	var files []string
	for _, p := range paths {
		if p == "-" {
			files = append(files, p)
			continue
		}
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, p)
			continue
		}
		before := len(files)
		err = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".zone") {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(files) == before {
			return nil, fmt.Errorf("%s: there is no file named *.zone in it", p)
		}
	}
	return files, nil
}

// imported is what became of one file.
type imported struct {
	File     string   `json:"file"`
	Zone     string   `json:"zone,omitempty"`
	Result   string   `json:"result"` // created, replaced, unchanged, kept, failed or left
	ID       string   `json:"id,omitempty"`
	Serial   uint32   `json:"serial,omitempty"`
	Records  uint64   `json:"records,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Error    string   `json:"error,omitempty"`
	absent   bool     // of a restore: it is not there to be restored
}

// importAll imports files, several at once, and returns what became of each, in their order. Small zones go many to a
// request, unless they are to be looked for first, or the server knows no such request.
func importAll(ctx context.Context, c *client, files []string, how importOptions, in io.Reader, bar *progress) []imported {
	results := make([]imported, len(files))
	bulk := startBulk(ctx, c, how, func(i int, got imported) {
		results[i] = got
		bar.fileDone()
	})
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(importWorkers, len(files)) {
		workers.Go(func() {
			for i := range next {
				if z := bulk.prepare(i, files[i]); z != nil {
					bulk.add(z)
					bar.passed(int64(z.size))
					continue
				}
				results[i] = importFile(ctx, c, files[i], how, in, bar)
				bar.fileDone()
			}
		})
	}
	for i := range files {
		next <- i
	}
	close(next)
	workers.Wait()
	bulk.finish()
	return results
}

func importFile(ctx context.Context, c *client, file string, how importOptions, in io.Reader, bar *progress) imported {
	got := imported{File: file, Result: "failed"}
	fail := func(err error) imported {
		got.Error = err.Error()
		return got
	}
	if err := ctx.Err(); err != nil {
		got.Result, got.Error = "left", "interrupted"
		return got
	}
	if file == "-" {
		// It is read twice, so it has to be somewhere.
		spooled, err := spool(in)
		if err != nil {
			return fail(err)
		}
		defer os.Remove(spooled)
		file, got.File = spooled, "standard input"
	}
	z := zoneSource{file: file, shown: got.File, how: how}
	if err := z.scan(); err != nil {
		return fail(err)
	}
	got.Zone, got.Records, got.Warnings = z.apex.String(), z.records, z.warnings

	if how.onlyNew {
		err := c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "zones", got.Zone}}, nil)
		var p *problem
		if err == nil {
			got.Result = "kept"
			return got
		} else if !errors.As(err, &p) || p.Status != http.StatusNotFound {
			return fail(err)
		}
	}

	return sendFile(ctx, c, &z, got, bar)
}

// query is what an import asks for beside the file.
func (o importOptions) query() url.Values {
	query := url.Values{}
	if o.force {
		query.Set("force", "true")
	}
	if o.dryRun {
		query.Set("dry_run", "true")
	}
	if o.policy != "" {
		query.Set("serial_policy", o.policy)
	}
	return query
}

// importAnswer is what the server says of a zone that it took.
type importAnswer struct {
	changed
	Result   string   `json:"result"`
	Warnings []string `json:"warnings"`
}

// sendFile sends a zone in a request of its own.
func sendFile(ctx context.Context, c *client, z *zoneSource, got imported, bar *progress) imported {
	var answer importAnswer
	body, stop := z.stream(bar)
	err := c.call(ctx, request{
		method: http.MethodPut, path: []string{"v1", "zones", got.Zone, "file"}, query: c.waiting(z.how.query()),
		body: body, contentType: "text/dns",
	}, &answer)
	if readErr := stop(); readErr != nil && err == nil {
		err = readErr
	}
	if err != nil {
		return z.failed(got, err)
	}
	return z.settled(ctx, c, got, answer)
}

// failed is an import that came to nothing, with the place in the file that it is about.
// What was interrupted is left: it may be imported or not, and is no mistake.
func (z *zoneSource) failed(got imported, err error) imported {
	if errors.Is(err, context.Canceled) {
		got.Result, got.Error = "left", "interrupted"
		return got
	}
	got.Result, got.Error = "failed", z.place(err).Error()
	return got
}

// settled waits until what the server took is applied.
func (z *zoneSource) settled(ctx context.Context, c *client, got imported, answer importAnswer) imported {
	outcome, err := c.settle(ctx, answer.changed)
	got.ID, got.Serial = outcome.ID, outcome.Serial
	if err != nil {
		return z.failed(got, err)
	}
	got.Result = answer.Result
	for _, w := range answer.Warnings {
		if !slices.Contains(got.Warnings, w) {
			got.Warnings = append(got.Warnings, w)
		}
	}
	return got
}

// zoneSource is a zone file that is read more than once, and never held whole.
type zoneSource struct {
	file, shown string
	how         importOptions
	apex        zones.Name
	records     uint64
	warnings    []string
}

// open begins reading. $INCLUDE is allowed, as a person named the file.
func (z *zoneSource) open(bar *progress) (*zonefile.Reader, io.Closer, error) {
	opts, err := z.options()
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(z.file)
	if err != nil {
		return nil, nil, err
	}
	return zonefile.NewReader(bar.count(f), opts), f, nil
}

func (z *zoneSource) options() (opts zonefile.Options, err error) {
	opts = zonefile.Options{File: z.shown, DefaultTTL: z.how.ttl, AllowInclude: true}
	if z.how.origin != "" {
		opts.Origin, err = zones.ParseName(z.how.origin)
	} else if base, ok := strings.CutSuffix(filepath.Base(z.file), ".zone"); ok && base != "" {
		// A file that is not called after its zone has absolute names, or $ORIGIN: then this is not used.
		opts.Origin, _ = zones.ParseName(base)
	}
	return opts, err
}

// scan reads the whole file once, for its mistakes and its apex.
func (z *zoneSource) scan() error {
	r, f, err := z.open(nil)
	if err != nil {
		return err
	}
	defer f.Close()
	return z.scanRecords(r, func(zonefile.Record) {})
}

// scanRecords is scan, and shows the records to visit.
func (z *zoneSource) scanRecords(r *zonefile.Reader, visit func(zonefile.Record)) error {
	var outside *zonefile.Error // the first record before the SOA; whether it is outside is known later
	var first zonefile.Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		z.records++
		visit(rec)
		if first.Owner == "" {
			first = rec
		}
		switch {
		case rec.Type == zones.TypeSOA && z.apex == "":
			z.apex = rec.Owner
		case z.apex != "" && !rec.Owner.IsAtOrBelow(z.apex) && outside == nil:
			outside = &zonefile.Error{
				File: rec.File, Line: rec.Line, Column: rec.Column,
				Msg: fmt.Sprintf("%s is not in the zone %s", rec.Owner, z.apex),
			}
		}
	}
	switch {
	case z.records == 0:
		return &zonefile.Error{File: z.shown, Line: 1, Column: 1, Msg: "there is no record in it"}
	case z.apex == "":
		return &zonefile.Error{File: first.File, Line: first.Line, Column: first.Column, Msg: "there is no SOA record in this file, which would name the zone"}
	case outside != nil:
		return outside
	case !first.Owner.IsAtOrBelow(z.apex):
		return &zonefile.Error{
			File: first.File, Line: first.Line, Column: first.Column,
			Msg: fmt.Sprintf("%s is not in the zone %s", first.Owner, z.apex),
		}
	}
	return nil
}

// stream gives the file as one record a line with absolute names, for sending. stop must be called after the last
// read: it ends the reading, and says what failed in it.
func (z *zoneSource) stream(bar *progress) (body io.Reader, stop func() error) {
	pr, pw := io.Pipe()
	finished := make(chan error, 1)
	go func() {
		err := z.copyTo(pw, bar)
		pw.CloseWithError(err) // nil is the end of the file
		finished <- err
	}()
	return pr, func() error {
		pr.CloseWithError(errStopped)
		if err := <-finished; !errors.Is(err, errStopped) {
			return err
		}
		return nil
	}
}

// errStopped ends a stream whose reader wants no more.
var errStopped = errors.New("stopped")

func (z *zoneSource) copyTo(w io.Writer, bar *progress) error {
	r, f, err := z.open(bar)
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		line = appendRecord(line[:0], rec)
		if _, err = out.Write(line); err != nil {
			return err
		}
	}
}

// appendRecord appends a record as it is sent: one line, with absolute names.
func appendRecord(b []byte, rec zonefile.Record) []byte {
	b = append(append(b, rec.Owner.String()...), '\t')
	b = append(strconv.AppendUint(b, uint64(rec.TTL), 10), "\tIN\t"...)
	b = append(append(b, rec.Type.String()...), '\t')
	return append(append(b, zonefile.FormatRData(rec.Type, rec.RData)...), '\n')
}

// place adds the place in the file that a server's refusal is about.
func (z *zoneSource) place(err error) error {
	var p *problem
	if !errors.As(err, &p) || p.Owner == "" && p.Line == 0 {
		if p != nil && p.Type == "urn:balefire:problem:shrinking" {
			// The server speaks of the API's parameter; here it is a flag.
			p.Detail, p.Errors = strings.ReplaceAll(p.Detail, "?force=true", "--force"), nil
		}
		return fmt.Errorf("%s: %w", z.shown, err)
	}
	r, f, openErr := z.open(nil)
	if openErr != nil {
		return fmt.Errorf("%s: %w", z.shown, err)
	}
	defer f.Close()
	for line := 1; ; line++ {
		rec, readErr := r.Next()
		if readErr != nil {
			return fmt.Errorf("%s: %w", z.shown, err)
		}
		// What is sent has one record a line.
		here := line == p.Line
		if p.Line == 0 {
			here = rec.Owner.String() == p.Owner && (p.RRType == "" || rec.Type.String() == p.RRType)
		}
		if here {
			return &zonefile.Error{File: rec.File, Line: rec.Line, Column: rec.Column, Msg: p.Error()}
		}
	}
}

func spool(in io.Reader) (string, error) {
	f, err := os.CreateTemp("", "balefire-import-*")
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, in)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func printImports(cmd *cobra.Command, conn *connection, results []imported) error {
	count := map[string]int{}
	for _, r := range results {
		count[r.Result]++
	}
	if conn.json() {
		if err := printJSON(cmd, results); err != nil {
			return err
		}
	} else {
		out := bufio.NewWriter(cmd.OutOrStdout())
		for _, r := range results {
			for _, w := range r.Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			switch {
			case r.Result == "failed":
				fmt.Fprintf(cmd.ErrOrStderr(), "failed: %s\n", r.Error)
			case r.Result == "left":
			case len(results) <= 50 || r.Result != "unchanged":
				fmt.Fprintf(out, "%s: %s, serial %d, %d records\n", r.Zone, r.Result, r.Serial, r.Records)
			}
		}
		var parts []string
		for _, result := range []string{"created", "replaced", "unchanged", "kept", "failed", "left"} {
			if n := count[result]; n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", n, result))
			}
		}
		if len(results) > 1 {
			fmt.Fprintln(out, strings.Join(parts, ", "))
		}
		if err := out.Flush(); err != nil {
			return err
		}
		if count["left"] > 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "interrupted; the same command goes on where it was")
		}
	}
	if count["failed"]+count["left"] > 0 {
		return errReported
	}
	return nil
}
