package main

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func newNamespaceCommand() *cobra.Command {
	return group("namespace", "Move a namespace into a new one", newNamespaceMoveCommand(), newNamespaceThawCommand())
}

func newNamespaceMoveCommand() *cobra.Command {
	conn := &connection{}
	m := mover{}
	var server, tokenFile string
	cmd := &cobra.Command{
		Use:   "move --server OLD --to-server NEW [--freeze]",
		Short: "Copy a namespace into a new one, with another number of partitions or on other brokers",
		Long: `Copy a namespace into a new one. The new one may have another number of partitions or be on other brokers, so this is the way
from the embedded log to Kafka or Redpanda, too. Start its nodes first, with their own --namespace or --brokers; while they are
filled, the old ones go on answering and taking changes.

Every zone is copied whole, with its serial and all of its settings; a serial is never lower than in the old namespace. Then what has
changed meanwhile is copied, and so on until nothing was: every zone is then equal, by the digest over all its RRsets that each side
computes for itself. Secondary zones are brought with their content, which their primaries then keep in the new namespace, too; those that are not
answered from, as they await it or have expired, await it there. Catalogs are made anew, and their content and what a consumed one lists are the new
namespace's own matter; consumers of a produced one begin anew with its zones. TSIG keys and ACLs are copied first, keys as they are sealed: the nodes of
the new namespace must have the old one's secrets in their secrets.key-file (with the embedded log that is secrets.key in the data directory). With --freeze the old namespace is then told to refuse changes, with a message that says where to send
them; what came until then is copied, and all is compared once more. Without --freeze nothing is said to the old namespace, so that
a move can be rehearsed.

It may be interrupted and run again: what is equal is not copied twice. A zone of the new namespace that differs, and was not
last written by a move, is not overwritten without --force, nor is an ACL that was set there last, or another key of the same name. What only
the new one has is left alone, but for zones that a move brought and that have since been deleted. --server and --to-server must be one node each, not a load balancer, since nodes are
not always equally far.

Not moved: the history of zones, idempotency keys (a repeated change with a key from before the move is done again), change IDs, positions,
replica groups and backups. Tokens and options are the new nodes' own. Exit codes: 0 all is equal; 1 something is not; 2 wrong usage.`,
		Example: `  balefire serve --data-dir new --brokers kafka-1:9092 --namespace dns --dns-listen 127.0.0.1:5301 --admin-listen 127.0.0.1:8054
  balefire namespace move --server http://127.0.0.1:8053 --to-server http://127.0.0.1:8054
  balefire namespace move --server http://127.0.0.1:8053 --to-server http://127.0.0.1:8054 --freeze --reason 'to three brokers'
  balefire namespace thaw --server http://127.0.0.1:8053        # to undo the freezing`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if server == "" {
				return usagef("--to-server is missing: want the URL of a node of the new namespace")
			}
			if m.passes < 1 {
				return usagef("--passes %d: want at least 1", m.passes)
			}
			var err error
			if m.from, err = conn.dial(); err != nil {
				return err
			}
			to := connection{server: server, tokenFile: tokenFile, timeout: conn.timeout}
			token := os.Getenv("BALEFIRE_TO_TOKEN")
			switch {
			case tokenFile != "":
				if token, err = to.token(); err != nil {
					return err
				}
			case token == "":
				token = m.from.token
			}
			if m.to, err = to.dialWith(token); err != nil {
				return err
			}
			m.out, m.log = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return m.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&conn.server, "server", "", "URL of the admin address of a node of the old namespace (BALEFIRE_SERVER; default "+defaultServer+")")
	flags.StringVar(&conn.tokenFile, "token-file", "", "file with its token (BALEFIRE_TOKEN_FILE; BALEFIRE_TOKEN is the token itself)")
	flags.StringVar(&conn.dataDir, "data-dir", defaultConfig().DataDir, "its data directory, for its admin.token")
	flags.StringVar(&server, "to-server", "", "URL of the admin address of a node of the new namespace")
	flags.StringVar(&tokenFile, "to-token-file", "", "file with its token (BALEFIRE_TO_TOKEN is the token itself; default: the old one's)")
	flags.DurationVar(&conn.timeout, "timeout", time.Minute, "how long to wait until a zone is applied")
	flags.BoolVar(&m.freeze, "freeze", false, "at the end, make the old namespace refuse changes, copy the last ones, and compare again")
	flags.StringVar(&m.reason, "reason", "", "why it is moved, for those whose changes are refused")
	flags.BoolVar(&m.force, "force", false, "overwrite zones that were changed in the new namespace")
	flags.IntVar(&m.passes, "passes", 20, "copy what has changed meanwhile at most so many times")
	return cmd
}

func newNamespaceThawCommand() *cobra.Command {
	conn := &connection{}
	cmd := &cobra.Command{
		Use:   "thaw",
		Short: "Make a frozen namespace take changes again",
		Long: `Make a namespace that 'namespace move --freeze' froze take changes again. What the new namespace has taken since does not come
back by itself.`,
		Example: "  balefire namespace thaw --server http://127.0.0.1:8053",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), request{method: http.MethodDelete, path: freezePath}, nil); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "changes are taken again")
			return nil
		},
	}
	conn.register(cmd)
	return cmd
}

// freezePath is where a namespace is frozen and thawed.
var freezePath = []string{"v1", "namespace", "freeze"}
