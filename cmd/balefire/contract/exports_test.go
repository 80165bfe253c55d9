package contract

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// trickyZone has what makes writers of zone files stumble: every way to escape, the longest labels and names, types
// of all kinds, names that do not exist by themselves, and RRsets larger than a message over UDP.
func trickyZone() string {
	var z strings.Builder
	z.WriteString(`$ORIGIN tricky.example.
$TTL 3600
@ IN SOA ns1 host\.master ( 4294967295 7200 900 1209600 300 )
@ NS ns1
@ NS NS2.Tricky.EXAMPLE.
ns1 A 192.0.2.1
ns2 AAAA 2001:DB8:0:0:0:0:0:1
MiXeD.CaSe A 192.0.2.2
a.b.c.d.e.f TXT "below names that do not exist by themselves"
*.wild TXT "any"
*.under.*.wild A 192.0.2.3
dot\.in\.label A 192.0.2.4
back\\slash A 192.0.2.5
quote\"quote A 192.0.2.6
semi\;colon A 192.0.2.7
paren\(\) A 192.0.2.8
at\@at A 192.0.2.9
dollar\$dollar A 192.0.2.10
space\032space A 192.0.2.11
nul\000nul A 192.0.2.12
high\200\255 A 192.0.2.13
tab\009newline\010 A 192.0.2.14
\045starts-with-minus A 192.0.2.15
\* A 192.0.2.16
_sip._tcp SRV 10 60 5060 dot\.in\.label
txt TXT "" "a" "with \"quotes\"" "back\\slash" "\000\001\127\128\255" "semi;colon ( paren"
`)
	label := strings.Repeat("a", 63)
	fmt.Fprintf(&z, "%s A 192.0.2.17\n", label)
	// tricky.example. has 16 octets; three labels of 64 and one of 47 with its length make 255.
	fmt.Fprintf(&z, "%s.%s.%s.%s A 192.0.2.18\n", label, label, label, strings.Repeat("b", 46))
	fmt.Fprintf(&z, "longtarget CNAME %s.%s.%s.%s\n", label, label, label, strings.Repeat("b", 46))
	fmt.Fprintf(&z, "longtxt TXT %s\n", strings.TrimSpace(strings.Repeat(`"`+strings.Repeat("x", 255)+`" `, 20)))
	for i := range 90 {
		fmt.Fprintf(&z, "many A 198.51.100.%d\nmany AAAA 2001:db8::%x\n", i, i)
	}
	z.WriteString(`types 60 MX 10 mail
types 60 MX 0 .
types 60 PTR ptr
types 60 HINFO "a cpu" os
types 60 RP mbox.rp txt.rp
types 60 AFSDB 1 afs
types 60 LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
types 60 NAPTR 100 50 "s" "z3950+I2L+I2C" "!^.*$!x!" _z3950._tcp
types 60 KX 10 kx
types 60 CERT PGP 0 0 aGVsbG8=
types 60 SSHFP 2 1 123456789ABCDEF67890123456789ABCDEF67890
types 60 TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
types 60 SMIMEA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
types 60 CAA 128 issue "ca.example; account=1"
types 60 URI 10 1 "https://example.com/a?b=c;d"
types 60 EUI48 00-00-5e-00-53-2a
types 60 EUI64 00-00-5e-ef-10-00-00-2a
types 60 SVCB 1 svc alpn="h2,h3" port=8443 ipv4hint=192.0.2.1,192.0.2.2 key65333=ex2
types 60 HTTPS 1 . alpn=h2 ipv6hint=2001:db8::1
types 60 OPENPGPKEY aGVsbG8gd29ybGQ=
types 60 CSYNC 66 3 A NS AAAA
types 60 DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=
types 60 APL 1:192.0.2.0/24 !2:2001:db8::/32
types 60 TYPE65280 \# 4 0A000001
types 60 TYPE1234 \# 0
dname DNAME elsewhere.example.net.
sub NS ns.sub
sub NS ns.sibling
sub DS 59747 8 2 44388b3de9a22cafa8a12883f60a0f984472d0dfef0f63ed59a29be018658b28
ns.sub A 192.0.2.20
sibling NS ns.sibling
ns.sibling AAAA 2001:db8::20
glue.below.sub A 192.0.2.21
c1 CNAME c2
c2 CNAME c1
`)
	return z.String()
}

// TestExportsAreAccepted by the readers of BIND and NLnet Labs, which find in them what they find in the file that was
// imported; and by ourselves, who then find nothing to change.
func TestExportsAreAccepted(t *testing.T) {
	t.Parallel()
	n := start(t)
	dir := t.TempDir()
	files := map[string]string{"tricky.example.": write(t, dir, "tricky.example.zone", trickyZone()), ".": rootZone}
	samples, err := filepath.Glob(sampleZones + "/*.zone")
	if err != nil || len(samples) < 3 {
		t.Fatalf("%d sample zones: %v", len(samples), err)
	}
	for _, file := range samples {
		files[strings.TrimSuffix(filepath.Base(file), "zone")] = file // with its final dot
	}
	for _, file := range []string{"nsec", "optout"} {
		path := "../../../testdata/answers/" + file + ".zone"
		checked := jsonOf[[]importResult](n, "zone", "check", path)
		files[checked[0].Zone] = path
	}
	for apex, file := range files {
		t.Run(apex, func(t *testing.T) {
			args := []string{"zone", "import", file}
			if apex == "." {
				args = append(args, "--origin", ".")
			}
			n.cli(args...)
			out := filepath.Join(t.TempDir(), "exported.zone")
			n.cli("zone", "export", apex, "--file", out)
			lenient := []string{"-i", "none", "-k", "ignore", "-n", "ignore", "-m", "ignore", "-M", "ignore", "-S", "ignore", "-r", "ignore"}
			tool(t, "named-checkzone", append(lenient, apex, out)...)
			tool(t, "ldns-read-zone", "-c", out)
			if got, want := compiled(t, apex, out), compiled(t, apex, file); got != want {
				t.Errorf("to BIND it is another zone: %s", difference(got, want))
			}
			// ldns knows no $GENERATE, so it reads what BIND made of the file.
			expanded := filepath.Join(t.TempDir(), "expanded.zone")
			tool(t, "named-compilezone", append(lenient, "-q", "-s", "full", "-o", expanded, apex, file)...)
			if got, want := canonical(t, out), canonical(t, expanded); got != want {
				t.Errorf("to ldns it is another zone: %s", difference(got, want))
			}
			n.cli("zone", "diff", apex, out)
			contains(t, "the export, imported again", n.cli("zone", "import", out), apex+": unchanged")
		})
	}
}

// TestTrickyAnswers: dig shows what named-compilezone read of the same file.
func TestTrickyAnswers(t *testing.T) {
	t.Parallel()
	n := start(t)
	file := write(t, t.TempDir(), "tricky.example.zone", trickyZone())
	n.cli("zone", "import", file)
	all := compiled(t, "tricky.example.", file)
	asked := map[string]bool{}
	for line := range strings.Lines(all) {
		fields := strings.Fields(line)
		owner, rtype := fields[0], fields[3]
		if asked[owner+" "+rtype] || strings.Contains(owner, "sub.") || strings.HasPrefix(owner, "sub.") || strings.HasPrefix(owner, "sibling") || strings.Contains(owner, ".sibling") {
			continue // delegated: not answered from here
		}
		asked[owner+" "+rtype] = true
		var want []string
		for other := range strings.Lines(all) {
			if f := strings.Fields(other); f[0] == owner && f[3] == rtype {
				want = append(want, strings.Join(f, " "))
			}
		}
		out := n.dig("+noall", "+answer", "+norec", "-q", owner, "-t", rtype)
		answer := strings.ToLower(strings.Join(strings.Fields(out), " "))
		for _, w := range want {
			if !strings.Contains(answer, w) {
				t.Errorf("%s %s: no %q in %q", owner, rtype, w, answer)
			}
		}
	}
	if len(asked) < 50 {
		t.Errorf("only %d questions", len(asked))
	}
}
