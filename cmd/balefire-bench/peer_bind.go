package main

import (
	"context"
	"fmt"
	"strings"
)

// bind is BIND's named.
type bind struct{}

func (bind) about() (string, []string) { return "BIND", []string{"named", "-v"} }

func (bind) start(_ context.Context, s *server, site site) error {
	update, updateClause := "", ""
	switch {
	case site.updateKey != "":
		update = fmt.Sprintf(" allow-update { key \"%s\"; };", site.updateKey)
		updateClause = fmt.Sprintf("key \"%s\" { algorithm hmac-sha256; secret \"%s\"; };", site.updateKey, updateSecret)
	case site.updates:
		update = " allow-update { 127.0.0.1; };"
	}
	notify := "no;"
	if site.follower.IsValid() { // it would wait for 5 seconds before it tells of the next change
		notify = fmt.Sprintf("explicit; notify-delay 0; also-notify { 127.0.0.1 port %d; };", site.follower.Port())
	}
	var zones strings.Builder
	for i, z := range site.zones {
		file := z.file
		if site.updates { // it writes its journal beside
			file = s.path(fmt.Sprintf("%d.zone", i))
			if err := copyZone(z, file); err != nil {
				return err
			}
		}
		fmt.Fprintf(&zones, "zone \"%s\" { type primary; file \"%s\";%s };\n", z.bare(), file, update)
	}
	secure := ""
	if site.cert != "" {
		secure = fmt.Sprintf("listen-on port %d tls bench { 127.0.0.1; };", s.tls.Port())
		fmt.Fprintf(&zones, "tls bench { cert-file \"%s\"; key-file \"%s\"; };\n", site.cert, site.key)
	}
	// The key is for this run and this machine's loopback only.
	const key = `key "bench" { algorithm hmac-sha256; secret "YmVuY2htYXJrLWJlbmNobWFyay1iZW5jaG1hcms="; };`
	if err := s.configure("rndc.conf", "%s\noptions { default-key \"bench\"; default-server 127.0.0.1; default-port %d; };\n", key, s.control.Port()); err != nil {
		return err
	}
	err := s.configure("named.conf", `options {
  directory "%[2]s";
  pid-file "%[2]s/named.pid";
  session-keyfile "%[2]s/session.key";
  listen-on port %[1]d { 127.0.0.1; };
  %[7]s
  listen-on-v6 { none; };
  recursion no;
  minimal-responses yes;
  allow-new-zones yes;
  tcp-clients %[3]d;
  tcp-initial-timeout 1200;
  tcp-idle-timeout 1200;
  notify %[8]s
  querylog no;
  dnssec-validation no;
  empty-zones-enable no;
};
logging { channel errors { stderr; severity error; }; category default { errors; }; };
%[4]s
controls { inet 127.0.0.1 port %[5]d allow { 127.0.0.1; } keys { "bench"; }; };
%[6]s`, s.addr.Port(), s.dir, max(150, site.connections), key+"\n"+updateClause, s.control.Port(), zones.String(), secure, notify)
	if err != nil {
		return err
	}
	return s.launch(site.cpu, nil, "named", "-f", "-n", "1", "-c", s.path("named.conf"))
}

func (bind) addZone(ctx context.Context, s *server, z zone) error {
	return output(ctx, "rndc", "-c", s.path("rndc.conf"), "addzone", z.bare(), fmt.Sprintf("{ type primary; file \"%s\"; };", z.file))
}
