package main

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// historyEntry is one change set of a zone's history as the API shows it.
type historyEntry struct {
	ID      string          `json:"id"`
	Time    time.Time       `json:"time"`
	Author  string          `json:"author"`
	Reason  string          `json:"reason,omitempty"`
	Action  string          `json:"action"`
	From    uint32          `json:"from"`
	To      uint32          `json:"to"`
	Changes []historyChange `json:"changes,omitempty"`
}

// historyChange is what a change set did to one RRset; a side that is missing did not exist.
type historyChange struct {
	Owner  string `json:"owner"`
	Type   string `json:"type"`
	Before *rrset `json:"before,omitempty"`
	After  *rrset `json:"after,omitempty"`
}

func newZoneHistoryCommand(conn *connection) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history ZONE",
		Short: "List the last changes of a zone, newest first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			var page struct {
				Entries []historyEntry `json:"entries"`
			}
			err = c.call(cmd.Context(), request{
				method: http.MethodGet, path: []string{"v1", "zones", apex.String(), "history"},
				query: url.Values{"limit": {strconv.Itoa(limit)}},
			}, &page)
			if err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, page.Entries)
			}
			t := newTable(cmd.OutOrStdout(), "CHANGE", "TIME", "SERIAL", "ACTION", "RRSETS", "AUTHOR", "REASON")
			for _, e := range page.Entries {
				t.row(e.ID, e.Time.Local().Format(time.DateTime), e.To, e.Action, len(e.Changes), e.Author, e.Reason)
			}
			return t.flush()
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so many")
	return cmd
}

func newZoneRollbackCommand(conn *connection) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "rollback ZONE SERIAL",
		Short: "Bring a zone's content back to what it was at an earlier serial; its serial still goes forward",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			serial, err := strconv.ParseUint(args[1], 10, 32)
			if err != nil {
				return usagef("serial %q: want a whole number from 0 to 4294967295", args[1])
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			body := map[string]any{"serial": serial}
			if why != "" {
				body["reason"] = why
			}
			got, err := c.change(cmd.Context(), request{
				method: http.MethodPost, path: []string{"v1", "zones", apex.String(), "rollback"}, body: body,
			})
			if err != nil {
				return err
			}
			return printChanged(cmd, conn, got, "rolled back to "+args[1])
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().StringVar(&why, "reason", "", "why, for the zone's history")
	return cmd
}
