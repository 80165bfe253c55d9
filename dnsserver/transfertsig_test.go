package dnsserver

import (
	"context"
	"encoding/base64"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"balefire/dnsserver/tsig"
	"balefire/store/storetest"
	"balefire/zones"
)

// holders of a key may transfer, and nobody else.
type holders zones.Name

func (h holders) Allows(d zones.Deed, _ zones.Name, _ zones.ZoneSettings, key zones.Name, _ netip.Addr) bool {
	return d == zones.DeedTransfer && key == zones.Name(h)
}

func (holders) Grants(_ zones.Name, settings zones.ZoneSettings) []zones.Grant {
	return settings.Grants
}

// TestSignedTransfers: all messages of a transfer are signed, each over the one before, and what is refused is, too; whether the zone is here or
// elsewhere.
func TestSignedTransfers(t *testing.T) {
	name, other := zones.MustParseName("to.secondaries."), zones.MustParseName("other.")
	secret := "a secret of thirty-two octets ..."
	ring := testKeys{
		name:  {Name: name, Algorithm: zones.HMACSHA256, Secret: []byte(secret)},
		other: {Name: other, Algorithm: zones.HMACSHA512, Secret: []byte(secret)},
	}
	p := startPrimary(t, Options{Access: holders(name), Keys: ring})
	p.apply(storetest.Create("example.org.", storetest.Set("www.example.org.", 60, zones.TypeA, "192.0.2.99")))
	p.www("example.org.", 1)
	p.heavy("heavy.org.", 40)
	front := startTLS(t, Options{
		Zones: elsewhereZones{newHosted(t)}, Contents: p.store, Access: holders(name), DistantTransfers: &distant{to: p}, Keys: ring,
	})
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))
	for what, s := range map[string]*Server{"here": p.Server, "elsewhere": front} {
		tr := dns.Transfer{DialTimeout: waitLimit, ReadTimeout: waitLimit, WriteTimeout: waitLimit, TsigSecret: map[string]string{name.String(): encoded}}
		q := axfr("heavy.org.").SetTsig(name.String(), dns.HmacSHA256, 300, p.opts.Now().Unix())
		in, err := tr.In(q, s.testAddr())
		if err != nil {
			t.Fatal(err)
		}
		var all []dns.RR
		messages := 0
		for e := range in {
			if e.Error != nil {
				t.Fatalf("%s: %v after %d messages", what, e.Error, messages)
			}
			all = append(all, e.RR...)
			messages++
		}
		if messages < 10 {
			t.Errorf("%s: %d messages are few", what, messages)
		}
		p.wantZone("heavy.org.", all)

		ask := func(network string, key tsig.Key, m *dns.Msg) *dns.Msg {
			t.Helper()
			algorithm := map[zones.Name]string{zones.HMACSHA256: dns.HmacSHA256, zones.HMACSHA512: dns.HmacSHA512}[key.Algorithm]
			client := &dns.Client{Net: network, Timeout: waitLimit, TsigSecret: map[string]string{key.Name.String(): encoded}}
			got, _, err := client.Exchange(m.SetTsig(key.Name.String(), algorithm, 300, p.opts.Now().Unix()), s.testAddr())
			if err != nil || got.IsTsig() == nil {
				t.Fatalf("%s over %s: %v %v", what, network, err, got)
			}
			return got
		}
		for _, network := range []string{"tcp", "udp"} {
			if m := ask(network, ring[other], ixfr("example.org.", 1)); m.Rcode != dns.RcodeRefused {
				t.Errorf("%s over %s: with another key: %v", what, network, m)
			}
			want := []string{"SOA 2", "SOA 1", "www 192.0.2.99", "SOA 2", "www 192.0.2.1", "SOA 2"}
			if text := shorts(ask(network, ring[name], ixfr("example.org.", 1)).Answer); !slices.Equal(text, want) {
				t.Errorf("%s over %s: %v", what, network, text)
			}
		}
		if m := dial(t, "tcp", s.testAddr()).ask(axfr("heavy.org.")); m.Rcode != dns.RcodeRefused {
			t.Errorf("%s: without a key: %v", what, m)
		}
	}

	_, port, err := net.SplitHostPort(p.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	_, tlsPort, err := net.SplitHostPort(p.testTLSAddr())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ command, want string }{
		{"dig @127.0.0.1 -p PORT -y hmac-sha256:to.secondaries:SECRET heavy.org AXFR", "XFR size: 44 records"},
		{"dig @127.0.0.1 -p PORT -y hmac-sha256:to.secondaries:SECRET example.org IXFR=1", "XFR size: 6 records"},
		{"dig @127.0.0.1 -p PORT -y hmac-sha512:other:SECRET example.org AXFR", "Transfer failed"},
		{"dig @127.0.0.1 -p TLS +tls -y hmac-sha256:to.secondaries:SECRET heavy.org AXFR", "XFR size: 44 records"},
		{"kdig @127.0.0.1 -p PORT -y hmac-sha256:to.secondaries:SECRET heavy.org AXFR", "44 records"},
	} {
		t.Run(tt.command, func(t *testing.T) {
			args := patient(strings.Fields(strings.NewReplacer("PORT", port, "TLS +", tlsPort+" +", "SECRET", encoded).Replace(tt.command)))
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			text := string(out)
			if err != nil || !strings.Contains(text, tt.want) || strings.Contains(text, "WARNING") || strings.Contains(text, "Couldn't verify") {
				t.Errorf("%v\n%.1000s\n…\n%s", err, text, text[max(0, len(text)-500):])
			}
		})
	}
}
