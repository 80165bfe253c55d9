package dnsserver

import (
	"net/netip"

	"balefire/dnsserver/wire"
)

// serveNotify answers a NOTIFY: from nobody (RFC 1996 §3.10).
func (x *exchange) serveNotify(_ []byte, _ netip.Addr, dst []byte) []byte {
	return x.refuse(dst, wire.Refused, wire.EDEProhibited)
}
