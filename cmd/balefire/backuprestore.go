package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"balefire/replication/backup"
	"balefire/replication/mutationlog"
	"balefire/replication/objectstore"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/zonefile"
)

// restoreOptions are what `backup restore` is told.
type restoreOptions struct {
	zones     []zones.Name
	partition int32 // -1: where the zones are, or all
	at        point
	nearest   bool
	topic     string
	dryRun    bool
}

func newBackupRestoreCommand() *cobra.Command {
	var flags configFlags
	conn := connection{}
	how := restoreOptions{}
	var all bool
	var at string
	cmd := &cobra.Command{
		Use:   "restore ZONE… | --partition N | --all",
		Short: "Bring zones back to what they were, as changes",
		Long: `Bring zones back to what they were at an earlier time or position, from backups and the log. The newest backup at or before
--at is restored into a scratch directory and verified. With --brokers, what the log has after it is applied there, up to exactly
--at: a position is that of the last change that is to be there, as 'zone history' shows it; a time is the log's. The log is only
read. Without brokers, or with --nearest, it is what the backup says; without --at, what the newest one says.

The zones are then imported into the running server that --server names: into the namespace itself, or into another one, with
any number of partitions. Each import is a change like any other, whole or not at all, and can be rolled back; serials go past the
present ones, so that secondaries follow. Zones that did not exist then are left alone, and so are those that have not changed
since. A zone that is not there any more comes back with its settings, a secondary zone with its primaries; the settings of one that is there stay, and
what is a secondary zone now is left to its primaries.

A zone that comes signed can't be given another serial: when it has moved on since, its restore is refused.
Exit codes: 0 all was restored; 1 something was not; 2 wrong usage.`,
		Example: `  balefire backup restore example.com. --at 2026-11-01T12:00:00Z --backup-url file:///backups
  balefire backup restore --partition 3 --at 3@4711 --config /etc/balefire/balefire.yaml
  balefire backup restore --all --server http://new:8053 --config /etc/balefire/balefire.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			ways := 0
			for _, given := range []bool{len(args) > 0, how.partition >= 0 && len(args) == 0, all} {
				if given {
					ways++
				}
			}
			if ways != 1 {
				return usagef("what to restore? Name zones, or give --partition or --all")
			}
			for _, arg := range args {
				apex, err := apexArg(arg)
				if err != nil {
					return err
				}
				how.zones = append(how.zones, apex)
			}
			var err error
			how.at, err = parsePoint(at)
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, found := flags.load(os.Environ())
			if len(found) > 0 {
				return reportMistakes(cmd.ErrOrStderr(), found)
			}
			if l.Backup.URL == "" {
				return usagef("which object store? Give --backup-url, or the configuration of a node")
			}
			conn.dataDir = l.DataDir
			c, err := conn.dial()
			if err != nil {
				return err
			}
			results, err := restoreBackups(cmd.Context(), cmd, l.Config, c, how)
			if err != nil {
				return err
			}
			return printImports(cmd, &conn, results)
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().StringVar(&conn.server, "server", "", "URL of the server's admin address (BALEFIRE_SERVER; default "+defaultServer+")")
	cmd.Flags().StringVar(&conn.tokenFile, "token-file", "", "file with the token (BALEFIRE_TOKEN_FILE; BALEFIRE_TOKEN is the token itself)")
	cmd.Flags().DurationVar(&conn.timeout, "timeout", time.Minute, "how long to wait until a change is applied")
	conn.output.register(cmd.Flags())
	cmd.Flags().Int32Var(&how.partition, "partition", -1, "restore all zones of this partition, or look there for the zones named")
	cmd.Flags().BoolVar(&all, "all", false, "restore all zones of all partitions")
	cmd.Flags().StringVar(&at, "at", "", "to what it was at a time such as 2026-11-01T12:00:00Z, in the log's time, or right after the change at a position such as 3@4711 (default: the newest backup)")
	cmd.Flags().BoolVar(&how.nearest, "nearest", false, "to the newest backup at or before --at, also when there are brokers whose log has more")
	cmd.Flags().StringVar(&how.topic, "topic", "", "whose backups, by the topic's id, where there are those of several")
	cmd.Flags().BoolVar(&how.dryRun, "dry-run", false, "only say what would be done")
	return cmd
}

// restoreBackups restores each partition that is needed into a scratch directory, one after the other, and imports zones
// from there.
func restoreBackups(ctx context.Context, cmd *cobra.Command, cfg *Config, c *client, how restoreOptions) ([]imported, error) {
	objects, err := objectstore.Open(ctx, cfg.Backup.URL)
	if err != nil {
		return nil, err
	}
	source, err := how.openSource(ctx, cfg, objects)
	if err != nil {
		return nil, err
	}
	defer source.close()
	wanted, guessed, err := how.partitions(ctx, c, cfg.Namespace, source)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "balefire-restore-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	source.backups = backup.New(backup.Options{Objects: objects, Namespace: cfg.Namespace, TopicID: source.topic, Scratch: filepath.Join(scratch, "trial")})
	var results []imported
	missing := how.zones // those that no partition had so far
	for _, number := range wanted {
		if guessed && len(missing) == 0 {
			break
		}
		got, err := how.fromBackup(ctx, cmd.ErrOrStderr(), c, source, number, filepath.Join(scratch, fmt.Sprint(number)))
		if guessed {
			got = slices.DeleteFunc(got, func(r imported) bool { return r.absent })
			missing = slices.DeleteFunc(slices.Clone(missing), func(apex zones.Name) bool {
				return slices.ContainsFunc(got, func(r imported) bool { return r.Zone == apex.String() })
			})
		}
		results = append(results, got...)
		if err != nil {
			return results, fmt.Errorf("partition %d: %w", number, err)
		}
	}
	for _, apex := range missing {
		if guessed {
			results = append(results, absentThen(apex))
		}
	}
	return results, nil
}

// restoreSource is where zones are restored from.
type restoreSource struct {
	topic      [16]byte
	partitions []int32           // those that have a backup or, with a log, all
	past       *mutationlog.Past // nil: backups alone
	backups    *backup.Backups
}

func (s restoreSource) close() {
	if s.past != nil {
		s.past.Close()
	}
}

// openSource finds the topic that is meant: the brokers', when a point between backups is wanted and there are brokers.
func (how restoreOptions) openSource(ctx context.Context, cfg *Config, objects objectstore.Store) (restoreSource, error) {
	if how.at.isNewest() || how.nearest || len(cfg.Brokers) == 0 {
		stored, err := storedTopic(ctx, objects, cfg.Namespace, how.topic)
		return restoreSource{topic: stored.Topic, partitions: stored.Partitions}, err
	}
	opts := mutationlog.Options{Namespace: cfg.Namespace, Brokers: cfg.Brokers, Logger: zerolog.Nop()}
	var err error
	if opts.Client, err = kafkaSecurity(cfg).Options(); err != nil {
		return restoreSource{}, err
	}
	past, err := mutationlog.OpenPast(ctx, opts)
	if err != nil {
		return restoreSource{}, fmt.Errorf("%w\n--nearest restores the newest backup before --at, without the log", err)
	}
	s := restoreSource{topic: past.TopicID(), past: past}
	if id := hex.EncodeToString(s.topic[:]); how.topic != "" && how.topic != id {
		past.Close()
		return s, usagef("--topic %s: the brokers have topic %s; backups of another can be restored with --nearest", how.topic, id)
	}
	for number := range past.Partitions() {
		s.partitions = append(s.partitions, number)
	}
	return s, nil
}

// storedTopic picks the topic whose backups are meant.
func storedTopic(ctx context.Context, objects objectstore.Store, namespace, topic string) (backup.Stored, error) {
	all, err := backup.Inventory(ctx, objects, namespace)
	if err != nil {
		return backup.Stored{}, err
	}
	var names []string
	for _, s := range all {
		name := hex.EncodeToString(s.Topic[:])
		if name == topic || topic == "" && len(all) == 1 {
			return s, nil
		}
		names = append(names, name)
	}
	switch {
	case len(all) == 0:
		return backup.Stored{}, fmt.Errorf("%s has no backups of namespace %s", objects, namespace)
	case topic == "":
		return backup.Stored{}, usagef("there are backups of several topics: give --topic, one of %s", strings.Join(names, ", "))
	}
	return backup.Stored{}, usagef("no backups of topic %s: want one of %s", topic, strings.Join(names, ", "))
}

// partitions says which are needed. Where a zone is follows from the number of partitions, which the log's brokers know, or
// else the server when it is of the same namespace; otherwise zones are looked for in all: then it is guessed.
func (how restoreOptions) partitions(ctx context.Context, c *client, namespace string, source restoreSource) (wanted []int32, guessed bool, err error) {
	switch {
	case how.partition >= 0:
		wanted = []int32{how.partition}
	case len(how.zones) == 0:
		wanted = source.partitions
	default:
		var count int32
		if source.past != nil {
			count = source.past.Partitions()
		} else if count, err = partitionsOf(ctx, c, namespace); err != nil {
			return nil, false, err
		}
		if count == 0 {
			wanted, guessed = source.partitions, true
			break
		}
		for _, apex := range how.zones {
			number := mutationlog.PartitionOf([]byte(apex.String()), count)
			if !slices.Contains(wanted, number) {
				wanted = append(wanted, number)
			}
		}
	}
	if at := how.at.position; at != nil {
		if guessed {
			wanted, guessed = []int32{at.Partition}, false
		}
		if len(wanted) > 1 {
			return nil, false, usagef("--at %s is in one partition, and these zones are in %d: give a time", at, len(wanted))
		}
		if wanted[0] != at.Partition {
			return nil, false, usagef("--at %s is not in partition %d, where this is", at, wanted[0])
		}
	}
	for _, number := range wanted {
		if !slices.Contains(source.partitions, number) {
			return nil, false, fmt.Errorf("there is no backup of partition %d", number)
		}
	}
	return wanted, guessed, nil
}

// partitionsOf asks the server how many partitions a namespace has; 0 when it is of another.
func partitionsOf(ctx context.Context, c *client, namespace string) (int32, error) {
	var known cluster
	if err := c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "cluster"}}, &known); err != nil {
		return 0, err
	}
	if known.Namespace != namespace {
		return 0, nil
	}
	if known.Partitions <= 0 {
		return 0, errors.New("the server does not know its namespace yet: its log has never been reached")
	}
	return known.Partitions, nil
}

// fromBackup restores one partition under dir, imports the zones that are wanted, and removes it again.
func (how restoreOptions) fromBackup(ctx context.Context, say io.Writer, c *client, source restoreSource, number int32, dir string) (results []imported, err error) {
	m, err := how.at.backup(ctx, source.backups, number)
	fromStart := errors.Is(err, backup.ErrNone) && source.past != nil // the log may have all
	if err != nil && !fromStart {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := store.New(store.Options{Dir: filepath.Join(dir, "data"), Ballast: -1, HotBytes: 1 << 20, HistoryChanges: -1, Logger: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if !fromStart {
		restored := filepath.Join(dir, "restored")
		if err := source.backups.RestoreInto(ctx, restored, m); err != nil {
			return nil, err
		}
		if err := s.Adopt(number, source.topic, restored); err != nil {
			return nil, err
		}
	}
	p, err := s.Open(number, source.topic)
	if err != nil {
		return nil, err
	}
	base := p.Applied().Offset
	if source.past != nil {
		if err := goOn(ctx, source.past, p, number, how.at); err != nil {
			return nil, err
		}
	}
	how.explain(say, number, p.Applied(), base, source.past != nil)
	if len(how.zones) == 0 {
		for apex, err := range apexesOf(s) {
			if err != nil {
				return results, err
			}
			results = append(results, how.restoreZone(ctx, c, s, apex, dir))
		}
		return results, nil
	}
	for _, apex := range how.zones {
		results = append(results, how.restoreZone(ctx, c, s, apex, dir))
	}
	return results, nil
}

// explain says what a partition is restored to.
func (how restoreOptions) explain(say io.Writer, number int32, applied store.Applied, base int64, exact bool) {
	from := "a backup"
	switch {
	case !how.at.isNewest() && !exact:
		from = "the nearest backup; --brokers reads the log after it, too"
		if how.nearest {
			from = "the nearest backup"
		}
	case base < 0 && exact:
		from = "the log alone"
	case applied.Offset > base:
		from = fmt.Sprintf("a backup of offset %d, and the log after it", base)
	}
	fmt.Fprintf(say, "partition %d: as of offset %d, %s, from %s\n", number, applied.Offset, applied.Time.Format(time.RFC3339), from)
}

func apexesOf(s *store.Store) iter.Seq2[zones.Name, error] {
	return func(yield func(zones.Name, error) bool) {
		var after zones.Name
		for {
			page, err := s.Zones("", after, 1000)
			if err != nil {
				yield("", err)
				return
			}
			for _, z := range page.Zones {
				if !yield(z.Apex, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			after = page.Next
		}
	}
}

// absentThen is the result of a zone that is not there to be restored.
func absentThen(apex zones.Name) imported {
	return imported{Zone: apex.String(), Result: "failed", Error: fmt.Sprintf("%s: the backup does not have it", apex), absent: true}
}

// restoreZone imports one zone from a restored partition.
func (how restoreOptions) restoreZone(ctx context.Context, c *client, s *store.Store, apex zones.Name, dir string) imported {
	fail := func(err error) imported {
		return imported{Zone: apex.String(), Result: "failed", Error: fmt.Sprintf("%s: %v", apex, err)}
	}
	reading, err := s.Read(apex)
	if errors.Is(err, store.ErrNoZone) {
		return absentThen(apex)
	}
	if err != nil {
		return fail(err)
	}
	defer reading.Close()
	var present zoneInfo
	err = c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "zones", apex.String()}}, &present)
	var p *problem
	if err != nil && (!errors.As(err, &p) || p.Status != http.StatusNotFound) {
		return fail(err)
	}
	if present.Digest == reading.Info.Digest.String() {
		return imported{Zone: apex.String(), Result: "unchanged", Serial: present.Serial, Records: present.Records}
	}
	if present.isSecondary() {
		return imported{
			Zone: apex.String(), Result: "kept", Serial: present.Serial, Records: present.Records,
			Warnings: []string{apex.String() + " is left to its primaries: its content comes from nobody else"},
		}
	}
	if reading.Info.Settings.Catalog.Role != zones.NoCatalog {
		return fail(errors.New("it was a catalog, whose content is made or fetched by itself: make it anew with 'balefire catalog create' or 'subscribe'"))
	}
	then := detailsOf(reading.Info)
	if then.isSecondary() && then.Standing != served { // it had nothing to be answered from
		got := imported{Zone: apex.String(), Result: "created"}
		if present.Name != "" {
			return fail(errors.New("it was a secondary zone then that awaited its content"))
		}
		if !how.dryRun {
			err = how.createAwaiting(ctx, c, then, &got)
		}
		if err != nil {
			return fail(err)
		}
		return got
	}
	serial := reading.Info.Serial
	if reading.Info.Settings.SerialPolicy == zones.SerialKeep && !reading.Info.Signed && present.Name != "" && !serial.IsAfter(zones.Serial(present.Serial)) {
		serial = zones.Serial(present.Serial) + 1 // RFC 1982; the server takes no other, and 0 is as good as any
	}
	file := filepath.Join(dir, "restored.zone")
	if err := writeZoneFile(file, apex, withSerial(reading.All(ctx), serial)); err != nil {
		return fail(err)
	}
	defer os.Remove(file)
	got := importFile(ctx, c, file, importOptions{
		origin: apex.String(), force: true, dryRun: how.dryRun, policy: reading.Info.Settings.SerialPolicy.String(),
	}, nil, nil)
	got.File = ""
	if got.Result == "failed" {
		got.Zone = apex.String()
	} else if present.Name == "" && !how.dryRun && then.hasSettings() {
		_, err := c.change(ctx, request{method: http.MethodPatch, path: []string{"v1", "zones", apex.String()}, body: then.settings()})
		if err != nil {
			return fail(fmt.Errorf("its content is restored, its settings are not: %w", err))
		}
	}
	return got
}

// createAwaiting makes a secondary zone without content.
func (how restoreOptions) createAwaiting(ctx context.Context, c *client, z zoneDetails, got *imported) error {
	body := z.settings()
	body["name"] = z.Name
	made, err := c.change(ctx, request{method: http.MethodPost, path: []string{"v1", "zones"}, body: body})
	got.ID = made.ID
	return err
}

// withSerial gives the SOA of a zone another serial.
func withSerial(sets iter.Seq2[zones.RRset, error], serial zones.Serial) iter.Seq2[zones.RRset, error] {
	return func(yield func(zones.RRset, error) bool) {
		for set, err := range sets {
			if !yield(set.WithSOASerial(serial), err) {
				return
			}
		}
	}
}

func writeZoneFile(file string, apex zones.Name, sets iter.Seq2[zones.RRset, error]) (err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return zonefile.Write(f, apex, sets)
}
