package contract

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"balefire/cmd/balefire/balefiretest"
)

// tsigKey is a key as `-o json` shows it.
type tsigKey struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Created   string `json:"created"`
	Secret    string `json:"secret"`
	Problem   string `json:"problem"`
}

// TestKeys makes, uses, lists and deletes TSIG keys, across a restart.
func TestKeys(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("zone", "create", "example.com.", "--ns", "ns1")

	key := jsonOf[tsigKey](n, "tsig", "create", "transfer.example.")
	if key.Name != "transfer.example." || key.Algorithm != "hmac-sha256" || len(key.Secret) != 44 || key.Created == "" {
		t.Fatalf("made %+v", key)
	}
	asked := func(n node, key tsigKey) string {
		return n.dig("-y", key.Algorithm+":"+key.Name+":"+key.Secret, "example.com", "SOA")
	}
	works := func(n node, key tsigKey) {
		t.Helper()
		answer := asked(n, key)
		contains(t, "dig with the key", answer, "status: NOERROR", "ns1.example.com.", "TSIG PSEUDOSECTION")
		if strings.Contains(answer, "Couldn't verify") {
			t.Errorf("dig does not take the signature:\n%s", answer)
		}
	}
	works(n, key)

	clause := n.cli("tsig", "create", "bind.example", "--algorithm", "hmac-sha512", "--bind")
	contains(t, "the clause", clause, "key \"bind.example\" {\n\talgorithm hmac-sha512;\n\tsecret \"")
	file := write(t, t.TempDir(), "bind.key", clause)
	contains(t, "dig -k", n.dig("-k", file, "example.com", "SOA"), "status: NOERROR", "hmac-sha512")

	imported := tsigKey{Name: "imported.", Algorithm: "hmac-md5", Secret: "c29tZWJvZHkgZWxzZSdzIHNlY3JldA=="}
	if got := run(t, n.env(), imported.Secret+"\n", "tsig", "import", "imported.", "--algorithm", "hmac-md5", "--secret-file", "-"); got.code != 0 || strings.Contains(got.out, imported.Secret) {
		t.Errorf("%v", got)
	}
	works(n, imported)

	list := n.cli("tsig", "list")
	rows(t, list, row("transfer.example.", "hmac-sha256", `\S+ \S+`), row("bind.example.", "hmac-sha512", `\S+ \S+`), row("imported.", "hmac-md5", `\S+ \S+`))
	shown := jsonOf[tsigKey](n, "tsig", "show", "transfer.example.")
	if shown.Secret != "" || shown.Name != key.Name || shown.Created != key.Created {
		t.Errorf("shown: %+v", shown)
	}
	n.fails(1, "it exists", "tsig", "create", "transfer.example.")
	n.fails(1, "there is no TSIG key", "tsig", "show", "no.such.key.")
	n.fails(1, "there is none", "tsig", "delete", "no.such.key.")
	n.fails(2, "hmac-sha3", "tsig", "create", "x.", "--algorithm", "hmac-sha3")
	n.fails(2, "no domain name", "tsig", "create", ".")
	n.fails(2, "--secret-file", "tsig", "import", "x.")

	// The secret is nowhere: not in the log of the node, nor in its files.
	if strings.Contains(n.Log(), key.Secret) {
		t.Error("the secret is in the node's log")
	}
	err := filepath.WalkDir(n.How.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil && bytes.Contains(content, []byte(imported.Secret)) || bytes.Contains(content, []byte("somebody else's secret")) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	n = n.again()
	works(n, key)
	n.cli("tsig", "delete", "transfer.example.")
	contains(t, "dig with a deleted key", asked(n, key), "status: NOTAUTH", "BADKEY")
	works(n, imported)

	// Without the secret that they were sealed under, keys can't be used, and that is said; all else goes on.
	n.Kill()
	if err := os.Remove(filepath.Join(n.How.Dir, "secrets.key")); err != nil {
		t.Fatal(err)
	}
	how := n.How
	how.DNS = nil
	n = startWith(t, how)
	contains(t, "dig with a key that can't be opened", asked(n, imported), "status: NOTAUTH", "BADKEY")
	contains(t, "cluster status", n.cli("cluster", "status"), "trouble", "2 TSIG keys or ACLs can't be used")
	if got := jsonOf[tsigKey](n, "tsig", "show", "imported."); got.Problem == "" {
		t.Errorf("shown: %+v", got)
	}
	if got := n.short("example.com", "NS"); got != "ns1.example.com.\n" {
		t.Errorf("without a signature: %q", got)
	}
}

// TestKeyFile: a secret of the operator's own.
func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := write(t, dir, "secret", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
	how := complete(t, balefiretest.How{Args: []string{"--secrets-key-file", file}})
	refused := run(t, nil, "", "serve", "--data-dir", how.Dir, "--dns-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--secrets-key-file", file)
	if refused.code != 1 || !strings.Contains(refused.err, "make it 0600") || strings.Contains(refused.err, "AAECAw") {
		t.Errorf("a file that others can read: %v", refused)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	n := startWith(t, how)
	n.cli("tsig", "create", "a.")
	if _, err := os.Stat(filepath.Join(how.Dir, "secrets.key")); err == nil {
		t.Error("another secret was made")
	}
	if got := jsonOf[tsigKey](n.again(), "tsig", "show", "a."); got.Problem != "" {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestACLs(t *testing.T) {
	t.Parallel()
	n := start(t)
	out := n.cli("acl", "set", "secondaries", "--allow", "transfer", "--key", "transfer.example", "--network", "192.0.2.0/24,2001:db8::1")
	rows(t, out, row("secondaries", "transfer", `transfer\.example\.`, `192\.0\.2\.0/24,2001:db8::1/128`))
	n.cli("acl", "set", "acme", "--allow", "update,notify", "--key", "acme.", "--zone", "+example.com,*.arpa", "--name", "*.example.com", "--type", "TXT,A")
	rows(t, n.again().cli("acl", "list"),
		row("acme", "update,notify", `acme\.`, `\+example\.com\.,\*\.arpa\.`, `\*\.example\.com\.`, "TXT,A"),
		row("secondaries", "transfer", `transfer\.example\.`, `192\.0\.2\.0/24,2001:db8::1/128`))
}

func TestACLMistakes(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.cli("acl", "set", "a", "--allow", "transfer", "--network", "0.0.0.0/0")
	n.cli("acl", "set", "a", "--allow", "notify", "--network", "192.0.2.1")
	rows(t, n.cli("acl", "list"), row("a", "notify", `192\.0\.2\.1/32`))
	n.fails(2, "--allow", "acl", "set", "b", "--key", "x.")
	n.fails(1, "for nobody", "acl", "set", "b", "--allow", "transfer")
	n.fails(1, "everything", "acl", "set", "b", "--allow", "everything", "--key", "x.")
	n.fails(1, "no network", "acl", "set", "b", "--allow", "transfer", "--network", "192.0.2.1/24")
	n.fails(2, "want a name", "acl", "set", "b", "--allow", "transfer", "--key", "x.", "--zone", "a..b")
	n.fails(1, "names and types", "acl", "set", "b", "--allow", "transfer", "--key", "x.", "--type", "A")
	n.fails(1, "there is none", "acl", "delete", "b")
	n.cli("acl", "delete", "a")
	if out := n.cli("acl", "list", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("listed %s", out)
	}
}
