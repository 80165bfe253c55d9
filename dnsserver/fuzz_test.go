package dnsserver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// FuzzServe: no packet makes the server panic, and each reply can be read and is within its limit.
func FuzzServe(f *testing.F) {
	for _, odd := range oddPackets(f) {
		f.Add(odd.packet)
	}
	x, queries := warm(f)
	for _, q := range queries {
		f.Add(q)
	}
	x.settings.rate = rate{}
	x.mayWait = true
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, via := range []transport{overUDP, overTCP, overTLS} {
			x.via = via
			reply, _ := x.serve(packet, netip.MustParseAddr("192.0.2.1"), nil)
			if x.server.panics.Load() != 0 {
				t.Fatal("it panicked")
			}
			if len(reply) == 0 {
				continue
			}
			if via == overUDP && len(reply) > 1232 {
				t.Fatalf("%d octets over UDP", len(reply))
			}
			var m dns.Msg
			if err := m.Unpack(reply); err != nil {
				t.Fatalf("%v in %x", err, reply)
			}
		}
	})
}
