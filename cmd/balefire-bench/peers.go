package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// peer is one sort of server, and knows how it is told what to do. Each has one worker or thread, minimal responses, cookies where it has
// them, no limits of rates, and logs nothing of what it is asked; everything else is as it is shipped.
type peer interface {
	// about returns its name, and the command that prints its version.
	about() (name string, version []string)
	// start starts it, as the site says, and does not wait.
	start(ctx context.Context, s *server, site site) error
	// addZone has a running server take a zone in.
	addZone(ctx context.Context, s *server, z zone) error
}

// preparer is a peer that keeps zones in a form of its own, into which they are brought before it is started.
type preparer interface {
	prepare(ctx context.Context, s *server, site site) error
}

// site is what a server is to serve, and how.
type site struct {
	zones       []zone
	probes      []string       // names of which all are answered once the server is ready
	cpu         int            // the processor to pin it to; −1 for any
	connections int            // how many TCP connections at once it must stand
	updates     bool           // its zones may be changed while it runs
	updateKey   string         // the name of the key that updates must be signed with, whose secret is updateSecret; "" for none
	cert, key   string         // files for TLS; empty for none
	hot         string         // Balefire's memory for zones, as its option has it; "" for the default
	warm        bool           // Balefire is to have all zones in memory
	pace        string         // GOGC of Balefire; "" for its own
	follower    netip.AddrPort // a secondary that may fetch zones, and is told of changes; none when it is not valid
	imported    string         // a data directory of Balefire's that has the zones already; "" when they are to be imported
}

var peers = []peer{balefire{}, nsd{}, knot{}, gdnsd{}, bind{}, powerDNS{}}

// echoes is the floor: this program again, as a server that only sends back.
type echoes struct{}

func (echoes) about() (string, []string) { return "echo (the floor)", nil }

func (echoes) start(_ context.Context, s *server, site site) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return s.launch(site.cpu, nil, self, "-echo", s.addr.String())
}

func (echoes) addZone(context.Context, *server, zone) error {
	return fmt.Errorf("an echo has no zones")
}

var (
	versionNumber = regexp.MustCompile(`\d+\.\d+(\.\d+)*`)
	goVersion     = regexp.MustCompile(`\(go[^)]*\)`)
)

// versionIn finds a program's version in what it says of itself: the first number with a point that is not that of Go, or else the
// last word, as what is built from a commit has it.
func versionIn(said string) string {
	said = goVersion.ReplaceAllString(said, "")
	if v := versionNumber.FindString(said); v != "" {
		return v
	}
	words := strings.Fields(said)
	if len(words) == 0 {
		return "of unknown version"
	}
	return words[len(words)-1]
}

// newServer returns a server that has not been started.
func newServer(ctx context.Context, p peer, dir string) (*server, error) {
	s := &server{peer: p}
	var version []string
	s.name, version = p.about()
	if len(version) > 0 {
		if _, err := exec.LookPath(version[0]); err != nil {
			return nil, fmt.Errorf("%s is not installed (.ci/packages peers installs it): %w", s.name, err)
		}
		out, _ := exec.CommandContext(ctx, version[0], version[1:]...).CombinedOutput() // many exit with 1
		s.name += " " + versionIn(string(out))
	}
	for _, addr := range []*netip.AddrPort{&s.addr, &s.control, &s.tls} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		*addr = loopback(port)
	}
	name, _ := p.about()
	s.dir = filepath.Join(dir, name)
	if err := os.RemoveAll(s.dir); err != nil {
		return nil, err
	}
	return s, os.MkdirAll(s.dir, 0o755)
}
