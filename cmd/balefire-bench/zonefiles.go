package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// zone is one that the servers are given, as a master file.
type zone struct {
	apex   string // with its final dot
	file   string
	signed bool
}

// bare returns the zone's name without its final dot, as most servers want it in their configuration.
func (z zone) bare() string { return strings.TrimSuffix(z.apex, ".") }

// Zones that are queried. extras is how many names there are of each kind beside the hosts.
const (
	largeApex  = "bench.test."
	signedApex = "signed.test."
)

func extras(names int) int { return max(names/100, 16) }

// host returns a name that looks like people's, and whose order in the zone has nothing to do with i.
func host(i int) string { return fmt.Sprintf("h%07x", uint32(i)*2654435761>>4) }

// address returns the address of host i, which says a little of i.
func address(i int) string { return fmt.Sprintf("198.51.%d.%d", i>>8&255, i&255) }

// writeLarge writes a zone of that many hosts, each with A, and AAAA for every second one; and a hundredth of it each of wildcards,
// delegations with glue, and chains of two CNAMEs to a host.
func writeLarge(dir, apex string, names int) (zone, error) {
	z := zone{apex: apex, file: filepath.Join(dir, apex+"zone")}
	return z, writeFile(z.file, func(w *bufio.Writer) {
		fmt.Fprintf(w, "$ORIGIN %s\n$TTL 3600\n@ IN SOA ns1 hostmaster 1 7200 900 1209600 300\n", apex)
		fmt.Fprintf(w, "@ IN NS ns1\n@ IN NS ns2\nns1 IN A 192.0.2.1\nns2 IN A 192.0.2.2\n")
		for i := range names {
			fmt.Fprintf(w, "%s IN A %s\n", host(i), address(i))
			if i%2 == 0 {
				fmt.Fprintf(w, "%s IN AAAA 2001:db8::%x\n", host(i), i&0xffff)
			}
		}
		for i := range extras(names) {
			fmt.Fprintf(w, "*.w%d IN A 203.0.113.%d\n", i, i&255)
			fmt.Fprintf(w, "d%[1]d IN NS ns1.d%[1]d\nd%[1]d IN NS ns2.d%[1]d\n", i)
			fmt.Fprintf(w, "ns1.d%[1]d IN A 192.0.2.%[2]d\nns2.d%[1]d IN A 203.0.113.%[2]d\n", i, i&255)
			fmt.Fprintf(w, "c%[1]d IN CNAME e%[1]d\ne%[1]d IN CNAME %[2]s\n", i, host(i%names))
		}
	})
}

// fleetApex returns the name of zone i of a fleet.
func fleetApex(i int) string { return fmt.Sprintf("z%07x.test.", uint32(i)*2654435761>>4) }

// writeSmall writes a zone of six records, as a provider has many of.
func writeSmall(dir, apex string) (zone, error) {
	z := zone{apex: apex, file: filepath.Join(dir, apex+"zone")}
	return z, writeFile(z.file, func(w *bufio.Writer) {
		fmt.Fprintf(w, "$ORIGIN %s\n$TTL 3600\n@ IN SOA ns1.provider.example. hostmaster.provider.example. 1 7200 900 1209600 300\n", apex)
		fmt.Fprint(w, "@ IN NS ns1.provider.example.\n@ IN NS ns2.provider.example.\n")
		fmt.Fprint(w, "@ IN A 192.0.2.80\n@ IN MX 10 mx.provider.example.\nwww IN A 192.0.2.81\n")
	})
}

// writeFleet writes that many small zones into a directory of their own.
func writeFleet(dir string, n int) ([]zone, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	all := make([]zone, n)
	for i := range all {
		z, err := writeSmall(dir, fleetApex(i))
		if err != nil {
			return nil, err
		}
		all[i] = z
	}
	return all, nil
}

func writeFile(path string, content func(*bufio.Writer)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close() // again, after an error
	w := bufio.NewWriterSize(f, 64<<10)
	content(w)
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// sign signs a zone with one key of ECDSA P-256 and NSEC, by BIND's tools; the servers get it as it then is.
func sign(ctx context.Context, z zone) (zone, error) {
	dir := filepath.Dir(z.file)
	keys := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return z, err
	}
	signed := zone{apex: z.apex, file: filepath.Join(dir, "signed", filepath.Base(z.file)), signed: true}
	if err := os.MkdirAll(filepath.Dir(signed.file), 0o755); err != nil {
		return z, err
	}
	if err := output(ctx, "dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", "-K", keys, z.apex); err != nil {
		return z, err
	}
	return signed, output(ctx, "dnssec-signzone", "-q", "-z", "-S", "-P", "-O", "full", "-K", keys, "-d", keys, "-o", z.apex, "-f", signed.file, z.file)
}

// output runs a command that has nothing to say unless it fails.
func output(ctx context.Context, argv ...string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
