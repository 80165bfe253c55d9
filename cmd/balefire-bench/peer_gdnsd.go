package main

import (
	"context"
	"io"
	"os"
)

// gdnsd is gdnsd. It knows no DNSSEC, and answers a CNAME without what it leads to.
type gdnsd struct{}

func (gdnsd) about() (string, []string) { return "gdnsd", []string{"gdnsd", "version"} }

func (gdnsd) start(_ context.Context, s *server, site site) error {
	if err := os.MkdirAll(s.path("zones"), 0o755); err != nil {
		return err
	}
	for _, z := range site.zones {
		if z.signed {
			continue
		}
		if err := linkZone(z, s.path("zones/"+z.bare())); err != nil {
			return err
		}
	}
	err := s.configure("config", `options => {
  listen => "%s"
  udp_threads => 1
  tcp_threads => 1
  tcp_clients_per_thread => %d
  tcp_timeout => 1800
  run_dir => "%s/run"
  state_dir => "%s/state"
}
`, s.addr, min(max(256, site.connections), 65535), s.dir, s.dir)
	if err != nil {
		return err
	}
	return s.launch(site.cpu, nil, "gdnsd", "-c", s.dir, "start")
}

// addZone gives the zone to gdnsd, which goes through all of them.
func (gdnsd) addZone(ctx context.Context, s *server, z zone) error {
	if err := linkZone(z, s.path("zones/"+z.bare())); err != nil {
		return err
	}
	return output(ctx, "gdnsdctl", "-c", s.dir, "reload-zones")
}

// linkZone gives a zone's file another name: by a link, since there may be a million.
func linkZone(z zone, path string) error { return os.Link(z.file, path) }

// copyZone copies a zone's file.
func copyZone(z zone, path string) error {
	from, err := os.Open(z.file)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(path)
	if err != nil {
		return err
	}
	defer to.Close() // again, after an error
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Close()
}
