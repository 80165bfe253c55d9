package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"

	"balefire/zones"
)

// The benchmark's zone: names hosts below bench.test., each with A, and AAAA for every second one.
const apex = "bench.test."

// writeZone writes a zone of that many names as a master file.
func writeZone(path, origin string, names int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprintf(w, "$ORIGIN %s\n$TTL 3600\n@ IN SOA ns1 hostmaster 1 7200 900 1209600 300\n", origin)
	fmt.Fprintf(w, "@ IN NS ns1\n@ IN NS ns2\nns1 IN A 192.0.2.1\nns2 IN A 192.0.2.2\n")
	for i := range names {
		fmt.Fprintf(w, "%s IN A 198.51.%d.%d\n", host(i), i>>8&255, i&255)
		if i%2 == 0 {
			fmt.Fprintf(w, "%s IN AAAA 2001:db8::%x\n", host(i), i&0xffff)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// host returns a name that looks like people's, and whose order in the zone has nothing to do with i.
func host(i int) string { return fmt.Sprintf("h%07x", uint32(i)*2654435761>>4) }

// mix says what a set of queries is made of.
type mix struct {
	name   string
	absent int // percent of names that do not exist
	edns   bool
}

var mixes = []mix{
	{"existing names", 0, false},
	{"existing names, EDNS", 0, true},
	{"30% NXDOMAIN", 30, false},
}

// queries makes n query messages for names of the benchmark's zone, the same for the same seed.
func (m mix) queries(n, names int, seed uint64) [][]byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	all := make([][]byte, n)
	for i := range all {
		name := host(rng.IntN(names)) + "." + apex
		if rng.IntN(100) < m.absent {
			name = fmt.Sprintf("no%x.%s", rng.Uint32(), apex)
		}
		all[i] = message(zones.MustParseName(name), zones.TypeA, m.edns)
	}
	return all
}

// message returns a query without its ID.
func message(name zones.Name, t zones.Type, edns bool) []byte {
	b := []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	b = append(b, name...)
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	b = append(b, 0, 1)
	if edns {
		b[11] = 1
		b = append(b, 0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0)
	}
	return b
}
