package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// patience is what a stub resolver waits for an answer before it asks another server.
const patience = 3 * time.Second

var resolver = &dns.Client{Timeout: patience, UDPSize: 1232}

// ask asks a server one question. The error says that there is no answer, or one that says that the server doesn't know.
func ask(server, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	a, _, err := resolver.Exchange(q, server)
	if err != nil {
		return nil, err
	}
	if a.Rcode == dns.RcodeServerFailure {
		return nil, fmt.Errorf("SERVFAIL for %s", name)
	}
	return a, nil
}

// askNumber asks for what a name has counted up to. Unknown says that there is no answer, err what is wrong with the one
// that there is.
func askNumber(server, name string) (number int64, unknown, err error) {
	a, unknown := ask(server, name, dns.TypeTXT)
	switch {
	case unknown != nil:
		return 0, unknown, nil
	case a.Rcode != dns.RcodeSuccess || len(a.Answer) != 1 || !a.Authoritative:
		return 0, nil, fmt.Errorf("for %s, which always existed:\n%s", name, a)
	}
	txt, ok := a.Answer[0].(*dns.TXT)
	if !ok || len(txt.Txt) != 1 || !strings.EqualFold(txt.Hdr.Name, name) {
		return 0, nil, fmt.Errorf("for %s:\n%s", name, a)
	}
	number, err = strconv.ParseInt(txt.Txt[0], 10, 64)
	if err != nil {
		return 0, nil, fmt.Errorf("for %s:\n%s", name, a)
	}
	return number, nil, nil
}

// askAbsent asks for a name that never existed in a zone that always did.
func askAbsent(server, name, zone string) (unknown, err error) {
	a, unknown := ask(server, name, dns.TypeTXT)
	if unknown != nil {
		return unknown, nil
	}
	if a.Rcode != dns.RcodeNameError || len(a.Answer) != 0 || len(a.Ns) == 0 || a.Ns[0].Header().Rrtype != dns.TypeSOA ||
		!strings.EqualFold(a.Ns[0].Header().Name, zone) {
		return nil, fmt.Errorf("for %s, which never existed:\n%s", name, a)
	}
	return nil, nil
}

// wholeZone is replaced whole, again and again: each record of a generation carries its number.
const wholeZone = "whole.chaos.test."

const wholeRecords = 150

// wholeText is a generation of it.
func wholeText(g int64) string {
	var text strings.Builder
	fmt.Fprintf(&text, "$ORIGIN %s\n$TTL 60\n@ SOA ns1 hostmaster 1 7200 900 1209600 300\n@ NS ns1\nns1 A 192.0.2.1\n", wholeZone)
	fmt.Fprintf(&text, "@ MX %d m%d\nm%d A 10.%d.%d.%d\n", g&0xffff, g, g, g>>16&255, g>>8&255, g&255)
	for i := range wholeRecords {
		fmt.Fprintf(&text, "x%d TXT \"%d\"\n", i, g)
	}
	return text.String()
}

// askWhole asks for what is of two records, and compares their generations.
func askWhole(server string) (g int64, unknown, err error) {
	a, unknown := ask(server, wholeZone, dns.TypeMX)
	if unknown != nil {
		return 0, unknown, nil
	}
	if a.Rcode != dns.RcodeSuccess || len(a.Answer) != 1 || len(a.Extra) == 0 {
		return 0, nil, fmt.Errorf("for the MX of %s, which always had one:\n%s", wholeZone, a)
	}
	mx, ok := a.Answer[0].(*dns.MX)
	if !ok {
		return 0, nil, fmt.Errorf("for the MX of %s:\n%s", wholeZone, a)
	}
	for _, rr := range a.Extra {
		address, ok := rr.(*dns.A)
		if !ok {
			continue
		}
		ip := address.A.To4()
		g = int64(ip[1])<<16 | int64(ip[2])<<8 | int64(ip[3])
		if ip[0] != 10 || g&0xffff != int64(mx.Preference) || !strings.EqualFold(address.Hdr.Name, mx.Mx) {
			return 0, nil, fmt.Errorf("of two generations:\n%s", a)
		}
	}
	return g, nil, nil
}

// checkWholeText reads an exported zone, whose records must all be of one generation.
func checkWholeText(text string) (g int64, err error) {
	found := 0
	g = -1
	z := dns.NewZoneParser(strings.NewReader(text), "", "")
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		txt, ok := rr.(*dns.TXT)
		if !ok || len(txt.Txt) != 1 {
			continue
		}
		marker, err := strconv.ParseInt(txt.Txt[0], 10, 64)
		if err != nil {
			return 0, err
		}
		if g < 0 {
			g = marker
		}
		if marker != g {
			return 0, fmt.Errorf("of generations %d and %d:\n%s", g, marker, text)
		}
		found++
	}
	if err := z.Err(); err != nil {
		return 0, err
	}
	if found != wholeRecords {
		return 0, fmt.Errorf("%d of %d records of generation %d", found, wholeRecords, g)
	}
	return g, nil
}
