package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"balefire/zones"
)

// zoneTransfers is a zone among other servers, as the API shows it.
type zoneTransfers struct {
	Zone      string           `json:"zone"`
	Serial    uint32           `json:"serial"`
	Node      string           `json:"node,omitempty"`
	Secondary *secondaryInfo   `json:"secondary,omitempty"`
	Notified  []notifiedServer `json:"notified"`
}

type secondaryInfo struct {
	Standing      string        `json:"standing"`
	ConfirmedAt   *time.Time    `json:"confirmed_at,omitempty"`
	OnDuty        bool          `json:"on_duty"`
	Running       bool          `json:"running"`
	PrimarySerial uint32        `json:"primary_serial,omitempty"`
	CheckedAt     *time.Time    `json:"checked_at,omitempty"`
	NextAt        *time.Time    `json:"next_at,omitempty"`
	ExpiresAt     *time.Time    `json:"expires_at,omitempty"`
	Failures      int           `json:"failures"`
	Error         string        `json:"error,omitempty"`
	FailedAt      *time.Time    `json:"failed_at,omitempty"`
	Last          *transferMade `json:"last_transfer,omitempty"`
}

// lastAt is when the last transfer ended; nil before.
func (s *secondaryInfo) lastAt() *time.Time {
	if s.Last == nil {
		return nil
	}
	return &s.Last.At
}

type transferMade struct {
	At       time.Time  `json:"at"`
	Seconds  float64    `json:"seconds"`
	From     remoteInfo `json:"from"`
	Form     string     `json:"form"`
	Serial   uint32     `json:"serial"`
	Before   uint32     `json:"before"`
	Records  int64      `json:"records"`
	Octets   int64      `json:"octets"`
	Messages int        `json:"messages"`
	Staged   bool       `json:"staged"`
}

type notifiedServer struct {
	Server   remoteInfo `json:"server"`
	Serial   uint32     `json:"serial,omitempty"`
	ToldAt   *time.Time `json:"told_at,omitempty"`
	Pending  bool       `json:"pending"`
	Attempts int        `json:"attempts"`
	Error    string     `json:"error,omitempty"`
}

// when writes a time for people.
func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func (z zoneTransfers) print(cmd *cobra.Command) error {
	t := newTable(cmd.OutOrStdout(), "zone", z.Zone)
	t.row("serial", z.Serial)
	t.row("asked node", z.Node)
	if s := z.Secondary; s != nil {
		standing := s.Standing
		if standing == "awaiting" {
			standing = "awaits its first transfer"
		}
		t.row("secondary", standing)
		t.row("confirmed", when(s.ConfirmedAt))
		if s.PrimarySerial != 0 {
			t.row("primary's serial", s.PrimarySerial)
		}
		t.row("last answer", when(s.CheckedAt))
		if last := s.Last; last != nil {
			t.row("last transfer", fmt.Sprintf("%s at %s from %s", last.Form, when(&last.At), last.From))
			t.row("", fmt.Sprintf("serial %d to %d, %d records, %d octets in %d messages, %s",
				last.Before, last.Serial, last.Records, last.Octets, last.Messages,
				time.Duration(last.Seconds*float64(time.Second)).Round(time.Millisecond)))
		}
		switch {
		case s.Running:
			t.row("next refresh", "now")
		case !s.OnDuty:
			t.row("next refresh", "not by this node: another one of the region is on duty")
		default:
			t.row("next refresh", when(s.NextAt))
		}
		t.row("expires", when(s.ExpiresAt))
		if s.Error != "" {
			t.row("error", fmt.Sprintf("%s (at %s, %s in a row)", s.Error, when(s.FailedAt), strconv.Itoa(s.Failures)))
		}
	}
	name := "notified"
	for _, n := range z.Notified {
		line := n.Server.String()
		switch {
		case n.ToldAt != nil:
			line += fmt.Sprintf(": serial %d at %s", n.Serial, when(n.ToldAt))
		case n.Pending:
			line += ": not yet"
		}
		if n.Pending && n.Attempts > 0 {
			line += fmt.Sprintf(", %d attempts without an answer", n.Attempts)
		}
		if n.Error != "" {
			line += ", " + n.Error
		}
		t.row(name, line)
		name = ""
	}
	return t.flush()
}

func newZoneStatusCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "status ZONE",
		Short: "Show how a zone stands to other servers: its primaries, and those that are notified",
		Long: `Show how a zone stands to other servers, as the node of the region knows it that is on duty for the zone: the last transfer, the next
refresh, when it expires, what went wrong; and which serials the servers have answered for that are notified.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			z, err := c.transfers(cmd.Context(), apex)
			if err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, z)
			}
			return z.print(cmd)
		},
	}
}

func (c *client) transfers(ctx context.Context, apex zones.Name) (z zoneTransfers, err error) {
	return z, c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "zones", apex.String(), "transfers"}}, &z)
}

func newZoneRefreshCommand(conn *connection) *cobra.Command {
	return newHastenCommand(conn, "refresh", "Ask a secondary zone's primaries now", "is as its primary has it", false)
}

func newZoneRetransferCommand(conn *connection) *cobra.Command {
	return newHastenCommand(conn, "retransfer", "Fetch a secondary zone whole, whatever serial its primary has", "was fetched", true)
}

func newHastenCommand(conn *connection, use, short, done string, whole bool) *cobra.Command {
	var noWait bool
	cmd := &cobra.Command{
		Use:   use + " ZONE",
		Short: short,
		Long:  short + ". It waits until that has come to an end, within --timeout, and fails if it has failed.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			var z zoneTransfers
			if err := c.call(cmd.Context(), request{method: http.MethodPost, path: []string{"v1", "zones", apex.String(), use}}, &z); err != nil {
				return err
			}
			if !noWait {
				ctx, cancel := context.WithTimeout(cmd.Context(), conn.timeout)
				defer cancel()
				if z, err = c.afterwards(ctx, apex, z, whole); err != nil {
					return err
				}
			}
			if conn.json() {
				return printJSON(cmd, z)
			}
			if noWait {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is the next\n", z.Zone)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s, serial %d\n", z.Zone, done, z.Serial)
			return nil
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "don't wait for what comes of it")
	return cmd
}

// lookEach is how often it is asked what came of a refresh.
const lookEach = 100 * time.Millisecond

// afterwards waits until a zone was looked at, or fetched whole, after it was as before says.
func (c *client) afterwards(ctx context.Context, apex zones.Name, before zoneTransfers, whole bool) (z zoneTransfers, err error) {
	tick := time.NewTicker(lookEach)
	defer tick.Stop()
	for {
		if z, err = c.transfers(ctx, apex); err == nil && z.Secondary != nil && before.Secondary != nil {
			was, is := before.Secondary, z.Secondary
			switch {
			case is.Running:
			case is.Error != "" && later(is.FailedAt, was.FailedAt):
				return z, fmt.Errorf("%s: %s", apex, is.Error)
			case is.Error == "" && whole && later(is.lastAt(), was.lastAt()), is.Error == "" && !whole && later(is.CheckedAt, was.CheckedAt):
				return z, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("%s: it is not known yet what came of it; ask `balefire zone status`", apex)
			}
			return z, err
		}
	}
}

func later(is, was *time.Time) bool { return is != nil && (was == nil || is.After(*was)) }
