package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// backupPatience is how long a server may take to back up all that is asked: a little more than it allows itself.
const backupPatience = 70 * time.Minute

// backupNow is what became of one partition's backup.
type backupNow struct {
	Partition int32     `json:"partition"`
	Node      string    `json:"node,omitempty"`
	Offset    *int64    `json:"offset,omitempty"`
	Octets    uint64    `json:"octets,omitempty"`
	Made      time.Time `json:"made,omitzero"`
	Skipped   string    `json:"skipped,omitempty"`
	Error     string    `json:"error,omitempty"`
}

func (b backupNow) result() string {
	switch {
	case b.Error != "":
		return "failed: " + b.Error
	case b.Skipped != "":
		return "not needed: " + b.Skipped
	}
	return "made"
}

func newBackupNowCommand() *cobra.Command {
	conn := &connection{patience: backupPatience}
	var partitions []int32
	cmd := &cobra.Command{
		Use:   "now",
		Short: "Back up now what has changed, in the whole region of the node that is asked",
		Long: `Back up every partition now, rather than when it is next due: the node that is asked backs up what it holds, and has the other nodes
of its region do so with the rest. A partition whose newest backup has all of it needs none. Returns when all is made, which may take
long; interrupting it undoes nothing. Exit codes: 0 every partition has a backup of now; 1 one has not; 2 wrong usage.`,
		Example: `  balefire backup now
  balefire backup now --partition 3 --partition 5 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{}
			var wanted []string
			for _, p := range partitions {
				if p < 0 {
					return usagef("--partition %d: want a partition's number", p)
				}
				wanted = append(wanted, strconv.Itoa(int(p)))
			}
			if len(wanted) > 0 {
				query.Set("partitions", strings.Join(wanted, ","))
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got struct {
				Backups []backupNow `json:"backups"`
			}
			if err := c.call(cmd.Context(), request{method: http.MethodPost, path: []string{"v1", "backups"}, query: query}, &got); err != nil {
				return err
			}
			return printBackupsNow(cmd, conn, got.Backups)
		},
	}
	conn.register(cmd)
	cmd.Flags().Int32SliceVar(&partitions, "partition", nil, "only this partition; repeatable")
	return cmd
}

func printBackupsNow(cmd *cobra.Command, conn *connection, made []backupNow) error {
	failed := 0
	for _, b := range made {
		if b.Error != "" {
			failed++
		}
	}
	if conn.json() {
		if err := printJSON(cmd, made); err != nil {
			return err
		}
	} else {
		t := newTable(cmd.OutOrStdout(), "PARTITION", "NODE", "OFFSET", "OCTETS", "RESULT")
		for _, b := range made {
			offset := ""
			if b.Offset != nil {
				offset = strconv.FormatInt(*b.Offset, 10)
			}
			t.row(b.Partition, b.Node, offset, b.Octets, b.result())
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d partitions were not backed up", failed, len(made))
	}
	return nil
}
