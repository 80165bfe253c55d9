//go:build s3

package contract

import (
	"os"
	"strings"
	"testing"

	"balefire/cmd/balefire/balefiretest"
	"balefire/replication/s3test"
)

// TestS3CannotBeUsed: a node with a bucket that it can't use is ready, and says what is wrong and what to do, once, until it is put right.
func TestS3CannotBeUsed(t *testing.T) {
	s := s3test.Start(t)
	for _, c := range []struct {
		name   string
		url    string
		env    []string
		wanted []string
		mend   func() // nil: by a restart only
	}{
		{"wrong secret", s.URL(""), []string{"AWS_SECRET_ACCESS_KEY=another-secret"}, []string{"backups: ", "the object store denies access", "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}, nil},
		{"unknown key", s.URL(""), []string{"AWS_ACCESS_KEY_ID=nobody"}, []string{"backups: ", "the object store denies access", "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}, nil},
		{"no such bucket", strings.Replace(s.URL(""), "bucket", "bouquet", 1), nil, []string{"backups: ", "the bucket does not exist", "make it, or mend the name in s3://bouquet"}, func() {
			if err := os.Mkdir(s.Path("bouquet"), 0o700); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startWith(t, balefiretest.How{Args: []string{"--partitions", "1", "--backup-url", c.url, "--backup-create"}, Env: c.env})
			n.tells(c.wanted...)
			n.quiet(c.wanted[0] + "list")
			if c.mend != nil {
				c.mend()
				n.cleared(c.wanted[0])
			}
		})
	}
	t.Run("nobody is there", func(t *testing.T) {
		s.Kill()
		n := startWith(t, balefiretest.How{Args: []string{"--partitions", "1", "--backup-url", s.URL(""), "--backup-create"}})
		n.tells("backups: ", "look at the endpoint")
		s.Restart()
		n.cleared("backups: ")
		n.quiet("backups: list")
	})
}
