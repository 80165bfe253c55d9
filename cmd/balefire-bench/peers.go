package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// startNSD starts NSD with one zone.
func startNSD(dir, zoneFile string, cpu int) (*server, error) {
	s, port, err := newServer("NSD", dir, "nsd", "-v")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`server:
  ip-address: 127.0.0.1@%d
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "%[2]s"
  database: ""
  pidfile: "%[2]s/nsd.pid"
  xfrdfile: "%[2]s/xfrd.state"
  zonelistfile: "%[2]s/zone.list"
  logfile: "%[2]s/log"
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: %s
  zonefile: "%s"
`, port, s.dir, apex, zoneFile)
	path := filepath.Join(s.dir, "nsd.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return s, s.launch(cpu, nil, "nsd", "-d", "-c", path)
}

// startKnot starts Knot with one zone.
func startKnot(dir, zoneFile string, cpu int) (*server, error) {
	s, port, err := newServer("Knot", dir, "knotd", "-V")
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`server:
  rundir: "%[2]s"
  listen: 127.0.0.1@%[1]d
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "%[2]s/db"
log:
  - target: stderr
    any: warning
zone:
  - domain: %[3]s
    file: "%[4]s"
    zonefile-sync: -1
    journal-content: none
    semantic-checks: off
`, port, s.dir, apex, zoneFile)
	path := filepath.Join(s.dir, "knot.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		return nil, err
	}
	return s, s.launch(cpu, nil, "knotd", "-c", path)
}

func newServer(name, dir, program string, versionFlag string) (*server, uint16, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, 0, fmt.Errorf("%s is not installed (apt-get install it, or run make bench): %w", name, err)
	}
	port, err := freePort()
	if err != nil {
		return nil, 0, err
	}
	s := &server{name: name, version: versionOf(path, versionFlag), addr: loopback(port), dir: filepath.Join(dir, name)}
	return s, port, os.MkdirAll(s.dir, 0o755)
}
