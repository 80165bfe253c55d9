package main

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"balefire/zones"
)

// mix says what a set of questions is made of, and what a right answer to one of them looks like.
type mix struct {
	name     string
	question func(rng *rand.Rand, names int) string
	options  edns
	shuffle  bool // the case of letters is random
	right    func(*dns.Msg) bool
}

// edns is what a query says in its OPT record.
type edns struct {
	present, do bool
	cookie      bool // a server's cookie is learned first
}

func existing(rng *rand.Rand, names int) string { return host(rng.IntN(names)) + "." + largeApex }

func isNameError(m *dns.Msg) bool { return m.Rcode == dns.RcodeNameError && len(m.Ns) > 0 }

func isRefused(m *dns.Msg) bool { return m.Rcode == dns.RcodeRefused }

func hasAnswer(m *dns.Msg) bool { return m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0 }

// The first is also that of the loads at fixed rates, and of TCP.
var mixes = []mix{
	{name: "existing names", question: existing, right: hasAnswer},
	{name: "with EDNS", question: existing, options: edns{present: true}, right: hasAnswer},
	{
		name: "30% NXDOMAIN",
		question: func(rng *rand.Rand, names int) string {
			if rng.IntN(100) < 30 {
				return fmt.Sprintf("no%x.%s", rng.Uint32(), largeApex)
			}
			return existing(rng, names)
		},
		right: func(m *dns.Msg) bool {
			return hasAnswer(m) || isNameError(m)
		},
	},
	{
		name: "wildcards",
		question: func(rng *rand.Rand, names int) string {
			return fmt.Sprintf("r%x.w%d.%s", rng.Uint32(), rng.IntN(extras(names)), largeApex)
		},
		right: hasAnswer,
	},
	{
		name: "referrals with glue",
		question: func(rng *rand.Rand, names int) string {
			return fmt.Sprintf("x%x.d%d.%s", rng.Uint32()&0xffff, rng.IntN(extras(names)), largeApex)
		},
		right: func(m *dns.Msg) bool {
			return m.Rcode == dns.RcodeSuccess && !m.Authoritative && len(m.Ns) == 2 && len(m.Extra) >= 2
		},
	},
	{
		name: "CNAME chains of two",
		question: func(rng *rand.Rand, names int) string {
			return fmt.Sprintf("c%d.%s", rng.IntN(extras(names)), largeApex)
		},
		right: func(m *dns.Msg) bool { return m.Rcode == dns.RcodeSuccess && len(m.Answer) == 3 },
	},
	{name: "random case", question: existing, shuffle: true, right: hasAnswer},
	{
		name: "cookies", question: existing, options: edns{present: true, cookie: true},
		right: func(m *dns.Msg) bool { return hasAnswer(m) && len(serverCookie(m)) > 16 },
	},
}

var signedMix = mix{
	name: "DO, signed zone",
	question: func(rng *rand.Rand, names int) string {
		return host(rng.IntN(names)) + "." + signedApex
	},
	options: edns{present: true, do: true},
	right:   func(m *dns.Msg) bool { return m.Rcode == dns.RcodeSuccess && len(m.Answer) == 2 },
}

// fleetMix asks for a name in each of many zones; names is how many zones there are.
var fleetMix = mix{
	name:     "fleet of zones",
	question: func(rng *rand.Rand, names int) string { return "www." + fleetApex(rng.IntN(names)) },
	right:    hasAnswer,
}

// queries makes n messages, the same for the same seed, one after another in memory. cookie is a server's, for mixes that have them.
func (m mix) queries(n, names int, seed uint64, cookie []byte) [][]byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	all := make([][]byte, n)
	block := make([]byte, 0, n*64)
	for i := range all {
		begin := len(block)
		name := []byte(zones.MustParseName(m.question(rng, names)))
		if m.shuffle {
			for k, c := range name {
				if 'a' <= c && c <= 'z' && rng.IntN(2) == 0 {
					name[k] = c - 'a' + 'A'
				}
			}
		}
		block = appendQuery(block, name, zones.TypeA, m.options, cookie)
		all[i] = block[begin:len(block):len(block)]
	}
	return all
}

// appendQuery appends a query without its ID for a name in wire form.
func appendQuery(b, name []byte, t zones.Type, o edns, cookie []byte) []byte {
	begin := len(b)
	b = append(b, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	b = append(b, 0, 1)
	if !o.present {
		return b
	}
	b[begin+11] = 1
	flags := byte(0)
	if o.do {
		flags = 0x80
	}
	b = append(b, 0, 0, 41, 0x04, 0xd0, 0, 0, flags, 0)
	if len(cookie) == 0 {
		return append(b, 0, 0)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(cookie)))
	b = append(b, 0, dns.EDNS0COOKIE)
	b = binary.BigEndian.AppendUint16(b, uint16(len(cookie)))
	return append(b, cookie...)
}

// question returns one query for a name.
func question(name string) []byte {
	return appendQuery(nil, []byte(zones.MustParseName(name)), zones.TypeA, edns{}, nil)
}

// serverCookie returns the cookie of an answer in hexadecimal, the client's part first.
func serverCookie(m *dns.Msg) string {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return c.Cookie
			}
		}
	}
	return ""
}

var errNoCookies = errors.New("speaks no cookies")

// learnCookie asks a server for its cookie for this client.
func learnCookie(server netip.AddrPort) ([]byte, error) {
	client := []byte("bench!!!")
	answer, err := exchange(server, appendQuery(nil, []byte(zones.MustParseName(host(1)+"."+largeApex)), zones.TypeA, edns{present: true}, client))
	if err != nil {
		return nil, err
	}
	cookie, err := hex.DecodeString(serverCookie(answer))
	if err != nil || len(cookie) < 16 {
		return nil, errNoCookies
	}
	return cookie, nil
}

// exchange asks one question over UDP.
func exchange(server netip.AddrPort, query []byte) (*dns.Msg, error) {
	c, err := dns.DialTimeout("udp4", server.String(), time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	return c.ReadMsg()
}

// check asks a server some of the mix's questions, and says what is wrong with an answer.
func (m mix) check(server netip.AddrPort, queries [][]byte) error {
	for i := range 20 {
		q := queries[i*len(queries)/20]
		answer, err := exchange(server, q)
		if err != nil {
			return err
		}
		if !m.right(answer) {
			name := "?"
			if len(answer.Question) == 1 {
				name = answer.Question[0].Name
			}
			return fmt.Errorf("answers %s with %s, and %d, %d and %d records", name, dns.RcodeToString[answer.Rcode], len(answer.Answer), len(answer.Ns), len(answer.Extra))
		}
	}
	return nil
}
