package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newChangeCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("change", "Apply change sets, and see what became of them",
		newChangeApplyCommand(conn), newChangeShowCommand(conn))
	conn.register(cmd)
	return cmd
}

// maxChangeSet bounds a change set on the command line, in octets of JSON.
const maxChangeSet = 16 << 20

func newChangeApplyCommand(conn *connection) *cobra.Command {
	var key string
	var serial uint32
	cmd := &cobra.Command{
		Use:   "apply ZONE FILE",
		Short: "Apply a change set: all of its operations or, if a precondition does not hold, none",
		Long: `Apply a change set, read from a JSON file ("-" is standard input). With --idempotency-key the same call can be
made again, after a time-out for instance, and is done once.`,
		Example: `  balefire change apply example.com. - <<'END'
  {"reason": "move www",
   "preconditions": [{"if": "rrset_exists", "owner": "www", "type": "A"}],
   "operations": [{"op": "put_rrset", "owner": "www", "type": "A", "ttl": 300, "records": ["192.0.2.7"]},
                  {"op": "delete_rrset", "owner": "old", "type": "A"}]}
  END`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			in := cmd.InOrStdin()
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			content, err := io.ReadAll(io.LimitReader(in, maxChangeSet+1))
			if err != nil {
				return err
			}
			if len(content) > maxChangeSet {
				return fmt.Errorf("%s: is larger than %s", args[1], formatSize(maxChangeSet))
			}
			if err := checkJSON(args[1], content); err != nil {
				return err
			}
			header := ifSerial(serial)
			if key != "" {
				if header == nil {
					header = http.Header{}
				}
				header.Set("Idempotency-Key", key)
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			got, err := c.change(cmd.Context(), request{
				method: http.MethodPost, path: []string{"v1", "zones", apex.String(), "changes"},
				body: json.RawMessage(content), header: header,
			})
			if err != nil {
				return err
			}
			return printChanged(cmd, conn, got, "changed")
		},
	}
	conn.registerWait(cmd)
	cmd.Flags().StringVar(&key, "idempotency-key", "", "the change's own key: a second call with it changes nothing")
	cmd.Flags().Uint32Var(&serial, "if-serial", 0, "only if the zone's serial is this one")
	return cmd
}

// checkJSON names the line of a syntax mistake; what the fields mean is the server's to check.
func checkJSON(file string, content []byte) error {
	var any json.RawMessage
	err := json.Unmarshal(content, &any)
	syntax, ok := err.(*json.SyntaxError)
	if !ok {
		return err
	}
	line, column := 1, 0
	for _, c := range content[:min(int(syntax.Offset), len(content))] {
		column++
		if c == '\n' {
			line, column = line+1, 0
		}
	}
	return fmt.Errorf("%s:%d:%d: %w", file, line, column, err)
}

func newChangeShowCommand(conn *connection) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show what became of a change, and what it removed and added",
		Example: "  balefire change show 3@4711 --wait 10s",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got changeDetail
			query := url.Values{"groups": {"true"}}
			if wait > 0 {
				query.Set("wait", wait.String())
			}
			err = c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "changes", args[0]}, query: query}, &got)
			var p *problem
			if errors.As(err, &p) && p.Status == http.StatusNotImplemented {
				// The server knows of no group but its own.
				query.Del("groups")
				err = c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "changes", args[0]}, query: query}, &got)
			}
			if err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got)
			}
			return got.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for it to be applied")
	return cmd
}

// changeDetail is a change as GET /v1/changes/{id} shows it: what became of it and, while the zone's history
// keeps it, what it did.
type changeDetail struct {
	changed
	Time    time.Time       `json:"time,omitzero"`
	Author  string          `json:"author,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Action  string          `json:"action,omitempty"`
	From    uint32          `json:"from,omitempty"`
	Changes []historyChange `json:"changes,omitempty"`
	Groups  []reach         `json:"groups,omitempty"`
}

func (d changeDetail) print(w io.Writer) error {
	t := newTable(w, "change", d.ID)
	t.row("status", d.Status)
	if d.Error != nil {
		t.row("because", strings.Join(nonEmpty(d.Error.Rule, d.Error.Owner, d.Error.Type, d.Error.Detail), " "))
	}
	for _, line := range [][2]string{{"zone", d.Zone}, {"action", d.Action}, {"author", d.Author}, {"reason", d.Reason}} {
		if line[1] != "" {
			t.row(line[0], line[1])
		}
	}
	if d.From != 0 && d.From != d.Serial {
		t.row("serial", fmt.Sprintf("%d, before %d", d.Serial, d.From))
	} else if d.Serial != 0 {
		t.row("serial", d.Serial)
	}
	if !d.Time.IsZero() {
		t.row("time", d.Time.Local().Format(time.DateTime))
	}
	for _, g := range d.Groups {
		t.row("group", g)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, c := range d.Changes {
		printSide(w, "-", c.Before)
		printSide(w, "+", c.After)
	}
	return nil
}

// printSide writes an RRset as the lines of a zone file, each with its sign.
func printSide(w io.Writer, sign string, s *rrset) {
	if s == nil {
		return
	}
	for _, record := range s.Records {
		fmt.Fprintf(w, "%s %s %d %s %s\n", sign, s.Owner, s.TTL, s.Type, record)
	}
}
