package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func newCatalogCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("catalog", "Catalog zones: lists of zones for other servers, or from them (RFC 9432)",
		newCatalogCreateCommand(conn), newCatalogSubscribeCommand(conn), newCatalogListCommand(conn), newCatalogShowCommand(conn),
		newCatalogSetCommand(conn), newCatalogDeleteCommand(conn))
	conn.register(cmd)
	return cmd
}

// catalogInfo is a catalog in a list, as the API shows it.
type catalogInfo struct {
	Name      string       `json:"name"`
	Role      string       `json:"role"`
	Groups    []string     `json:"groups,omitempty"`
	Primaries []remoteInfo `json:"primaries,omitempty"`
}

// catalogDetails is one catalog and what it lists.
type catalogDetails struct {
	catalogInfo
	Serial   uint32       `json:"serial"`
	Standing string       `json:"standing,omitempty"`
	Problem  string       `json:"problem,omitempty"`
	Listed   int          `json:"listed"`
	Pending  int          `json:"pending"`
	Clashes  int          `json:"clashes"`
	Members  []memberInfo `json:"members"`
	Next     string       `json:"next,omitempty"`
}

type memberInfo struct {
	Zone     string   `json:"zone"`
	Label    string   `json:"label"`
	Groups   []string `json:"groups,omitempty"`
	NewOwner string   `json:"new_owner,omitempty"`
	Pending  string   `json:"pending,omitempty"`
	Owner    string   `json:"owner,omitempty"`
}

// state says how a member stands.
func (m memberInfo) state() string {
	switch {
	case m.Pending == "clash" && m.Owner != "":
		return "belongs to catalog " + m.Owner
	case m.Pending == "clash":
		return "was made otherwise, and is left alone"
	case m.Pending != "":
		return "to " + m.Pending
	}
	return "as it should be"
}

func newCatalogCreateCommand(conn *connection) *cobra.Command {
	var groups, notify, transfer []string
	cmd := &cobra.Command{
		Use:   "create ZONE",
		Short: "Make a catalog that lists zones hosted here, for other servers to host them, too",
		Long: `Make a catalog zone that lists the zones hosted here, but for secondary zones and catalogs: all of them, or those of some groups (zone set --group). It is
kept as it should be by itself, and is transferred and notified like any zone. Those who host what it lists need to be allowed to transfer the zones, too: an ACL does
that for all at once.`,
		Example: `  balefire catalog create catalog.example. --notify 198.51.100.5 --allow-transfer key:secondary.example.
  balefire catalog create customers.catalog. --group customers
  balefire acl set secondaries --allow transfer --key secondary.example.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			body := map[string]any{"name": apex.String()}
			if len(groups) > 0 {
				body["groups"] = groups
			}
			if len(notify) > 0 {
				if body["notify"], err = parseRemotes("notify", notify); err != nil {
					return err
				}
			}
			if len(transfer) > 0 {
				if body["allow_transfer"], err = parseGrants("allow-transfer", transfer); err != nil {
					return err
				}
			}
			return createCatalog(cmd, conn, body, "created")
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().StringArrayVar(&groups, "group", nil, "a group whose zones are listed, instead of all; repeatable")
	cmd.Flags().StringSliceVar(&notify, "notify", nil, "a server that is told of changes: [key:NAME@]ADDRESS[:PORT]; repeatable")
	cmd.Flags().StringSliceVar(&transfer, "allow-transfer", nil, "who may transfer the catalog; repeatable")
	return cmd
}

func newCatalogSubscribeCommand(conn *connection) *cobra.Command {
	var primaries primaryFlags
	cmd := &cobra.Command{
		Use:   "subscribe ZONE --from ADDRESS…",
		Short: "Host the zones that another server's catalog lists, as secondary zones",
		Long: `Host the zones that another server's catalog lists, as secondary zones that come from where the catalog comes from, with the same key, over TLS if that is. A zone
that is hosted otherwise is left alone, and so is all as long as the catalog is broken or has expired: 'catalog show' says so.`,
		Example: `  balefire catalog subscribe catalog.example. --from 192.0.2.1 --tsig transfer.example.
  balefire catalog subscribe catalog.example. --from 192.0.2.1 --from 192.0.2.2 --tls=ns1.example.com`,
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
			if len(from) == 0 {
				return usagef("--from is missing: where does the catalog come from?")
			}
			return createCatalog(cmd, conn, map[string]any{"name": apex.String(), "primaries": from}, "subscribed to")
		},
	}
	conn.registerWait(cmd)
	primaries.registerAs(cmd.Flags(), "from")
	return cmd
}

func createCatalog(cmd *cobra.Command, conn *connection, body map[string]any, done string) error {
	c, err := conn.dial()
	if err != nil {
		return err
	}
	got, err := c.change(cmd.Context(), request{method: http.MethodPost, path: []string{"v1", "catalogs"}, body: body})
	if err != nil {
		return err
	}
	return printChanged(cmd, conn, got, done)
}

func newCatalogListCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the catalogs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got struct {
				Catalogs []catalogInfo `json:"catalogs"`
			}
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "catalogs"}}, &got); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got.Catalogs)
			}
			t := newTable(cmd.OutOrStdout(), "CATALOG", "ROLE", "GROUPS", "FROM")
			for _, k := range got.Catalogs {
				t.row(k.Name, k.Role, strings.Join(k.Groups, ", "), strings.Join(texts(k.Primaries), ", "))
			}
			return t.flush()
		},
	}
}

func newCatalogShowCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "show ZONE",
		Short: "Show a catalog, the zones that it lists, and how they stand",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			var all catalogDetails
			query := url.Values{"limit": {strconv.Itoa(pageSize)}}
			for {
				var page catalogDetails
				if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "catalogs", apex.String()}, query: query}, &page); err != nil {
					return err
				}
				members := append(all.Members, page.Members...)
				all = page
				all.Members = members
				if page.Next == "" {
					break
				}
				query.Set("after", page.Next)
			}
			if conn.json() {
				return printJSON(cmd, all)
			}
			t := newTable(cmd.OutOrStdout(), "catalog", all.Name)
			t.row("role", all.Role)
			t.row("serial", all.Serial)
			if all.Standing != "" {
				t.row("standing", all.Standing)
			}
			if len(all.Groups) > 0 {
				t.row("groups", strings.Join(all.Groups, ", "))
			}
			if len(all.Primaries) > 0 {
				t.row("primaries", strings.Join(texts(all.Primaries), ", "))
			}
			if all.Problem != "" {
				t.row("problem", all.Problem)
			}
			t.row("zones listed", all.Listed)
			t.row("yet to be done", all.Pending)
			if all.Clashes > 0 {
				t.row("of somebody else's", all.Clashes)
			}
			if err := t.flush(); err != nil || len(all.Members) == 0 {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout())
			consumed := all.Role == "consumed"
			t = newTable(cmd.OutOrStdout(), "ZONE", "LABEL", "GROUPS", "GOES TO")
			if consumed {
				t = newTable(cmd.OutOrStdout(), "ZONE", "LABEL", "GROUPS", "STATE")
			}
			for _, m := range all.Members {
				last := m.NewOwner
				if consumed {
					last = m.state()
				}
				t.row(m.Zone, m.Label, strings.Join(m.Groups, ", "), last)
			}
			return t.flush()
		},
	}
}

func newCatalogSetCommand(conn *connection) *cobra.Command {
	var groups []string
	cmd := &cobra.Command{
		Use:   "set ZONE --group GROUP…",
		Short: "Have a catalog that is made here list zones of other groups; none: all zones",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("group") {
				return usagef("--group is missing: which groups? 'none' lists all zones")
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			got, err := c.change(cmd.Context(), request{
				method: http.MethodPatch, path: []string{"v1", "catalogs", apex.String()}, body: map[string]any{"groups": groupTerms(groups)},
			})
			if err != nil {
				return err
			}
			return printChanged(cmd, conn, got, "set")
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().StringArrayVar(&groups, "group", nil, "a group whose zones are listed; repeatable")
	return cmd
}

func newCatalogDeleteCommand(conn *connection) *cobra.Command {
	var keep, remove bool
	cmd := &cobra.Command{
		Use:   "delete ZONE",
		Short: "Delete a catalog, and say what becomes of zones that were made for it",
		Long: `Delete a catalog. The zones that a catalog made here lists stay as they are. Those that were made for a catalog of another server's are deleted with
--delete-members, and stay as secondary zones with --keep-members; the catalog is deleted when that is done.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			query := url.Values{}
			done := "deleted"
			switch {
			case keep && remove:
				return usagef("--keep-members and --delete-members exclude each other")
			case keep:
				query.Set("members", "keep")
				done = "is let go, and then deleted"
			case remove:
				query.Set("members", "delete")
				done = "is deleted after its members"
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			got, err := c.change(cmd.Context(), request{method: http.MethodDelete, path: []string{"v1", "catalogs", apex.String()}, query: query})
			var refused *problem
			if errors.As(err, &refused) && refused.Status == http.StatusBadRequest && !keep && !remove {
				return fmt.Errorf("zones may have been made for %s: with --delete-members they go, with --keep-members they stay as secondary zones", apex)
			}
			if err != nil {
				return err
			}
			return printChanged(cmd, conn, got, done)
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().BoolVar(&keep, "keep-members", false, "the zones that were made for it stay, as secondary zones of nobody's")
	cmd.Flags().BoolVar(&remove, "delete-members", false, "the zones that were made for it are deleted")
	return cmd
}
