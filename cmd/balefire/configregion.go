package main

import (
	"encoding/base64"
	"net"
	"net/netip"
	"slices"
)

// gossipKeySizes are those of AES.
var gossipKeySizes = []int{16, 24, 32}

// key returns the octets of gossip's key; nil when there is none.
func (g GossipConfig) key() []byte {
	key, err := base64.StdEncoding.DecodeString(g.Key)
	if err != nil || len(key) == 0 {
		return nil
	}
	return key
}

// validateRegion finds what is wrong between the options by which the nodes of a region know, and ask, each other.
func (c *Config) validateRegion(add func(key, format string, args ...any)) {
	g, r := c.Gossip, c.Relay
	if key, err := base64.StdEncoding.DecodeString(g.Key); err != nil || len(key) > 0 && !slices.Contains(gossipKeySizes, len(key)) {
		add("gossip.key", "is no base64 of 16, 24 or 32 octets: `openssl rand -base64 32` makes one")
	}
	if g.Listen == "" && (g.Advertise != "" || len(g.Join) > 0 || g.Key != "") {
		add("gossip.listen", "is empty, but there are other settings of gossip: want HOST:PORT")
	}
	if g.Listen != "" && len(c.Brokers) == 0 {
		add("gossip.listen", "is there, but the log is embedded, which is for one node alone: want brokers, too")
	}
	if unreachable(g.Listen) && g.Advertise == "" {
		add("gossip.advertise", "is empty, and gossip.listen, %s, is no address that others could reach: want HOST:PORT", g.Listen)
	}
	if r.Listen == "" && (r.Advertise != "" || r.CA != "" || r.Cert != "" || r.Key != "") {
		add("relay.listen", "is empty, but there are other settings of the relay: want HOST:PORT")
	}
	if r.Listen == "" {
		return
	}
	if g.Listen == "" {
		add("gossip.listen", "is empty, but without it relay.listen knows of no other node: want HOST:PORT")
	}
	if unreachable(r.Listen) && r.Advertise == "" {
		add("relay.advertise", "is empty, and relay.listen, %s, is no address that others could reach: want HOST:PORT", r.Listen)
	}
	if given := r.CA != ""; given != (r.Cert != "") || given != (r.Key != "") {
		add("relay.tls-ca", "relay.tls-cert and relay.tls-key belong together: want all three, or none")
	}
	if g.Key == "" && r.CA == "" && !(isLoopback(r.Listen) && isLoopback(g.Listen)) {
		add("gossip.key", "is empty: without it, and without relay.tls-ca, anyone could pose as a node, so gossip.listen and relay.listen must be loopback addresses")
	}
}

// unreachable reports whether an address names all addresses of the machine, which nobody can be told to connect to.
func unreachable(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
