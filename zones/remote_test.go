package zones

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestRemoteCheck(t *testing.T) {
	lab := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct {
		address string
		want    error // without exceptions
		inLab   error // with those of lab
	}{
		{"192.0.2.1:53", nil, nil},
		{"10.0.0.1:53", nil, nil}, // servers do have private addresses
		{"192.168.1.1:5353", nil, nil},
		{"[2001:db8::1]:853", nil, nil},
		{"[fd00::1]:53", nil, nil},
		{"192.0.2.1:0", ErrRemoteAddress, ErrRemoteAddress},
		{"[fe80::1%eth0]:53", ErrRemoteAddress, ErrRemoteAddress},
		{"127.0.0.1:53", ErrRemoteForbidden, nil},
		{"127.255.3.4:53", ErrRemoteForbidden, nil},
		{"[::1]:53", ErrRemoteForbidden, nil},
		{"[::ffff:127.0.0.1]:53", ErrRemoteForbidden, nil}, // the same address
		{"[::ffff:192.0.2.1]:53", nil, nil},
		{"[::ffff:169.254.169.254]:80", ErrRemoteForbidden, ErrRemoteForbidden},
		{"[::ffff:0.1.2.3]:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"[::ffff:255.255.255.255]:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"169.254.169.254:80", ErrRemoteForbidden, ErrRemoteForbidden},
		{"[fe80::1]:53", ErrRemoteForbidden, nil},
		{"0.0.0.0:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"0.1.2.3:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"[::]:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"[::127.0.0.1]:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"224.0.0.251:5353", ErrRemoteForbidden, ErrRemoteForbidden},
		{"239.1.1.1:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"255.255.255.255:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"240.0.0.1:53", ErrRemoteForbidden, ErrRemoteForbidden},
		{"[ff02::fb]:5353", ErrRemoteForbidden, ErrRemoteForbidden},
		{"[fec0::1]:53", ErrRemoteForbidden, ErrRemoteForbidden},
	} {
		r := Remote{Addr: netip.MustParseAddrPort(c.address)}
		if err := r.Check(nil); !errors.Is(err, c.want) || err == nil != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.address, err, c.want)
		}
		if err := r.Check(lab); !errors.Is(err, c.inLab) || err == nil != (c.inLab == nil) {
			t.Errorf("%s with exceptions: %v, want %v", c.address, err, c.inLab)
		}
	}
	if err := (Remote{}).Check(nil); !errors.Is(err, ErrRemoteAddress) {
		t.Errorf("no address: %v", err)
	}
}

func TestRemoteCheckTLSName(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:853")
	for name, ok := range map[string]bool{
		"": true, "ns1.example.com": true, "ns1.example.com.": true, "xn--bcher-kva.example": true, "_dns.example": true,
		".": false, "a..b": false, "-a.example": false, "a-.example": false, "a b": false, "bücher.example": false,
		strings.Repeat("a", 64) + ".example": false, strings.Repeat("abcdefg.", 32) + "x": false,
	} {
		if err := (Remote{Addr: at, TLS: true, TLSName: name}).Check(nil); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := (Remote{Addr: at, TLSName: "ns1.example.com"}).Check(nil); !errors.Is(err, ErrRemoteTLSName) {
		t.Errorf("a name without TLS: %v", err)
	}
}
