package wire

import (
	"balefire/zones"
	"balefire/zones/answer"
)

// Labels is a set of labels that may hold more than were put into it: one bit for each of 64 sorts of labels.
type Labels uint64

// Has reports whether the label of n right below encloser may be in the set. Of encloser itself there is none.
func (s Labels) Has(n, encloser zones.Name) bool { return s&labelBelow(n, encloser) != 0 }

// KinLabels returns the labels right below a.Encloser in names that the message with a, the answer to a question for qname, writes
// in compressed form. As long as the label of another name of the family is not among them, none of those names is compressed against
// more of the question than the encloser: the message is the same.
func KinLabels(a *answer.Answer, qname zones.Name) (s Labels) {
	for i := range a.Entries {
		e := &a.Entries[i]
		if e.Section != answer.SectionAnswer || e.RRset.Owner != qname {
			s |= labelBelow(e.RRset.Owner, a.Encloser)
		}
		if !zones.MayCompress(e.RRset.Type) {
			continue
		}
		for rdata := range e.RRset.RDatas() {
			spans, n, err := zones.EmbeddedNames(e.RRset.Type, rdata)
			if err != nil {
				continue // as when it is written
			}
			for _, at := range spans[:n] {
				s |= labelBelow(zones.NameView(rdata[at.Start:at.End]), a.Encloser)
			}
		}
	}
	return s
}

func labelBelow(n, encloser zones.Name) Labels {
	if !n.IsBelow(encloser) {
		return 0
	}
	begin, next := 0, 0
	for len(n)-next > len(encloser) {
		begin, next = next, next+1+int(n[next])
	}
	hash := uint32(2166136261)
	for _, c := range []byte(n[begin:next]) {
		hash = (hash ^ uint32(c)) * 16777619
	}
	return 1 << (hash >> 26)
}
