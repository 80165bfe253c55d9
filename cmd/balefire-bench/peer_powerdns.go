package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// powerDNS is PowerDNS with its bind backend, and where zones are to be changed with gsqlite3, which its API needs.
type powerDNS struct{}

func (powerDNS) about() (string, []string) { return "PowerDNS", []string{"pdns_server", "--version"} }

const sqliteSchema = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql"

// prepare makes the databases that there have to be.
func (powerDNS) prepare(ctx context.Context, s *server, site site) error {
	if err := configurePowerDNS(s, site); err != nil {
		return err
	}
	if site.updates {
		if err := output(ctx, "sqlite3", s.path("zones.db"), ".read "+sqliteSchema); err != nil {
			return err
		}
		for _, z := range site.zones {
			if err := output(ctx, "pdnsutil", "--config-dir="+s.dir, "load-zone", z.bare(), z.file); err != nil {
				return err
			}
		}
		return nil
	}
	for _, z := range site.zones {
		if !z.signed {
			continue
		}
		if _, err := os.Stat(s.path("dnssec.db")); err != nil {
			if err := output(ctx, "pdnsutil", "--config-dir="+s.dir, "create-bind-db", s.path("dnssec.db")); err != nil {
				return err
			}
		}
		if err := output(ctx, "pdnsutil", "--config-dir="+s.dir, "set-presigned", z.bare()); err != nil {
			return err
		}
	}
	return nil
}

// configurePowerDNS writes its configuration.
func configurePowerDNS(s *server, site site) error {
	var zones strings.Builder
	backend := "loglevel=3\nlaunch=bind\nbind-config=" + s.path("zones.conf") + "\n"
	for _, z := range site.zones {
		fmt.Fprintf(&zones, "zone \"%s\" { type master; file \"%s\"; };\n", z.bare(), z.file)
		if z.signed {
			backend += "bind-dnssec-db=" + s.path("dnssec.db") + "\n"
		}
	}
	if site.updates {
		backend = fmt.Sprintf("loglevel=0\nlaunch=gsqlite3\ngsqlite3-database=%s\nwebserver=yes\nwebserver-address=127.0.0.1\nwebserver-port=%d\nwebserver-loglevel=none\napi=yes\napi-key=%s\n",
			s.path("zones.db"), s.control.Port(), token)
	}
	if err := s.configure("zones.conf", "%s", zones.String()); err != nil {
		return err
	}
	return s.configure("pdns.conf", `local-address=127.0.0.1
local-port=%d
socket-dir=%s
receiver-threads=1
distributor-threads=1
max-tcp-connections=%d
tcp-idle-timeout=3600
edns-cookie-secret=62616c65666972656265636e636d6172
security-poll-suffix=
log-dns-details=no
guardian=no
daemon=no
disable-syslog=yes
%s`, s.addr.Port(), s.dir, max(20, site.connections), backend)
}

func (powerDNS) start(_ context.Context, s *server, site site) error {
	return s.launch(site.cpu, nil, "pdns_server", "--config-dir="+s.dir)
}

func (powerDNS) addZone(ctx context.Context, s *server, z zone) error {
	file, err := filepath.Abs(z.file)
	if err != nil {
		return err
	}
	return output(ctx, "pdns_control", "--config-dir="+s.dir, "bind-add-zone", z.bare(), file)
}
