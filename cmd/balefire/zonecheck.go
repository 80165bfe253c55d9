package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

// readZone reads and checks a whole zone file, as the server would.
func readZone(file, origin string, ttl uint32) (*zonefile.Contents, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opts := zonefile.Options{File: file, DefaultTTL: ttl, AllowInclude: true}
	if origin != "" {
		if opts.Origin, err = zones.ParseName(origin); err != nil {
			return nil, usagef("--origin: %v", err)
		}
	} else if base, ok := strings.CutSuffix(filepath.Base(file), ".zone"); ok && base != "" {
		opts.Origin, _ = zones.ParseName(base) // not a name: then the file's names are absolute
	}
	c, err := zonefile.Read(f, opts)
	if err != nil {
		return nil, err
	}
	if c.Apex == "" {
		return nil, &zonefile.Error{File: file, Line: 1, Column: 1, Msg: "there is no SOA record in this file, which would name the zone"}
	}
	sequence := change.NewSequence(c.Apex)
	for _, s := range c.RRsets {
		if r := sequence.Add(s); r != nil {
			return nil, c.Mistake(r, file)
		}
	}
	if r := sequence.Finish(); r != nil {
		return nil, c.Mistake(r, file)
	}
	return c, nil
}

func newZoneCheckCommand(conn *connection) *cobra.Command {
	var origin string
	var ttl uint32
	cmd := &cobra.Command{
		Use:   "check FILE…",
		Short: "Check zone files, without a server, by the rules that the server has",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := zoneFiles(args)
			if err != nil {
				return err
			}
			results, failed := make([]imported, 0, len(files)), false
			for _, file := range files {
				got := imported{File: file, Result: "valid"}
				c, err := readZone(file, origin, ttl)
				var usage *usageError
				switch {
				case errors.As(err, &usage):
					return err
				case err != nil:
					got.Result, got.Error, failed = "failed", err.Error(), true
				default:
					got.Zone, got.Records, got.Warnings = c.Apex.String(), uint64(c.Records), c.Warnings
				}
				results = append(results, got)
			}
			if conn.json() {
				if err := printJSON(cmd, results); err != nil {
					return err
				}
			} else {
				for _, r := range results {
					for _, w := range r.Warnings {
						fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
					}
					if r.Error != "" {
						fmt.Fprintln(cmd.ErrOrStderr(), r.Error)
					} else {
						fmt.Fprintf(cmd.OutOrStdout(), "%s: zone %s is valid, %d records\n", r.File, r.Zone, r.Records)
					}
				}
			}
			if failed {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&origin, "origin", "", "what relative names at the start of the files are below")
	cmd.Flags().Uint32Var(&ttl, "default-ttl", 0, "TTL of records before any is said; without it they are a mistake")
	return cmd
}

// difference is one RRset that a file and the server do not have alike.
type difference struct {
	Owner  string `json:"owner"`
	Type   string `json:"type"`
	Server *rrset `json:"server,omitempty"`
	File   *rrset `json:"file,omitempty"`
}

func newZoneDiffCommand(conn *connection) *cobra.Command {
	var origin string
	var ttl uint32
	cmd := &cobra.Command{
		Use:   "diff ZONE FILE",
		Short: "Show what importing a file would change: - on the server only, + in the file only",
		Long: `Compare a zone on the server with a zone file. The serial alone is no difference when the server gives serials
to this zone. Exits with 1 when there are differences.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			apex, err := apexArg(args[0])
			if err != nil {
				return err
			}
			file, err := readZone(args[1], origin, ttl)
			if err != nil {
				return err
			}
			if file.Apex != apex {
				return fmt.Errorf("%s is the zone %s, not %s", args[1], file.Apex, apex)
			}
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var info zoneInfo
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "zones", apex.String()}}, &info); err != nil {
				return err
			}
			resp, err := c.send(cmd.Context(), request{
				method: http.MethodGet, path: []string{"v1", "zones", apex.String(), "file"}, accept: "text/dns, application/problem+json",
			})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			server, err := zonefile.Read(resp.Body, zonefile.Options{File: "the server's " + apex.String()})
			if err != nil {
				return err
			}
			found := compareZones(server.RRsets, file.RRsets, info.SerialPolicy != zones.SerialKeep.String())
			if conn.json() {
				if err := printJSON(cmd, found); err != nil {
					return err
				}
			} else {
				for _, d := range found {
					printSide(cmd.OutOrStdout(), "-", d.Server)
					printSide(cmd.OutOrStdout(), "+", d.File)
				}
			}
			if len(found) > 0 {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&origin, "origin", "", "what relative names at the start of the file are below")
	cmd.Flags().Uint32Var(&ttl, "default-ttl", 0, "TTL of records before any is said; without it they are a mistake")
	return cmd
}

// compareZones walks two zones in canonical order.
func compareZones(server, file []zones.RRset, anySerial bool) []difference {
	found := []difference{}
	for len(server) > 0 || len(file) > 0 {
		order := 0
		switch {
		case len(server) == 0:
			order = 1
		case len(file) == 0:
			order = -1
		default:
			order = zones.CompareRRsets(server[0], file[0])
		}
		var d difference
		if order <= 0 {
			d.Server = showRRset(server[0])
		}
		if order >= 0 {
			d.File = showRRset(file[0])
		}
		same := order == 0 && (server[0].Equal(file[0]) || anySerial && sameButSerial(server[0], file[0]))
		if order <= 0 {
			d.Owner, d.Type = d.Server.Owner, d.Server.Type
			server = server[1:]
		}
		if order >= 0 {
			d.Owner, d.Type = d.File.Owner, d.File.Type
			file = file[1:]
		}
		if !same {
			found = append(found, d)
		}
	}
	return found
}

func showRRset(s zones.RRset) *rrset {
	shown := &rrset{Owner: s.Owner.String(), Type: s.Type.String(), TTL: s.TTL}
	for rdata := range s.RDatas() {
		shown.Records = append(shown.Records, zonefile.FormatRData(s.Type, rdata))
	}
	return shown
}

// soaTail is the length of the five numbers at the end of an SOA's RDATA, the serial first.
const soaTail = 20

// sameButSerial compares two SOA RRsets without their serials.
func sameButSerial(a, b zones.RRset) bool {
	x, y := a.First(), b.First()
	if a.Type != zones.TypeSOA || a.TTL != b.TTL || len(x) != len(y) || len(x) < soaTail {
		return false
	}
	cut := len(x) - soaTail
	return string(x[:cut]) == string(y[:cut]) && string(x[cut+4:]) == string(y[cut+4:])
}
