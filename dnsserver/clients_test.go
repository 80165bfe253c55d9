package dnsserver

import (
	"context"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// patient has dig and kdig, which are some command's first word, wait longer for an answer than they would.
func patient(command []string) []string {
	switch command[0] {
	case "dig":
		return slices.Insert(command, 1, "+tries=1", "+time=60")
	case "kdig":
		return slices.Insert(command, 1, "+time=60")
	}
	return command
}

// TestRealClients asks with dig, kdig and drill, of the Debian packages bind9-dnsutils, knot-dnsutils and ldnsutils.
func TestRealClients(t *testing.T) {
	s := start(t, Options{Listen: []string{"0.0.0.0:0"}, Settings: Settings{
		Identity: "node-1", NSID: "node-1", CookieSecrets: []CookieSecret{{1}}, RequireCookies: true,
	}})
	_, port, err := net.SplitHostPort(s.testAddr())
	if err != nil {
		t.Fatal(err)
	}
	const www = "www.example.com"
	tests := []struct {
		command string
		want    []string
		not     []string
	}{
		// dig sends a client cookie, learns the server's from BADCOOKIE, and asks again.
		{"dig @127.0.0.1 -p PORT " + www + " A", []string{"status: NOERROR", "flags: qr aa rd;", "192.0.2.80", "192.0.2.81", "COOKIE:", "(good)", "udp: 1232"}, []string{"Warning", "malformed"}},
		{"dig @127.0.0.1 -p PORT +norec +nsid +dnssec " + www + " A", []string{"NSID:", "node-1", "flags: do"}, []string{"Warning"}},
		{"dig @127.0.0.1 -p PORT +tcp +keepopen huge.example.com A", []string{"ANSWER: 3000"}, []string{"Warning"}},
		{"dig @127.0.0.1 -p PORT huge.example.com A", []string{"Truncated, retrying in TCP", "ANSWER: 3000"}, nil},
		{"dig @127.0.0.1 -p PORT CH TXT id.server", []string{`"node-1"`}, nil},
		{"dig @127.0.0.1 -p PORT example.com AXFR", []string{"Transfer failed"}, nil},
		{"dig @127.0.0.1 -p PORT +header-only +noedns", []string{"FORMERR"}, nil},
		{"dig @127.0.0.1 -p PORT +header-only +cookie", []string{"NOERROR", "COOKIE:"}, nil},
		{"dig @127.0.0.1 -p PORT +edns=1 +noednsneg " + www, []string{"BADVERS"}, nil},
		{"dig @127.0.0.1 -p PORT +opcode=STATUS " + www, []string{"NOTIMP"}, nil},
		{"dig @127.0.0.1 -p PORT +noedns other.example.org A", []string{"REFUSED"}, []string{"OPT"}},
		{"dig @127.0.0.1 -p PORT other.example.org A", []string{"REFUSED", "EDE: 20 (Not Authoritative)"}, nil},
		{"kdig @127.0.0.1 -p PORT +dnssec x.child.example.com A", []string{"NOERROR", "Flags: qr rd;", "ns.child.example.com.", "192.0.2.99"}, []string{"WARNING"}},
		{"kdig @127.0.0.1 -p PORT +tcp no.example.com A", []string{"NXDOMAIN", "SOA"}, []string{"WARNING"}},
		{"dig @127.0.0.1 -p PORT wWw.exAMPle.com A", []string{"wWw.exAMPle.com.\t300"}, nil},
		{"kdig @127.0.0.1 -p PORT +nsid www.example.com A", []string{"192.0.2.80", "node-1"}, []string{"WARNING"}},
		{"kdig @127.0.0.1 -p PORT +cookie=0102030405060708 +badcookie " + www + " A", []string{"status: NOERROR", "192.0.2.80"}, nil},
		{"drill -p PORT @127.0.0.1 a.b.wild.example.com TXT", []string{"rcode: NOERROR", `"wild"`, "flags: qr aa"}, nil},
		{"drill -t -p PORT @127.0.0.1 alias.example.com A", []string{"CNAME", "192.0.2.80"}, nil},
		{"drill -D -p PORT @127.0.0.1 no.example.com A", []string{"rcode: NXDOMAIN", "SOA"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.command, func(t *testing.T) {
			args := patient(strings.Fields(strings.ReplaceAll(tt.command, "PORT", port)))
			ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
			defer cancel()
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%.2000s", want, out)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(string(out), not) {
					t.Errorf("%q in\n%.2000s", not, out)
				}
			}
		})
	}
}
