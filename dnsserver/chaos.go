package dnsserver

import (
	"errors"

	"balefire/dnsserver/wire"
	"balefire/zones"
	"balefire/zones/answer"
)

// The names of class CH that tell about the server (RFC 4892 §2.1, and BIND's older ones).
var (
	idServer      = zones.MustParseName("id.server.")
	hostnameBind  = zones.MustParseName("hostname.bind.")
	versionServer = zones.MustParseName("version.server.")
	versionBind   = zones.MustParseName("version.bind.")
)

// chaosText returns the TXT that says text; a zero RRset when it is empty.
func chaosText(text string) (zones.RRset, error) {
	if text == "" {
		return zones.RRset{}, nil
	}
	if len(text) > 255 {
		return zones.RRset{}, errors.New("longer than 255 octets")
	}
	return zones.NewRRset(zones.Root, zones.TypeTXT, 0, append([]byte{byte(len(text))}, text...))
}

// chaos answers in class CH: without AA, as nothing there is a zone.
func (x *exchange) chaos(dst []byte) []byte {
	var text zones.RRset
	switch x.query.Name {
	case idServer, hostnameBind:
		text = x.settings.identity
	case versionServer, versionBind:
		text = x.settings.version
	}
	if text.IsZero() || x.query.Type != zones.TypeTXT {
		return x.refuse(dst, wire.Refused, wire.NoExtendedError)
	}
	x.answer.Reset()
	x.answer.Entries = append(x.answer.Entries, answer.Entry{RRset: text.WithOwner(x.query.Name)})
	return x.append(dst, &x.answer)
}
