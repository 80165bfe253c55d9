package zonefile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"balefire/zones"
)

func readAll(t *testing.T, text string, opts Options) *Contents {
	t.Helper()
	c, err := Read(strings.NewReader(text), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func export(t *testing.T, c *Contents) string {
	t.Helper()
	var b bytes.Buffer
	err := Write(&b, c.Apex, func(yield func(zones.RRset, error) bool) {
		for _, s := range c.RRsets {
			if !yield(s, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const sample = `$ORIGIN Example.COM.
$TTL 1h
@  IN SOA ns1 hostmaster ( 2024010100 ; serial
      2h 15m
      4w 300 )
   NS ns1
   NS ns2.other.net.
ns1 300 IN A 192.0.2.1
    IN 300 AAAA 2001:db8::1
www CNAME ns1
txt TXT "a ; b" c\;d "q\"uote" \097
\000weird\.label A 192.0.2.9
sub.deep TYPE65280 \# 4 0A000001
mx MX 10 MAIL
srv SRV 0 5 5060 sip
*.wild A 192.0.2.3
*.wild A 192.0.2.3
a1 A \# 4 C0000207
`

func TestReadSample(t *testing.T) {
	c := readAll(t, sample, Options{File: "sample"})
	if got, want := c.Apex, zones.MustParseName("example.com."); got != want {
		t.Fatalf("apex %s, want %s", got, want)
	}
	out := export(t, c)
	for _, want := range []string{
		"example.com.\t3600\tIN\tSOA\tns1.example.com. hostmaster.example.com. 2024010100 7200 900 2419200 300\n",
		"ns1.example.com.\t300\tIN\tA\t192.0.2.1\n",
		"www.example.com.\t3600\tIN\tCNAME\tns1.example.com.\n",
		"\\000weird\\.label.example.com.\t3600\tIN\tA\t192.0.2.9\n",
		"sub.deep.example.com.\t3600\tIN\tTYPE65280\t\\# 4 0a000001\n",
		"mx.example.com.\t3600\tIN\tMX\t10 mail.example.com.\n",
		"a1.example.com.\t3600\tIN\tA\t192.0.2.7\n",
		`"a ; b" "c;d" "q\"uote" "a"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("export lacks %q in\n%s", want, out)
		}
	}
	if n := strings.Count(out, "192.0.2.3"); n != 1 {
		t.Errorf("a duplicate record was kept: %d", n)
	}
	again := readAll(t, out, Options{File: "again"})
	if export(t, again) != out {
		t.Error("what is written does not read back to itself")
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ text, place, msg string }{
		{"@ A 192.0.2.1\n", "1:1", "relative name"},
		{"$ORIGIN x.\n@ A 192.0.2.1\n", "2:1", "no TTL"},
		{"$ORIGIN x.\n$TTL 60\n  A 192.0.2.1\n", "3:3", "no owner"},
		{"$TTL 60\nx. A 192.0.2.300\n", "2:6", "not an IPv4 address"},
		{"$TTL 60\nx. AAAA 192.0.2.3\n", "2:9", "not an IPv6 address"},
		{"$TTL 60\nx. A 192.0.2.3 extra\n", "2:16", "unexpected"},
		{"$TTL 60\nx. MX ten mail.x.\n", "2:7", "ten"},
		{"$TTL 60\nx. NOPE 1\n", "2:4", "NOPE"},
		{"$TTL 60\nx. CH TXT a\n", "2:4", "only IN"},
		{"$TTL 60\nx. IN ANY\n", "2:7", "only in messages"},
		{"$TTL 60\nx. TXT \"open\n", "2:8", "quote"},
		{"$TTL 60\nx. TXT ( a\nb\n", "2:8", "parenthesis"},
		{"$TTL 60\nx. TXT a )\n", "2:10", "closing parenthesis"},
		{"$TTL 60\nx..y. A 192.0.2.1\n", "2:1", "empty label"},
		{"$TTL 60\n" + strings.Repeat("a", 64) + ". A 192.0.2.1\n", "2:1", "63 octets"},
		{"$TTL 60\n" + strings.Repeat("abcdefg.", 32) + " A 192.0.2.1\n", "2:1", "255 octets"},
		{"$TTL 60\n\\300. A 192.0.2.1\n", "2:1", "escape"},
		{"$TTL 2147483648\n", "1:6", "TTL"},
		{"x. 1x A 192.0.2.1\n", "1:4", "TTL"},
		{"$BOGUS 1\n", "1:1", "unknown directive"},
		{"$INCLUDE /etc/passwd\n", "1:1", "command line"},
		{"$TTL 60\n$GENERATE 1-70000 h$.x. A 192.0.2.1\n", "2:11", "70000"},
		{"$TTL 60\n$GENERATE 5-1 h$.x. A 192.0.2.1\n", "2:11", "range"},
		{"$TTL 60\n$GENERATE 1-40000 h$.x. A 192.0.2.1\n$GENERATE 1-40000 g$.x. A 192.0.2.1\n", "3:11", "still make"},
		{"$TTL 60\n$GENERATE 1-2 h${z}.x. A 192.0.2.1\n", "2:15", "offset"},
		{"$TTL 60\nx. TYPE65280 \\# 3 0a0b\n", "2:17", "octets"},
		{"$TTL 60\nx. A \\# 3 0a0b0c\n", "2:6", "malformed"},
		{"$TTL 60\nx. TYPE65280 hello\n", "2:14", "RFC 3597"},
		{"$TTL 60\nx. TXT a\\", "2:8", "backslash"},
		{"$TTL 60\nx. TXT a \"" + strings.Repeat("b", 252) + `\100\;cc` + "\"\n", "2:10", "256 octets"},
	} {
		_, err := Read(strings.NewReader(c.text), Options{File: "f"})
		var bad *Error
		if !errors.As(err, &bad) {
			t.Errorf("%q: error %v, want an *Error", c.text, err)
			continue
		}
		if !strings.HasPrefix(bad.Error(), "f:"+c.place+": ") || !strings.Contains(bad.Msg, c.msg) {
			t.Errorf("%q:\n  got  %v\n  want f:%s: …%s…", c.text, bad, c.place, c.msg)
		}
	}
}

func TestGenerate(t *testing.T) {
	c := readAll(t, "$TTL 60\n$ORIGIN x.\n$GENERATE 0-4/2 h${10,4,x} A 192.0.2.$\n$GENERATE 31-31 ${0,8,n} PTR p\\$$.x.\n", Options{})
	out := export(t, c)
	for _, want := range []string{"h000a.x.\t60\tIN\tA\t192.0.2.0", "h000e.x.\t60\tIN\tA\t192.0.2.4", "f.1.0.0.x.\t60\tIN\tPTR\tp\\$31.x."} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s", want, out)
		}
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	main, sub := filepath.Join(dir, "main.zone"), filepath.Join(dir, "sub.zone")
	for path, text := range map[string]string{
		main: "$TTL 60\n$ORIGIN x.\na A 192.0.2.1\n$INCLUDE sub.zone in\n  A 192.0.2.2\nb A 192.0.2.3\n",
		sub:  "c A 192.0.2.4\n$ORIGIN elsewhere.\nd A 192.0.2.5\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(main)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := Read(f, Options{File: main, AllowInclude: true})
	if err != nil {
		t.Fatal(err)
	}
	out := export(t, c)
	for _, want := range []string{"\na.x.\t60\tIN\tA\t192.0.2.1\na.x.\t60\tIN\tA\t192.0.2.2\n", "c.in.x.\t", "d.elsewhere.\t", "b.x.\t"} {
		if !strings.Contains(out, want) {
			t.Errorf("missing %q in\n%s", want, out)
		}
	}
	loop := filepath.Join(dir, "loop.zone")
	if err := os.WriteFile(loop, []byte("$INCLUDE loop.zone\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(strings.NewReader("$INCLUDE loop.zone\n"), Options{File: loop, AllowInclude: true}); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("a file that includes itself: %v", err)
	}
}

func TestMixedTTLsTakeTheLowest(t *testing.T) {
	c := readAll(t, "x. 60 A 192.0.2.1\nx. 30 A 192.0.2.2\n", Options{})
	if len(c.Warnings) != 1 || c.RRsets[0].TTL != 30 || c.RRsets[0].Len() != 2 {
		t.Errorf("got %+v, warnings %q", c.RRsets[0], c.Warnings)
	}
}

// Every type that the library knows goes out and in again to the same octets.
func TestRDataRoundTrip(t *testing.T) {
	for _, line := range []string{
		`A 192.0.2.1`, `AAAA 2001:db8::1`, `AAAA ::ffff:192.0.2.1`, `NS a.B.`, `SOA a. b. 1 2 3 4 5`, `MX 0 .`, `TXT "" "\000\255x\"y"`,
		`HINFO "PC" "a b"`, `RP a. b.`, `AFSDB 1 a.`, `SRV 1 2 3 a.`, `NAPTR 1 2 "u" "E2U+sip" "!^.*$!x!" .`,
		`LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m`, `DS 1 8 2 E2D3C916F6DEEAC73294E8268FB5885044A833FC5459588F4A9184CFC41A5766`,
		`SSHFP 1 1 dd465c09cfa51fb45020cc83316fff21b9ec74ac`, `TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971`,
		`CAA 0 issue "ca.example.net; policy=ev"`, `URI 10 1 "ftp://x/"`, `SVCB 1 a. alpn=h2,h3 port=53`, `HTTPS 0 a.`, `HTTPS 1 . ipv4hint=192.0.2.1 ech=AAAA`,
		`DNSKEY 257 3 8 AwEAAa==`, `NSEC a. A RRSIG NSEC TYPE1234`, `NSEC3 1 1 0 - 0p9mhaveqvm6t7vbl5lop2u3t2rp3tom A RRSIG`, `NSEC3PARAM 1 0 0 -`,
		`RRSIG A 8 2 300 20240101000000 20230101000000 12345 x. AAAA`, `APL 1:192.0.2.0/24 !2:2001:db8::/32`, `EUI48 00-00-5e-00-53-2a`, `OPENPGPKEY AAAA`,
		`CSYNC 66 3 A NS AAAA`, `ZONEMD 2018031500 1 1 C220B8A6ED5728A971902F7E3D4FD93ADEEA88B0453C2E8E8C863D465AB06CF34EB95B266398C98B59124FA239CB7EEB`,
		`IPSECKEY 10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==`, `HIP 2 200100107B1A74DF365639CC39F1D578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p9+LrV4e19WzK00+CI6zBCQTdtWsuxKbWIy87UOoJTwkUs7lBu+Upr1gsNrut79ryra+bSRGQb1slImA8YVJyuIDsj7kwzG7jnERNqnWxZ48AWkskmdHaVDP4BcelrTI3rMXdXF5D rvs.example.com.`,
		`TYPE65280 \# 0`, `TYPE65280 \# 2 ffff`, `CERT PKIX 1 RSASHA256 AAAA`, `KX 1 a.`, `DNAME a.`, `PTR a.`, `TKEYX`,
	} {
		name, text, _ := strings.Cut(line, " ")
		typ, err := zones.ParseType(name)
		if err != nil {
			continue // TKEYX: no such type
		}
		wire, err := ParseRData(typ, text, zones.Root)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		out := FormatRData(typ, wire)
		if strings.HasPrefix(out, `\#`) && !strings.HasPrefix(text, `\#`) {
			t.Errorf("%s: written as %q", line, out)
		}
		again, err := ParseRData(typ, out, "")
		if err != nil || !bytes.Equal(again, wire) {
			t.Errorf("%s: written as %q, read back: %x, %v; want %x", line, out, again, err, wire)
		}
	}
}

// The vocabulary's mnemonics are the library's.
func TestTypeNamesAgree(t *testing.T) {
	for code, name := range dns.TypeToString {
		if code == dns.TypeNone || code == dns.TypeReserved || code == dns.TypeNXNAME {
			continue
		}
		if got := zones.Type(code).String(); got != name {
			t.Errorf("type %d is %s here, %s in the library", code, got, name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(sample)
	f.Add("$TTL 1\n$GENERATE 1-3 ${1,2,n}.x. TXT \"$\"\n")
	f.Add("x. 1 TYPE65280 \\# 1 ff\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Read(strings.NewReader(text), Options{File: "f", Origin: zones.Root, GenerateBudget: 100})
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) || bad.Line < 1 {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		out := export(t, c)
		again, err := Read(strings.NewReader(out), Options{File: "again"})
		if err != nil {
			t.Fatalf("%v in what was written of %q:\n%s", err, text, out)
		}
		if len(again.RRsets) != len(c.RRsets) {
			t.Fatalf("%d RRsets read back of %d", len(again.RRsets), len(c.RRsets))
		}
		for i, s := range c.RRsets {
			if !s.Equal(again.RRsets[i]) {
				t.Fatalf("%s %s came back different:\n%s", s.Owner, s.Key, out)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	text, err := os.ReadFile("../../testdata/zones/root.zone")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r := NewReader(bytes.NewReader(text), Options{Origin: zones.Root})
		n := 0
		for _, err := r.Next(); err == nil; _, err = r.Next() {
			n++
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	}
}
