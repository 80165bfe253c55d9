package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// knot is Knot DNS.
type knot struct{}

func (knot) about() (string, []string) { return "Knot", []string{"knotd", "-V"} }

func (knot) start(_ context.Context, s *server, site site) error {
	var zones strings.Builder
	for _, z := range site.zones {
		zones.WriteString("  - domain: " + z.bare() + "\n    file: \"" + z.file + "\"\n")
	}
	journal, acl, remote, key, who := "none", "", "", "", "address: 127.0.0.1"
	if site.updates {
		journal, acl = "changes", "    acl: local\n"
	}
	if site.updateKey != "" {
		key = fmt.Sprintf("key:\n  - id: %s\n    algorithm: hmac-sha256\n    secret: %s\n", site.updateKey, updateSecret)
		who = "key: " + site.updateKey
	}
	if site.follower.IsValid() {
		remote = fmt.Sprintf("remote:\n  - id: follower\n    address: 127.0.0.1@%d\n", site.follower.Port())
		acl += "    notify: follower\n"
	}
	if err := os.MkdirAll(s.path("db"), 0o755); err != nil {
		return err
	}
	err := s.configure("knot.conf", `server:
  rundir: "%[2]s"
  listen: 127.0.0.1@%[1]d
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  tcp-max-clients: %[3]d
  tcp-idle-timeout: 3600
control:
  listen: "%[2]s/control"
database:
  storage: "%[2]s/db"
log:
  - target: stderr
    any: error
%[7]sacl:
  - id: local
    %[8]s
    action: [update, transfer]
%[9]stemplate:
  - id: default
    global-module: mod-cookies
    storage: "%[2]s"
    zonefile-sync: -1
    journal-content: %[4]s
    semantic-checks: off
%[5]szone:
%[6]s`, s.addr.Port(), s.dir, max(100, site.connections), journal, acl, zones.String(), key, who, remote)
	if err != nil {
		return err
	}
	return s.launch(site.cpu, nil, "knotd", "-c", s.path("knot.conf"))
}

// addZone adds the zone in a transaction of the configuration, which is in memory; a reload would read all zones' entries anew.
func (knot) addZone(ctx context.Context, s *server, z zone) error {
	for _, command := range [][]string{
		{"conf-begin"},
		{"conf-set", "zone[" + z.bare() + "]"},
		{"conf-set", "zone[" + z.bare() + "].file", z.file},
		{"conf-commit"},
	} {
		if err := output(ctx, append([]string{"knotc", "-s", s.path("control")}, command...)...); err != nil {
			return err
		}
	}
	return nil
}
