package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"balefire/zones"
	"balefire/zones/zonefile"
)

// rrset is an RRset as the API shows and takes it.
type rrset struct {
	Owner   string   `json:"owner"`
	Type    string   `json:"type"`
	TTL     uint32   `json:"ttl"`
	Records []string `json:"records"` // RDATA in presentation form, names absolute
}

func newRecordCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("record", "Set, delete and list the records of a zone",
		newRecordSetCommand(conn), newRecordDeleteCommand(conn), newRecordListCommand(conn))
	conn.register(cmd)
	return cmd
}

// recordArgs are ZONE OWNER TYPE.
type recordArgs struct {
	apex, owner zones.Name
	rtype       zones.Type
}

func parseRecordArgs(args []string) (r recordArgs, err error) {
	if r.apex, err = apexArg(args[0]); err != nil {
		return r, err
	}
	if r.owner, err = zones.ParseNameIn(args[1], r.apex); err != nil {
		return r, usagef("owner %v", err)
	}
	if !r.owner.IsAtOrBelow(r.apex) {
		return r, usagef("owner %s is not in the zone %s: leave its final dot out to make it relative", r.owner, r.apex)
	}
	if r.rtype, err = zones.ParseType(args[2]); err != nil {
		return r, usagef("%v", err)
	}
	return r, nil
}

func (r recordArgs) path() []string {
	return []string{"v1", "zones", r.apex.String(), "rrsets", r.owner.String(), r.rtype.String()}
}

// records reads RDATA from the command line, names relative to the zone, and gives them back in the form
// that means the same anywhere.
func (r recordArgs) records(values []string) ([]string, error) {
	texts := make([]string, len(values))
	for i, v := range values {
		rdata, err := zonefile.ParseRData(r.rtype, v, r.apex)
		if err != nil {
			return nil, usagef("%s %q: %v", r.rtype, v, err)
		}
		texts[i] = zonefile.FormatRData(r.rtype, rdata)
	}
	return texts, nil
}

func newRecordSetCommand(conn *connection) *cobra.Command {
	var serial uint32
	cmd := &cobra.Command{
		Use:   "set ZONE OWNER TYPE TTL VALUE…",
		Short: "Set an RRset: these values, in place of what was there",
		Long: `Set an RRset to the values given. OWNER is relative to the zone without a final dot; @ is the zone itself. Each
VALUE is one record, as in a zone file; quote it when it has spaces.`,
		Example: `  balefire record set example.com. www A 300 192.0.2.7 192.0.2.8
  balefire record set example.com. @ MX 3600 '10 mail' '20 mail.example.net.'
  balefire record set example.com. @ TXT 3600 '"v=spf1 mx -all"'`,
		Args: cobra.MinimumNArgs(5),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseRecordArgs(args)
			if err != nil {
				return err
			}
			ttl, err := strconv.ParseUint(args[3], 10, 32)
			if err != nil || ttl > zones.MaxTTL {
				return usagef("TTL %q: want seconds, from 0 to %d", args[3], zones.MaxTTL)
			}
			values, err := r.records(args[4:])
			if err != nil {
				return err
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			got, err := c.change(cmd.Context(), request{
				method: http.MethodPut, path: r.path(), header: ifSerial(serial),
				body: map[string]any{"ttl": ttl, "records": values},
			})
			if err != nil {
				return err
			}
			return printChanged(cmd, conn, got, fmt.Sprintf("%s %s set", r.owner, r.rtype))
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().Uint32Var(&serial, "if-serial", 0, "only if the zone's serial is this one")
	return cmd
}

func newRecordDeleteCommand(conn *connection) *cobra.Command {
	var serial uint32
	cmd := &cobra.Command{
		Use:   "delete ZONE OWNER TYPE [VALUE…]",
		Short: "Delete an RRset, or single records of it",
		Args:  cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := parseRecordArgs(args)
			if err != nil {
				return err
			}
			done := fmt.Sprintf("%s %s deleted", r.owner, r.rtype)
			req := request{method: http.MethodDelete, path: r.path(), header: ifSerial(serial)}
			if len(args) > 3 {
				values, err := r.records(args[3:])
				if err != nil {
					return err
				}
				req.method, req.path = http.MethodPost, []string{"v1", "zones", r.apex.String(), "changes"}
				req.body = map[string]any{"operations": []map[string]any{{
					"op": "delete_records", "owner": r.owner.String(), "type": r.rtype.String(), "records": values,
				}}}
				done = fmt.Sprintf("%s deleted from %s %s", strings.Join(values, ", "), r.owner, r.rtype)
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			got, err := c.change(cmd.Context(), req)
			if err != nil {
				return err
			}
			return printChanged(cmd, conn, got, done)
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().Uint32Var(&serial, "if-serial", 0, "only if the zone's serial is this one")
	return cmd
}

func newRecordListCommand(conn *connection) *cobra.Command {
	var prefix string
	var limit int
	cmd := &cobra.Command{
		Use:   "list ZONE",
		Short: "List the RRsets of a zone in canonical order",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, c, err := conn.dialFor(args[0])
			if err != nil {
				return err
			}
			all := []rrset{}
			query := url.Values{}
			if prefix != "" {
				query.Set("prefix", prefix)
			}
			for {
				size := pageSize
				if limit > 0 {
					size = min(size, limit-len(all))
				}
				query.Set("limit", strconv.Itoa(size))
				var page struct {
					RRsets []rrset `json:"rrsets"`
					Next   string  `json:"next"`
				}
				if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "zones", apex.String(), "rrsets"}, query: query}, &page); err != nil {
					return err
				}
				all = append(all, page.RRsets...)
				if page.Next == "" || limit > 0 && len(all) >= limit {
					break
				}
				query.Set("after", page.Next)
			}
			if conn.json() {
				return printJSON(cmd, all)
			}
			t := newTable(cmd.OutOrStdout(), "OWNER", "TTL", "TYPE", "RECORDS")
			for _, s := range all {
				owner := s.Owner
				if n, err := zones.ParseName(s.Owner); err == nil {
					owner = n.Relative(apex)
				}
				for i, record := range s.Records {
					if i == 0 {
						t.row(owner, s.TTL, s.Type, record)
					} else {
						t.row("", "", "", strings.TrimSpace(record))
					}
				}
			}
			return t.flush()
		},
	}
	cmd.Flags().StringVar(&prefix, "prefix", "", "only owners that begin so, relative to the zone")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many RRsets; 0 means all")
	return cmd
}
