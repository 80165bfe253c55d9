package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// nodeState is GET /v1/node.
type nodeState struct {
	Node     string   `json:"node"`
	Version  string   `json:"version,omitempty"`
	Ready    bool     `json:"ready"`
	Draining bool     `json:"draining"`
	Reasons  []string `json:"reasons,omitempty"`
	Troubles []string `json:"troubles,omitempty"`
}

func newNodeCommand() *cobra.Command {
	conn := &connection{}
	var undo, leave bool
	drain := &cobra.Command{
		Use:   "drain",
		Short: "Take a node out of readiness: load balancers and routers send it no more queries, and it answers those that come",
		Long: `Take a node out of readiness: /readyz fails from now on, so load balancers and routers send it nothing new. It goes on
answering until it is stopped. A restart brings it back, and so does --undo.

With --leave the node is going away for good: it also leaves its replica group, so that its partitions go to the others at once
instead of after its absence has been noticed. It answers from each partition until another node is ready for it: stop it when
'balefire cluster status' shows that it has none any more.`,
		Example: `  balefire node drain --server http://eu-3:8053
  balefire node drain --leave --server http://eu-3:8053`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if undo {
				return callNode(cmd, conn, request{method: http.MethodDelete, path: []string{"v1", "node", "drain"}})
			}
			r := request{method: http.MethodPost, path: []string{"v1", "node", "drain"}}
			if leave {
				r.query = url.Values{"leave": {"true"}}
			}
			return callNode(cmd, conn, r)
		},
	}
	drain.Flags().BoolVar(&leave, "leave", false, "leave the replica group for good, too")
	drain.Flags().BoolVar(&undo, "undo", false, "make the node ready again")
	drain.MarkFlagsMutuallyExclusive("leave", "undo")
	status := &cobra.Command{
		Use:   "status",
		Short: "Show whether a node is ready, and why not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return callNode(cmd, conn, request{method: http.MethodGet, path: []string{"v1", "node"}})
		},
	}
	cmd := group("node", "See how one node is, and drain it", status, drain)
	conn.register(cmd)
	return cmd
}

// callNode makes a call that is answered with the node's state, and shows that.
func callNode(cmd *cobra.Command, conn *connection, r request) error {
	c, err := conn.dial()
	if err != nil {
		return err
	}
	var got nodeState
	if err := c.call(cmd.Context(), r, &got); err != nil {
		return err
	}
	if conn.json() {
		return printJSON(cmd, got)
	}
	state := "not ready"
	switch {
	case got.Draining:
		state = "drained"
	case got.Ready:
		state = "ready"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", got.Node, state)
	for _, reason := range got.Reasons {
		fmt.Fprintf(cmd.OutOrStdout(), "  %s\n", reason)
	}
	for _, trouble := range got.Troubles {
		fmt.Fprintf(cmd.OutOrStdout(), "  trouble: %s\n", trouble)
	}
	return nil
}
