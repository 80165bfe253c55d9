package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
	at        string
	topic     string
	dryRun    bool
}

func newBackupRestoreCommand() *cobra.Command {
	var flags configFlags
	conn := connection{}
	how := restoreOptions{}
	var all bool
	cmd := &cobra.Command{
		Use:   "restore ZONE… | --partition N | --all",
		Short: "Bring zones back to what a backup says, as changes",
		Long: `Bring zones back to what a backup says: the newest one, or the newest of --at or before. The backup is restored into a
scratch directory and verified, and its zones are imported into the running server that --server names: into
the namespace itself, or into another one. Each import is a change like any other, whole or not at all, and can
be rolled back; serials go past the present ones, so that secondaries follow. Zones that the backup does not have are left alone,
and so are those that have not changed since.

A zone that comes signed can't be given another serial: when it has moved on since, its restore is refused.`,
		Example: `  balefire backup restore example.com. --at 2026-11-01T12:00:00Z --backup-url file:///backups
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
			return nil
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
	cmd.Flags().StringVar(&how.at, "at", "", "not the newest backup, but that of a time such as 2026-11-01T12:00:00Z, in the log's time, or of a position such as 3@4711; or else the newest one before it")
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
	stored, err := storedTopic(ctx, objects, cfg.Namespace, how.topic)
	if err != nil {
		return nil, err
	}
	wanted, err := how.partitions(ctx, c, stored.Partitions)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "balefire-restore-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	b := backup.New(backup.Options{Objects: objects, Namespace: cfg.Namespace, TopicID: stored.Topic, Scratch: filepath.Join(scratch, "trial")})
	var results []imported
	for _, number := range wanted {
		m, err := how.manifest(ctx, b, number)
		if err != nil {
			return results, fmt.Errorf("partition %d: %w", number, err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "partition %d: as of offset %d, %s\n", number, m.Offset, m.Time.Format(time.RFC3339))
		got, err := how.fromBackup(ctx, c, b, m, filepath.Join(scratch, fmt.Sprint(number)))
		results = append(results, got...)
		if err != nil {
			return results, err
		}
	}
	return results, nil
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

// partitions says which of the stored partitions are needed. Where a zone is follows from the namespace's partition
// count, which the server knows; --partition is for the backups of another namespace.
func (how restoreOptions) partitions(ctx context.Context, c *client, stored []int32) ([]int32, error) {
	var wanted []int32
	switch {
	case how.partition >= 0:
		wanted = []int32{how.partition}
	case len(how.zones) == 0:
		wanted = stored
	default:
		var known cluster
		if err := c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "cluster"}}, &known); err != nil {
			return nil, err
		}
		if known.Partitions <= 0 {
			return nil, errors.New("the server does not know its namespace yet: its log has never been reached")
		}
		for _, apex := range how.zones {
			number := mutationlog.PartitionOf([]byte(apex.String()), known.Partitions)
			if !slices.Contains(wanted, number) {
				wanted = append(wanted, number)
			}
		}
	}
	if at, err := store.ParsePosition(how.at); err == nil {
		if len(wanted) > 1 {
			return nil, usagef("--at %s is in one partition, and these zones are in %d: give a time", how.at, len(wanted))
		}
		if wanted[0] != at.Partition {
			return nil, usagef("--at %s is not in partition %d, where this is", how.at, wanted[0])
		}
	}
	for _, number := range wanted {
		if !slices.Contains(stored, number) {
			return nil, fmt.Errorf("there is no backup of partition %d", number)
		}
	}
	return wanted, nil
}

func (how restoreOptions) manifest(ctx context.Context, b *backup.Backups, partition int32) (backup.Manifest, error) {
	if how.at == "" {
		return b.Newest(ctx, partition)
	}
	if at, err := store.ParsePosition(how.at); err == nil {
		return b.AtOffset(ctx, partition, at.Offset)
	}
	at, err := time.Parse(time.RFC3339, how.at)
	if err != nil {
		return backup.Manifest{}, usagef("--at %q: want a time such as 2026-11-01T12:00:00Z, or a position such as 3@4711", how.at)
	}
	return b.AtTime(ctx, partition, at)
}

// fromBackup restores one partition under dir, imports the zones that are wanted, and removes it again.
func (how restoreOptions) fromBackup(ctx context.Context, c *client, b *backup.Backups, m backup.Manifest, dir string) (results []imported, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := store.New(store.Options{Dir: filepath.Join(dir, "data"), Ballast: -1, HotBytes: 1 << 20, Logger: zerolog.Nop()})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	restored := filepath.Join(dir, "restored")
	if err := b.RestoreInto(ctx, restored, m); err != nil {
		return nil, err
	}
	if err := s.Adopt(m.Partition, m.Topic, restored); err != nil {
		return nil, err
	}
	if _, err := s.Open(m.Partition, m.Topic); err != nil {
		return nil, err
	}
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

// restoreZone imports one zone from a restored partition.
func (how restoreOptions) restoreZone(ctx context.Context, c *client, s *store.Store, apex zones.Name, dir string) imported {
	fail := func(err error) imported {
		return imported{Zone: apex.String(), Result: "failed", Error: fmt.Sprintf("%s: %v", apex, err)}
	}
	reading, err := s.Read(apex)
	if errors.Is(err, store.ErrNoZone) {
		return fail(errors.New("the backup does not have it"))
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
	}
	return got
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
