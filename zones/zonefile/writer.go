package zonefile

import (
	"bufio"
	"fmt"
	"io"
	"iter"

	"balefire/zones"
)

// Write writes a zone as a master file that any server reads: one record a line, names absolute, the SOA
// first and then the rest in the order given. sets must come in the order of zones.CompareRRsets; Write
// stops at their first error, and returns it.
func Write(w io.Writer, apex zones.Name, sets iter.Seq2[zones.RRset, error]) error {
	out := bufio.NewWriterSize(w, 64<<10)
	if apex != "" {
		fmt.Fprintf(out, "$ORIGIN %s\n", apex)
	}
	var held []zones.RRset // of the apex, before its SOA
	wroteSOA := false
	for s, err := range sets {
		if err != nil {
			return err
		}
		if !wroteSOA && s.Owner == apex && s.Type != zones.TypeSOA {
			held = append(held, s)
			continue
		}
		if s.Type == zones.TypeSOA {
			wroteSOA = true
			WriteRRset(out, s)
		}
		for _, h := range held {
			WriteRRset(out, h)
		}
		held = held[:0]
		if s.Type != zones.TypeSOA {
			WriteRRset(out, s)
		}
	}
	for _, h := range held {
		WriteRRset(out, h)
	}
	return out.Flush()
}

// WriteRRset writes one record a line: owner, TTL, class, type, RDATA. Errors stay in out.
func WriteRRset(out *bufio.Writer, s zones.RRset) {
	prefix := fmt.Sprintf("%s\t%d\tIN\t%s\t", s.Owner, s.TTL, s.Type)
	for rd := range s.RDatas() {
		// A bufio.Writer keeps its first error until Flush.
		_, _ = out.WriteString(prefix)
		_, _ = out.WriteString(FormatRData(s.Type, rd))
		_ = out.WriteByte('\n')
	}
}
