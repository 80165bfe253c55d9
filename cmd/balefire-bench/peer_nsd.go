package main

import (
	"context"
	"fmt"
	"strings"
)

// nsd is NSD.
type nsd struct{}

func (nsd) about() (string, []string) { return "NSD", []string{"nsd", "-v"} }

func (nsd) start(_ context.Context, s *server, site site) error {
	var zones strings.Builder
	for _, z := range site.zones {
		zones.WriteString("zone:\n  name: " + z.bare() + "\n  zonefile: \"" + z.file + "\"\n")
		if site.follower.IsValid() {
			zones.WriteString("  provide-xfr: 127.0.0.1 NOKEY\n")
		}
	}
	secure := ""
	if site.cert != "" {
		secure = fmt.Sprintf("ip-address: 127.0.0.1@%[1]d\n  tls-port: %[1]d\n  tls-service-pem: \"%[2]s\"\n  tls-service-key: \"%[3]s\"", s.tls.Port(), site.cert, site.key)
	}
	// Once half of tcp-count is in use, NSD ends idle connections after 200 ms.
	err := s.configure("nsd.conf", `server:
  ip-address: 127.0.0.1@%[1]d
  %[5]s
  server-count: 1
  tcp-count: %[2]d
  tcp-timeout: 3600
  minimal-responses: yes
  answer-cookie: yes
  rrl-ratelimit: 0
  verbosity: 0
  username: ""
  chroot: ""
  database: ""
  zonesdir: "%[3]s"
  pidfile: "%[3]s/nsd.pid"
  xfrdfile: "%[3]s/xfrd.state"
  zonelistfile: "%[3]s/zone.list"
  logfile: "%[3]s/log"
remote-control:
  control-enable: yes
  control-interface: "%[3]s/control"
pattern:
  name: added
  zonefile: "%[3]s/%%s.zone"
%[4]s`, s.addr.Port(), max(100, 2*site.connections), s.dir, zones.String(), secure)
	if err != nil {
		return err
	}
	return s.launch(site.cpu, nil, "nsd", "-d", "-c", s.path("nsd.conf"))
}

func (nsd) addZone(ctx context.Context, s *server, z zone) error {
	if err := linkZone(z, s.path(z.bare()+".zone")); err != nil {
		return err
	}
	return output(ctx, "nsd-control", "-c", s.path("nsd.conf"), "addzone", z.bare(), "added")
}
