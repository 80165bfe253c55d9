package dnsserver

import (
	"net/netip"

	"balefire/dnsserver/wire"
	"balefire/zones"
)

// serveTransfer answers AXFR and IXFR: to nobody.
func (x *exchange) serveTransfer(_ []byte, _ netip.Addr, dst []byte) []byte {
	if x.query.Type == zones.TypeAXFR && x.via == overUDP { // RFC 5936 §4.2
		return x.refuse(dst, wire.NotImp, wire.NoExtendedError)
	}
	return x.refuse(dst, wire.Refused, wire.EDEProhibited)
}
