package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// cluster is GET /v1/cluster.
type cluster struct {
	Namespace  string         `json:"namespace"`
	Partitions int32          `json:"partitions"`
	Node       string         `json:"node"`
	Region     string         `json:"region"`
	Group      string         `json:"group"`
	Log        clusterLog     `json:"log"`
	Groups     []clusterGroup `json:"groups"`
	Nodes      []clusterNode  `json:"nodes"`
	Alarms     []clusterAlarm `json:"alarms"`
	Troubles   []string       `json:"troubles,omitempty"`
}

type clusterLog struct {
	Embedded    bool     `json:"embedded"`
	Established bool     `json:"established"`
	Reachable   bool     `json:"reachable"`
	Fault       string   `json:"fault,omitempty"`
	Trying      string   `json:"trying,omitempty"`
	Complaints  []string `json:"complaints,omitempty"`
	Frozen      string   `json:"frozen,omitempty"`
}

type clusterGroup struct {
	Region     string             `json:"region"`
	Group      string             `json:"group"`
	Registered time.Time          `json:"registered,omitzero"`
	Partitions []clusterGroupPart `json:"partitions"`
	Error      string             `json:"error,omitempty"`
}

type clusterGroupPart struct {
	Partition int32     `json:"partition"`
	Applied   int64     `json:"applied"`
	Lag       int64     `json:"lag"`
	Behind    float64   `json:"behind_seconds"`
	Committed time.Time `json:"committed,omitzero"`
	Node      string    `json:"node,omitempty"`
}

type clusterNode struct {
	ID         string            `json:"id"`
	Region     string            `json:"region"`
	Group      string            `json:"group"`
	Version    string            `json:"version,omitempty"`
	DNS        string            `json:"dns,omitempty"`
	Admin      string            `json:"admin,omitempty"`
	Relay      string            `json:"relay,omitempty"`
	Alive      bool              `json:"alive"`
	Ready      bool              `json:"ready"`
	Draining   bool              `json:"draining"`
	Seen       time.Time         `json:"seen,omitzero"`
	Reasons    []string          `json:"reasons,omitempty"`
	Partitions []clusterNodePart `json:"partitions"`
}

type clusterNodePart struct {
	Partition int32  `json:"partition"`
	State     string `json:"state"`
	Position  int64  `json:"position"`
	Assigned  bool   `json:"assigned"`
	Trouble   string `json:"trouble,omitempty"`
}

type clusterAlarm struct {
	Partition *int32    `json:"partition,omitempty"`
	Zone      string    `json:"zone,omitempty"`
	Error     string    `json:"error"`
	Time      time.Time `json:"time"`
}

// reach says whether a replica group has a change.
type reach struct {
	Region  string    `json:"region"`
	Group   string    `json:"group"`
	Applied bool      `json:"applied"`
	Since   time.Time `json:"since,omitzero"`
	Lag     int64     `json:"lag,omitempty"`
	Behind  float64   `json:"behind_seconds,omitempty"`
	Error   string    `json:"error,omitempty"`
}

func (r reach) String() string {
	s := r.Region + "/" + r.Group
	switch {
	case r.Applied && r.Since.IsZero():
		return s + ": has it"
	case r.Applied:
		return s + ": has it since " + r.Since.Local().Format(time.DateTime)
	case r.Error != "":
		return s + ": not known: " + r.Error
	}
	return fmt.Sprintf("%s: %d records, %s behind", s, r.Lag, seconds(r.Behind))
}

// seconds shows a time as people read it.
func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}

func newClusterCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("cluster", "See how the nodes of a namespace are", newClusterStatusCommand(conn))
	conn.register(cmd)
	return cmd
}

func newClusterStatusCommand(conn *connection) *cobra.Command {
	var partitions bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the log, the groups, the nodes and their partitions, as far as the node that is asked knows them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got cluster
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "cluster"}}, &got); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got)
			}
			return got.print(cmd.OutOrStdout(), partitions)
		},
	}
	cmd.Flags().BoolVar(&partitions, "partitions", false, "a line for each partition of each node")
	return cmd
}

func (c cluster) print(w io.Writer, partitions bool) error {
	fmt.Fprintf(w, "namespace %s, %d partitions, as %s in %s/%s knows it\n", c.Namespace, c.Partitions, c.Node, c.Region, c.Group)
	fmt.Fprintf(w, "log       %s\n", c.Log)
	for _, complaint := range c.Log.Complaints {
		fmt.Fprintf(w, "          unsafe: %s\n", complaint)
	}
	if c.Log.Frozen != "" {
		fmt.Fprintf(w, "          frozen: the namespace has moved to %s\n", c.Log.Frozen)
	}
	for _, trouble := range c.Troubles {
		fmt.Fprintf(w, "trouble   %s\n", trouble)
	}
	fmt.Fprintln(w)
	t := newTable(w, "REGION", "GROUP", "PARTITIONS", "LAG", "BEHIND", "NOTE")
	for _, g := range c.Groups {
		var lag int64
		var behind float64
		for _, p := range g.Partitions {
			lag, behind = max(lag, p.Lag), max(behind, p.Behind)
		}
		note := g.Error
		if c.Log.Fault != "" && strings.Contains(note, c.Log.Fault) {
			note = "not known, for what is wrong with the log"
		}
		t.row(g.Region, g.Group, fmt.Sprintf("%d of %d", len(g.Partitions), c.Partitions), lag, seconds(behind), note)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	t = newTable(w, "REGION", "GROUP", "NODE", "STATE", "PARTITIONS", "VERSION", "DNS", "ADMIN")
	for _, n := range c.Nodes {
		t.row(n.Region, n.Group, n.ID, n.state(), n.counts(), n.Version, n.DNS, n.Admin)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		for _, reason := range n.Reasons {
			fmt.Fprintf(w, "%s is not ready: %s\n", n.ID, reason)
		}
	}
	if partitions {
		fmt.Fprintln(w)
		t = newTable(w, "PARTITION", "NODE", "STATE", "POSITION", "NOTE")
		type held struct {
			clusterNodePart
			node string
		}
		var all []held
		for _, n := range c.Nodes {
			for _, p := range n.Partitions {
				all = append(all, held{p, n.ID})
			}
		}
		slices.SortStableFunc(all, func(a, b held) int { return cmp.Compare(a.Partition, b.Partition) })
		for _, p := range all {
			t.row(p.Partition, p.node, p.State, p.Position, p.Trouble)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	for _, a := range c.Alarms {
		where := ""
		if a.Partition != nil {
			where = fmt.Sprintf(" partition %d", *a.Partition)
		}
		if a.Zone != "" {
			where += " zone " + a.Zone
		}
		fmt.Fprintf(w, "alarm %s%s: %s\n", a.Time.Local().Format(time.DateTime), where, a.Error)
	}
	return nil
}

func (l clusterLog) String() string {
	kind := "brokers"
	if l.Embedded {
		kind = "embedded"
	}
	switch {
	case l.Fault != "":
		return kind + "; nothing is applied or published: " + l.Fault
	case !l.Reachable && l.Trying != "":
		return kind + ", out of reach: " + l.Trying
	case !l.Reachable:
		return kind + ", not reached yet"
	case !l.Established:
		return kind + ", being read"
	}
	return kind + ", in reach"
}

func (n clusterNode) state() string {
	switch {
	case !n.Alive:
		return "away"
	case n.Draining:
		return "drained"
	case n.Ready:
		return "ready"
	}
	return "not ready"
}

// counts says how many partitions are in which state.
func (n clusterNode) counts() string {
	count := map[string]int{}
	for _, p := range n.Partitions {
		count[p.State]++
	}
	var parts []string
	for _, state := range []string{"ready", "leaving", "catching-up", "restoring", "halted"} {
		if count[state] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[state], state))
		}
	}
	return strings.Join(parts, ", ")
}

func newGroupsCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("group", "List and retire replica groups", newGroupListCommand(conn), newGroupRetireCommand(conn))
	conn.register(cmd)
	return cmd
}

func newGroupListCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the replica groups that are waited for everywhere",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got struct {
				Groups []struct {
					Region     string    `json:"region"`
					Group      string    `json:"group"`
					Registered time.Time `json:"registered,omitzero"`
					Members    *int      `json:"members,omitempty"`
				} `json:"groups"`
			}
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: []string{"v1", "groups"}}, &got); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got.Groups)
			}
			t := newTable(cmd.OutOrStdout(), "REGION", "GROUP", "NODES", "REGISTERED")
			for _, g := range got.Groups {
				members, registered := "not known", ""
				if g.Members != nil {
					members = fmt.Sprint(*g.Members)
				}
				if !g.Registered.IsZero() {
					registered = g.Registered.Local().Format(time.DateTime)
				}
				t.row(g.Region, g.Group, members, registered)
			}
			return t.flush()
		},
	}
}

func newGroupRetireCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "retire REGION GROUP",
		Short: "Forget a replica group whose nodes are gone for good, so that nothing waits for it",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), request{method: http.MethodDelete, path: []string{"v1", "groups", args[0], args[1]}}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s/%s retired\n", args[0], args[1])
			return nil
		},
	}
}
