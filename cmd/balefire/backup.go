package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"balefire/replication/backup"
	"balefire/replication/objectstore"
)

func newBackupCommand() *cobra.Command {
	return group("backup", "Make, list, verify and restore backups in the object store",
		newBackupNowCommand(), newBackupListCommand(), newBackupVerifyCommand(), newBackupRestoreCommand())
}

// backedUpPartition is what `backup list` shows of one backup.
type backedUpPartition struct {
	Topic     string    `json:"topic_id"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Time      time.Time `json:"time"`
	Made      time.Time `json:"made"`
	Node      string    `json:"node"`
	Octets    uint64    `json:"octets"`
	Entries   uint64    `json:"entries"`
	Result    string    `json:"result,omitempty"` // of verifying
}

// visitBackups goes through all backups of the namespace that the options name. Manifests that can't be used are said on
// standard error, and make the error.
func visitBackups(ctx context.Context, cmd *cobra.Command, flags *configFlags, all bool, visit func(*backup.Backups, backup.Manifest) error) error {
	l, found := flags.load(os.Environ())
	if len(found) > 0 {
		return reportMistakes(cmd.ErrOrStderr(), found)
	}
	if l.Backup.URL == "" {
		return usagef("which object store? Give --backup-url, or the configuration of a node")
	}
	objects, err := objectstore.Open(ctx, l.Backup.URL)
	if err != nil {
		return err
	}
	stored, err := backup.Inventory(ctx, objects, l.Namespace)
	if err != nil {
		return err
	}
	if len(stored) == 0 {
		return fmt.Errorf("%s has no backups of namespace %s", objects, l.Namespace)
	}
	scratch, err := os.MkdirTemp("", "balefire-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	var failed error
	for _, s := range stored {
		b := backup.New(backup.Options{Objects: objects, Namespace: l.Namespace, TopicID: s.Topic, Scratch: scratch})
		for _, partition := range s.Partitions {
			manifests, bad, err := b.List(ctx, partition)
			if err != nil {
				return err
			}
			for _, err := range bad {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
				failed = errReported
			}
			if !all && len(manifests) > 1 {
				manifests = manifests[:1]
			}
			for _, m := range manifests {
				if err := visit(b, m); err != nil {
					failed = err
				}
			}
		}
	}
	return failed
}

func describeBackup(m backup.Manifest) backedUpPartition {
	return backedUpPartition{
		Topic: hex.EncodeToString(m.Topic[:]), Partition: m.Partition, Offset: m.Offset, Time: m.Time, Made: m.Made, Node: m.Node,
		Octets: m.Size, Entries: m.Entries,
	}
}

func newBackupListCommand() *cobra.Command {
	var flags configFlags
	var out output
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the backups of a namespace, by their manifests",
		Long: `List the backups of a namespace, newest first in each partition. The object store and the namespace are those of a
node's configuration: --backup-url and --namespace, the environment, or --config.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []backedUpPartition
			err := visitBackups(cmd.Context(), cmd, &flags, true, func(_ *backup.Backups, m backup.Manifest) error {
				list = append(list, describeBackup(m))
				return nil
			})
			if err != nil && !errors.Is(err, errReported) {
				return err
			}
			if out.json() {
				return errors.Join(printJSON(cmd, list), err)
			}
			t := newTable(cmd.OutOrStdout(), "PARTITION", "OFFSET", "MADE", "BY", "OCTETS", "TOPIC")
			for _, b := range list {
				t.row(b.Partition, b.Offset, b.Made.Format(time.RFC3339), b.Node, b.Octets, b.Topic)
			}
			return errors.Join(t.flush(), err)
		},
	}
	flags.register(cmd.Flags())
	out.register(cmd.Flags())
	return cmd
}

func newBackupVerifyCommand() *cobra.Command {
	var flags configFlags
	var all bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Restore the newest backup of each partition into a scratch directory, and compare everything",
		Long: `Restore the newest backup of each partition, or with --all every one, into a directory that is removed again. Every
checksum, count and digest is compared. The exit code is 1 when any can't be used.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return visitBackups(cmd.Context(), cmd, &flags, all, func(b *backup.Backups, m backup.Manifest) error {
				began := time.Now()
				if err := b.Verify(cmd.Context(), m); err != nil {
					fmt.Fprintf(cmd.OutOrStdout(), "partition %d at offset %d: %v\n", m.Partition, m.Offset, err)
					return errReported
				}
				fmt.Fprintf(cmd.OutOrStdout(), "partition %d at offset %d: whole, %d entries, %s\n", m.Partition, m.Offset, m.Entries, time.Since(began).Round(time.Millisecond))
				return nil
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVar(&all, "all", false, "every backup, and not only the newest of each partition")
	return cmd
}
