package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"balefire/zones"
)

// acl is an ACL as the API shows it, and takes it, without its name.
type acl struct {
	Name     string        `json:"name,omitempty"`
	Zones    []namePattern `json:"zones,omitempty"`
	Allow    []string      `json:"allow"`
	Key      string        `json:"key,omitempty"`
	Networks []string      `json:"networks,omitempty"`
	Names    []namePattern `json:"names,omitempty"`
	Types    []string      `json:"types,omitempty"`
	Changed  string        `json:"changed,omitempty"`
}

// namePattern is written NAME, *.NAME for what is below it, or +NAME for both.
type namePattern struct {
	Name  string `json:"name"`
	Self  bool   `json:"self"`
	Below bool   `json:"below"`
}

func (p namePattern) String() string {
	switch {
	case p.Self && p.Below:
		return "+" + p.Name
	case p.Below:
		return "*." + strings.TrimPrefix(p.Name, ".")
	}
	return p.Name
}

func parsePatterns(texts []string) (patterns []namePattern, err error) {
	for _, text := range texts {
		p := namePattern{Self: true}
		name := text
		if rest, ok := strings.CutPrefix(text, "+"); ok {
			name, p.Below = rest, true
		} else if rest, ok := strings.CutPrefix(text, "*."); ok {
			name, p.Self, p.Below = rest, false, true
			if rest == "" {
				name = "."
			}
		}
		n, err := zones.ParseName(name)
		if err != nil {
			return nil, usagef("%q: want a name, *.NAME for what is below it, or +NAME for both", text)
		}
		p.Name = n.String()
		patterns = append(patterns, p)
	}
	return patterns, nil
}

func joinPatterns(patterns []namePattern) string {
	var texts []string
	for _, p := range patterns {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ",")
}

func newACLCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("acl", "Say who may transfer, update or notify of all zones, or some",
		newACLSetCommand(conn), newACLListCommand(conn), newACLDeleteCommand(conn))
	cmd.Long = `Say who may transfer, update or notify of all zones of the namespace, or some of them, beside what the zones' own settings allow. What nothing allows
is refused.`
	conn.register(cmd)
	return cmd
}

func newACLSetCommand(conn *connection) *cobra.Command {
	var a acl
	var forZones, names []string
	cmd := &cobra.Command{
		Use:   "set NAME --allow DEEDS (--key KEY | --network CIDR | both)",
		Short: "Set an ACL, whether it was there or not",
		Long: `Set an ACL, whether it was there or not. With both a key and networks, a message must be signed with the key and come from one of the networks. Patterns of
names are NAME, *.NAME for what is below it, or +NAME for both.`,
		Example: `  balefire acl set secondaries --allow transfer --key transfer.example. --network 192.0.2.0/24,2001:db8::/32
  balefire acl set acme --allow update --key acme.example. --zone +example.com. --name '*.example.com.' --type TXT`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if a.Zones, err = parsePatterns(forZones); err != nil {
				return err
			}
			if a.Names, err = parsePatterns(names); err != nil {
				return err
			}
			if len(a.Allow) == 0 {
				return usagef("--allow is missing: want transfer, update, notify, or several of them")
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got acl
			if err := c.call(cmd.Context(), request{method: http.MethodPut, path: []string{"v1", "acls", args[0]}, body: a}, &got); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got)
			}
			return printACLs(cmd, []acl{got})
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&a.Allow, "allow", nil, "what is allowed: transfer, update, notify")
	flags.StringVar(&a.Key, "key", "", "name of the TSIG key that the message must be signed with")
	flags.StringSliceVar(&a.Networks, "network", nil, "addresses and networks that it must come from")
	flags.StringSliceVar(&forZones, "zone", nil, "patterns of the zones that it is for; without it, all")
	flags.StringSliceVar(&names, "name", nil, "patterns of the names whose records may be updated; without it, all")
	flags.StringSliceVar(&a.Types, "type", nil, "types that may be updated; without it, all")
	return cmd
}

func newACLListCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the ACLs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got struct {
				ACLs []acl `json:"acls"`
			}
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "acls"}}, &got); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got.ACLs)
			}
			return printACLs(cmd, got.ACLs)
		},
	}
}

func printACLs(cmd *cobra.Command, acls []acl) error {
	t := newTable(cmd.OutOrStdout(), "ACL", "ALLOW", "KEY", "NETWORKS", "ZONES", "NAMES", "TYPES")
	for _, a := range acls {
		t.row(a.Name, strings.Join(a.Allow, ","), a.Key, strings.Join(a.Networks, ","), joinPatterns(a.Zones), joinPatterns(a.Names), strings.Join(a.Types, ","))
	}
	return t.flush()
}

func newACLDeleteCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an ACL",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), request{method: http.MethodDelete, path: []string{"v1", "acls", args[0]}}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s deleted\n", args[0])
			return nil
		},
	}
}
