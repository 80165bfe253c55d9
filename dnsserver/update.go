package dnsserver

import (
	"net/netip"

	"balefire/dnsserver/wire"
)

// serveUpdate answers an UPDATE: from nobody (RFC 2136 §3.3).
func (x *exchange) serveUpdate(_ []byte, _ netip.Addr, dst []byte) []byte {
	return x.refuse(dst, wire.Refused, wire.EDEProhibited)
}
