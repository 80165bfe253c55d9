package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"balefire/zones"
)

func newZoneCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("zone", "Create, import, list and compare zones",
		newZoneCreateCommand(conn), newZoneDeleteCommand(conn), newZoneListCommand(conn), newZoneShowCommand(conn),
		newZoneImportCommand(conn), newZoneExportCommand(conn), newZoneCheckCommand(conn), newZoneDiffCommand(conn),
		newZoneHistoryCommand(conn), newZoneRollbackCommand(conn), newZoneSetCommand(conn), newZoneFreezeCommand(conn), newZoneThawCommand(conn),
		newZoneStatusCommand(conn), newZoneRefreshCommand(conn), newZoneRetransferCommand(conn))
	conn.register(cmd)
	return cmd
}

// zoneInfo is a zone as the API shows it.
type zoneInfo struct {
	Name         string    `json:"name"`
	Serial       uint32    `json:"serial"`
	SerialPolicy string    `json:"serial_policy"`
	RRsets       uint64    `json:"rrsets"`
	Records      uint64    `json:"records"`
	Delegations  uint64    `json:"delegations"`
	Signed       bool      `json:"signed"`
	Digest       string    `json:"digest,omitempty"`
	Position     string    `json:"position,omitempty"`
	ChangedAt    time.Time `json:"changed_at"`
	Frozen       bool      `json:"frozen"`
	// SettingsDigest is the same for zones with the same settings.
	SettingsDigest string `json:"settings_digest,omitempty"`
	// Of secondary zones.
	Standing    string     `json:"standing,omitempty"`
	ConfirmedAt *time.Time `json:"confirmed_at,omitempty"`
}

// printChanged is how every write ends.
func printChanged(cmd *cobra.Command, conn *connection, got changed, done string) error {
	if conn.json() {
		return printJSON(cmd, got)
	}
	line := fmt.Sprintf("%s %s", got.Zone, done)
	if got.Serial != 0 {
		line += fmt.Sprintf(", serial %d", got.Serial)
	}
	if got.ID != "" {
		line += " (" + got.ID + ")"
	}
	fmt.Fprintln(cmd.OutOrStdout(), line)
	return nil
}

func newZoneCreateCommand(conn *connection) *cobra.Command {
	var policy, primary, mailbox string
	var servers, groups []string
	var ttl uint32
	var primaries primaryFlags
	cmd := &cobra.Command{
		Use:   "create ZONE (--ns NAME… | --secondary-of ADDRESS…)",
		Short: "Create a zone with an SOA and its name servers, or one that comes from a primary",
		Example: `  balefire zone create example.net. --ns ns1.example.com. --ns ns2.example.com.
  balefire zone create example.net. --ns ns1.example.com. --serial-policy unixtime
  balefire zone create example.net. --secondary-of 192.0.2.1 --secondary-of [2001:db8::1]:5353 --tsig key.example.
  balefire zone create example.net. --secondary-of 192.0.2.1 --tls=ns1.example.com`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			from, err := primaries.remotes()
			if err != nil {
				return err
			}
			if len(from) > 0 {
				for _, flag := range []string{"ns", "primary", "mailbox", "serial-policy", "ttl"} {
					if cmd.Flags().Changed(flag) {
						return usagef("--%s: a zone with --secondary-of is as its primary has it", flag)
					}
				}
				body := map[string]any{"name": apex.String(), "primaries": from}
				if len(groups) > 0 {
					body["groups"] = groups
				}
				return createZone(cmd, conn, body)
			}
			if len(servers) == 0 {
				return usagef("--ns is missing: a zone needs at least one name server, or --secondary-of")
			}
			if _, err := zones.ParseSerialPolicy(policy); err != nil {
				return usagef("--serial-policy: %v", err)
			}
			soa := map[string]any{}
			for flag, name := range map[string]string{"primary": primary, "mailbox": mailbox} {
				if name == "" {
					continue
				}
				if _, err := zones.ParseNameIn(name, apex); err != nil {
					return usagef("--%s: %v", flag, err)
				}
				soa[flag] = name
			}
			for _, s := range servers {
				if _, err := zones.ParseNameIn(s, apex); err != nil {
					return usagef("--ns: %v", err)
				}
			}
			body := map[string]any{
				"name":          apex.String(),
				"serial_policy": policy,
				"nameservers":   servers,
				"ttl":           ttl,
				"soa":           soa,
			}
			if len(groups) > 0 {
				body["groups"] = groups
			}
			return createZone(cmd, conn, body)
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().StringSliceVar(&servers, "ns", nil, "a name server, relative to the zone without a final dot; repeatable")
	cmd.Flags().StringVar(&primary, "primary", "", "the SOA's primary server (default: the first --ns)")
	cmd.Flags().StringVar(&mailbox, "mailbox", "", "the SOA's mailbox, as a name (default: hostmaster in the zone)")
	cmd.Flags().StringVar(&policy, "serial-policy", "increment", "how the serial goes forward: increment, unixtime, date or keep")
	cmd.Flags().Uint32Var(&ttl, "ttl", 3600, "TTL of both RRsets, in seconds")
	cmd.Flags().StringArrayVar(&groups, "group", nil, "a group that the zone is in, which catalogs say of it; repeatable")
	primaries.register(cmd.Flags())
	return cmd
}

func createZone(cmd *cobra.Command, conn *connection, body map[string]any) error {
	c, err := conn.dial()
	if err != nil {
		return err
	}
	got, err := c.change(cmd.Context(), request{method: http.MethodPost, path: []string{"v1", "zones"}, body: body})
	if err != nil {
		return err
	}
	return printChanged(cmd, conn, got, "created")
}

func newZoneDeleteCommand(conn *connection) *cobra.Command {
	var serial uint32
	cmd := &cobra.Command{
		Use:   "delete ZONE",
		Short: "Delete a zone and all that is in it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			got, err := c.change(cmd.Context(), request{
				method: http.MethodDelete, path: []string{"v1", "zones", apex.String()}, header: ifSerial(serial),
			})
			if err != nil {
				return err
			}
			return printChanged(cmd, conn, got, "deleted")
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().Uint32Var(&serial, "if-serial", 0, "only if the zone's serial is this one")
	return cmd
}

// pageSize is how many rows are asked for at once.
const pageSize = 1000

func newZoneListCommand(conn *connection) *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List zones in canonical order",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			all := []zoneInfo{}
			for z, err := range listZones(cmd.Context(), c, prefix) {
				if err != nil {
					return err
				}
				all = append(all, z)
			}
			if conn.json() {
				return printJSON(cmd, all)
			}
			t := newTable(cmd.OutOrStdout(), "ZONE", "SERIAL", "POLICY", "RRSETS", "RECORDS", "SIGNED", "CHANGED")
			for _, z := range all {
				t.row(z.Name, z.Serial, z.SerialPolicy, z.RRsets, z.Records, yesNo(z.Signed), z.ChangedAt.Local().Format(time.DateTime))
			}
			return t.flush()
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only zones whose name begins so")
	return cmd
}

// listZones yields the zones of a namespace whose names begin with a prefix, in canonical order. A list with a hole in it is an
// error.
func listZones(ctx context.Context, c *client, prefix string) iter.Seq2[zoneInfo, error] {
	return func(yield func(zoneInfo, error) bool) {
		query := url.Values{"limit": {strconv.Itoa(pageSize)}}
		if prefix != "" {
			query.Set("prefix", prefix)
		}
		for {
			var page struct {
				Zones       []zoneInfo `json:"zones"`
				Next        string     `json:"next"`
				Unavailable []int32    `json:"unavailable_partitions"`
			}
			err := c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "zones"}, query: query}, &page)
			if err == nil && len(page.Unavailable) > 0 {
				err = fmt.Errorf("%s: the zones of partitions %v are not known just now", c.base, page.Unavailable)
			}
			if err != nil {
				yield(zoneInfo{}, err)
				return
			}
			for _, z := range page.Zones {
				if !yield(z, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			query.Set("after", page.Next)
		}
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func newZoneShowCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "show ZONE",
		Short: "Show what is known of a zone",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			var z zoneDetails
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "zones", apex.String()}}, &z); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, z)
			}
			t := newTable(cmd.OutOrStdout(), "zone", z.Name)
			t.row("serial", z.Serial)
			t.row("serial policy", z.SerialPolicy)
			t.row("RRsets", z.RRsets)
			t.row("records", z.Records)
			t.row("delegations", z.Delegations)
			t.row("signed", yesNo(z.Signed))
			z.rows(t)
			t.row("last change", z.Position+" at "+z.ChangedAt.Local().Format(time.DateTime))
			t.row("digest", z.Digest)
			return t.flush()
		},
	}
}

func newZoneExportCommand(conn *connection) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "export ZONE",
		Short: "Write a zone as a zone file, in canonical order",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			resp, err := c.send(cmd.Context(), request{
				method: http.MethodGet, path: []string{"v1", "zones", apex.String(), "file"}, accept: "text/dns, application/problem+json",
			})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if file == "" {
				return copyWhole(cmd.OutOrStdout(), resp.Body)
			}
			// Beside the target and renamed, so that what was there is lost only for a whole zone.
			temporary, err := os.CreateTemp(dirOf(file), ".balefire-export-*")
			if err != nil {
				return err
			}
			defer os.Remove(temporary.Name())
			if err := copyWhole(temporary, resp.Body); err != nil {
				temporary.Close()
				return err
			}
			if err := temporary.Close(); err != nil {
				return err
			}
			return os.Rename(temporary.Name(), file)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "write to this file instead of standard output")
	return cmd
}

// copyWhole fails when the server ended the body before its end, which HTTP shows as an unexpected EOF.
func copyWhole(w io.Writer, r io.Reader) error {
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("the zone is not whole: %w", err)
	}
	return nil
}

// dirOf is filepath.Dir, kept relative so that a rename stays on one file system.
func dirOf(file string) string {
	if i := strings.LastIndexByte(file, os.PathSeparator); i >= 0 {
		return file[:i+1]
	}
	return "."
}
