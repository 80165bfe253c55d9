package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"balefire/zones"
)

// tsigKey is a key as the API shows it.
type tsigKey struct {
	Name      string    `json:"name"`
	Algorithm string    `json:"algorithm"`
	Created   time.Time `json:"created,omitzero"`
	Secret    string    `json:"secret,omitempty"` // base64; only of a new one
	Problem   string    `json:"problem,omitempty"`
}

var tsigPath = []string{"v1", "tsig-keys"}

func newTSIGCommand() *cobra.Command {
	conn := &connection{}
	cmd := group("tsig", "Make, import, list and delete the keys that DNS messages are signed with",
		newTSIGCreateCommand(conn), newTSIGImportCommand(conn), newTSIGListCommand(conn), newTSIGShowCommand(conn), newTSIGDeleteCommand(conn))
	cmd.Long = `The keys that transfers, updates and notifies are signed with (TSIG, RFC 8945). They are the namespace's: every node knows them. Their secrets are
in the log only sealed, under the secret in secrets.key-file. A key by itself allows nothing: zones and ACLs say what may be done with it.`
	conn.register(cmd)
	return cmd
}

func newTSIGCreateCommand(conn *connection) *cobra.Command {
	var algorithm string
	var bind bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a key, and print its secret, which is not shown again",
		Long: `Make a key with a random secret. It is printed once, as NAME ALGORITHM SECRET, or with --bind as a clause for named.conf, which nsupdate and dig
take with -k, too; kdig and dig take ALGORITHM:NAME:SECRET with -y.`,
		Example: `  balefire tsig create transfer.example.
  balefire tsig create update.example. --algorithm hmac-sha512 --bind > update.key && nsupdate -k update.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return createKey(cmd, conn, args[0], algorithm, "", bind)
		},
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", "hmac-sha256", "hmac-sha224, hmac-sha256, hmac-sha384 or hmac-sha512; hmac-sha1 and hmac-md5 only for peers that have nothing better")
	cmd.Flags().BoolVar(&bind, "bind", false, "print a key clause, as BIND, nsupdate and dig read it")
	return cmd
}

func newTSIGImportCommand(conn *connection) *cobra.Command {
	var algorithm, file string
	cmd := &cobra.Command{
		Use:   "import NAME --secret-file FILE",
		Short: "Make known a key that somebody else has made",
		Long: `Make a key known whose secret somebody else has made. The secret, in base64, is read from a file, or from standard input with -, so that it is in no list
of processes and no history of commands.`,
		Example: `  balefire tsig import transfer.example. --algorithm hmac-sha256 --secret-file - < secret.txt`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usagef("--secret-file is missing: want a file, or - for standard input")
			}
			secret, err := readSecret(cmd.InOrStdin(), file)
			if err != nil {
				return err
			}
			return createKey(cmd, conn, args[0], algorithm, secret, false)
		},
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", "hmac-sha256", "the key's algorithm")
	cmd.Flags().StringVar(&file, "secret-file", "", "file with the secret in base64; - is standard input")
	return cmd
}

// maxSecretFile is more than a secret in base64 has, in octets.
const maxSecretFile = 4096

// readSecret reads a secret in base64.
func readSecret(in io.Reader, file string) (string, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(content))
	if _, err := base64.StdEncoding.DecodeString(text); err != nil || text == "" || len(content) > maxSecretFile {
		return "", errors.New("the secret is not base64, and nothing else") // without it
	}
	return text, nil
}

func createKey(cmd *cobra.Command, conn *connection, name, algorithm, secret string, bind bool) error {
	if n, err := zones.ParseName(name); err != nil || n == zones.Root {
		return usagef("key %q is no domain name", name)
	}
	if _, err := zones.ParseTSIGAlgorithm(algorithm); err != nil {
		return usagef("%v", err)
	}
	c, err := conn.dial()
	if err != nil {
		return err
	}
	body := map[string]string{"name": name, "algorithm": algorithm}
	if secret != "" {
		body["secret"] = secret
	}
	var got tsigKey
	if err := c.call(cmd.Context(), request{method: http.MethodPost, path: tsigPath, body: body}, &got); err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if secret != "" {
		got.Secret = "" // they have it
	}
	switch {
	case conn.json():
		return printJSON(cmd, got)
	case secret != "":
		fmt.Fprintf(out, "%s imported, %s\n", got.Name, got.Algorithm)
	case bind:
		fmt.Fprintf(out, "key \"%s\" {\n\talgorithm %s;\n\tsecret \"%s\";\n};\n", strings.TrimSuffix(got.Name, "."), got.Algorithm, got.Secret)
	default:
		fmt.Fprintf(out, "%s %s %s\n", got.Name, got.Algorithm, got.Secret)
	}
	return nil
}

func newTSIGListCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got struct {
				Keys []tsigKey `json:"keys"`
			}
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: tsigPath}, &got); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got.Keys)
			}
			return printKeys(cmd, got.Keys)
		},
	}
}

func newTSIGShowCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a key, without its secret",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			var got tsigKey
			if err := c.call(cmd.Context(), request{method: http.MethodGet, path: append(tsigPath[:2:2], args[0])}, &got); err != nil {
				return err
			}
			if conn.json() {
				return printJSON(cmd, got)
			}
			return printKeys(cmd, []tsigKey{got})
		},
	}
}

func printKeys(cmd *cobra.Command, keys []tsigKey) error {
	t := newTable(cmd.OutOrStdout(), "KEY", "ALGORITHM", "CREATED", "NOTE")
	for _, k := range keys {
		created := ""
		if !k.Created.IsZero() {
			created = k.Created.Local().Format(time.DateTime)
		}
		t.row(k.Name, k.Algorithm, created, k.Problem)
	}
	return t.flush()
}

func newTSIGDeleteCommand(conn *connection) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a key: nothing is signed or accepted with it any more",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.dial()
			if err != nil {
				return err
			}
			if err := c.call(cmd.Context(), request{method: http.MethodDelete, path: append(tsigPath[:2:2], args[0])}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s deleted\n", args[0])
			return nil
		},
	}
}
