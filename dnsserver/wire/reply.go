package wire

import (
	"encoding/binary"

	"balefire/zones"
	"balefire/zones/answer"
)

// Reply is what an answer says beside the records of a zone.
type Reply struct {
	RCode         RCode
	Authoritative bool
	ExtendedError ExtendedError
	ExtraText     string // of the extended error, at most MaxExtraText octets
	// Truncated sends no record, but TC, so that the client comes again over TCP.
	Truncated bool
	// Limit is the most octets that the message may have, at least MinUDPSize.
	Limit int
	// UDPSize is offered in OPT.
	UDPSize uint16
	NSID    []byte // at most MaxNSID octets; sent when asked for
	Cookie  []byte // content of the COOKIE option, at most CookieLen octets; nil for none
}

// FromAnswer takes over the codes that a zone's content decided.
func (r *Reply) FromAnswer(a *answer.Answer) {
	r.RCode, r.Authoritative = RCode(a.RCode), a.Authoritative
	r.ExtendedError = NoExtendedError
	if a.ExtendedError != answer.NoExtendedError {
		r.ExtendedError = ExtendedError(a.ExtendedError)
	}
}

// Append appends the answer to q to dst, and returns dst and whether it had to be cut (TC). The message begins at len(dst);
// with room for r.Limit octets in dst nothing is allocated. a may be nil: then there are no records.
//
// RRsets that don't fit are left out whole: without a word when optional, otherwise with all that
// follow them, and TC (RFC 2181 §9, RFC 9471 §3).
func Append(dst []byte, q *Query, a *answer.Answer, r *Reply) (message []byte, truncated bool) {
	return Compose(dst, q, a, r, nil)
}

// MaxPointers is more than the compression pointers of an answer that other names can share.
const MaxPointers = 48

// Sections is what a message has between its question and OPT. It is the same for every query with the same question
// and DO that has room for it; and for those of the same family of answers, with other pointers.
type Sections struct {
	Octets []byte    // share the message's memory
	Counts [3]uint16 // records in the answer, authority and additional section, without OPT
	// Whole says that nothing was left out.
	Whole bool
	// Shift is by how many octets the names that Pointers lead to are later in the message than Octets say. 0 when Compose made them.
	Shift int
	// At holds, up to Pointers, where in Octets the compression pointers are, but for those of owners to the question's name. When it is
	// full there may be more.
	At       [MaxPointers]uint16
	Pointers int
}

// Compose is Append, and fills s, if it is not nil.
func Compose(dst []byte, q *Query, a *answer.Answer, r *Reply, s *Sections) (message []byte, truncated bool) {
	m := draft{buf: dst, base: len(dst), class: q.Class, whole: true}
	m.buf = append(m.buf, make([]byte, HeaderLen)...)
	if q.Echo != EchoHeader && q.question != nil {
		m.buf = append(m.buf, q.question...)
		m.counts[sectionQuestion] = 1
		m.qname = q.Name
		m.rememberQuestion(q.Name)
	}
	m.start = len(m.buf)
	opt := q.EDNS && q.Echo == EchoAll
	truncated = r.Truncated
	if a != nil && !r.Truncated {
		limit := m.base + r.Limit
		if opt {
			limit -= r.optLen(q)
		}
		truncated = !m.appendEntries(a.Entries, limit)
	}
	end := len(m.buf)
	if s != nil {
		copy(s.Counts[:], m.counts[sectionAnswer:])
		s.Whole, s.Shift = m.whole && !truncated, 0
		s.At, s.Pointers = m.pointerAt, m.pointers
	}
	if opt {
		m.appendOPT(q, r)
	}
	m.putHeader(q, r, truncated)
	if s != nil {
		s.Octets = m.buf[m.start:end:end]
	}
	return m.buf, truncated
}

// Recompose appends the answer to q with sections that Compose made for the same question, or one of the same family, and the same DO, all
// of which were there. ok is false when they don't fit: then nothing is appended.
func Recompose(dst []byte, q *Query, s *Sections, r *Reply) (message []byte, ok bool) {
	size := HeaderLen + len(q.question) + len(s.Octets)
	if q.EDNS {
		size += r.optLen(q)
	}
	if size > r.Limit || q.Echo != EchoAll {
		return dst, false
	}
	m := draft{buf: dst, base: len(dst)}
	m.buf = append(m.buf, make([]byte, HeaderLen)...)
	m.buf = append(m.buf, q.question...)
	m.start = len(m.buf)
	m.buf = append(m.buf, s.Octets...)
	if s.Shift != 0 {
		ShiftPointers(m.buf[m.start:], s.At[:s.Pointers], s.Shift)
	}
	m.counts = [4]uint16{1, s.Counts[0], s.Counts[1], s.Counts[2]}
	if q.EDNS {
		m.appendOPT(q, r)
	}
	m.putHeader(q, r, false)
	return m.buf, true
}

// ShiftPointers makes the compression pointers at some places in sections lead to by octets later.
func ShiftPointers(sections []byte, at []uint16, by int) {
	for _, i := range at {
		binary.BigEndian.PutUint16(sections[i:], uint16(int(binary.BigEndian.Uint16(sections[i:]))+by))
	}
}

// The sections as they are counted in the header.
const (
	sectionQuestion = iota
	sectionAnswer
	sectionAuthority
	sectionAdditional
)

// draft is a message being written.
type draft struct {
	buf    []byte
	base   int // where the message begins in buf
	start  int // where its sections begin
	class  Class
	counts [4]uint16
	qname  zones.Name // "" when there is no question in the message

	whole     bool                // nothing was left out so far
	pointerAt [MaxPointers]uint16 // see Sections
	pointers  int
	names     offsets
}

func (m *draft) appendEntries(entries []answer.Entry, limit int) (complete bool) {
	for i := range entries {
		e := &entries[i]
		size, names, pointers := len(m.buf), m.names.n, m.pointers
		asked := e.Section == answer.SectionAnswer && e.RRset.Owner == m.qname && len(m.qname) > 1
		count := 0
		ok := m.appendRRset(&e.RRset, asked, limit)
		if ok {
			count = e.RRset.Len()
			if !e.Signatures.IsZero() {
				ok = m.appendRRset(&e.Signatures, asked, limit)
				count += e.Signatures.Len()
			}
		}
		if ok {
			m.counts[sectionAnswer+int(e.Section)] += uint16(count)
			continue
		}
		m.buf, m.names.n = m.buf[:size], names
		m.pointers, m.whole = pointers, false
		if !e.Optional {
			return false
		}
	}
	return true
}

// appendRRset appends the records of s, and reports whether they fit; if not, some may have been appended. asked says that the owner
// is the question's name.
func (m *draft) appendRRset(s *zones.RRset, asked bool, limit int) bool {
	compress := zones.MayCompress(s.Type)
	for rdata := range s.RDatas() {
		if asked {
			m.buf = append(m.buf, 0xc0, HeaderLen)
		} else {
			m.appendName(s.Owner)
		}
		m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(s.Type))
		m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(m.class))
		m.buf = binary.BigEndian.AppendUint32(m.buf, s.TTL)
		m.buf = append(m.buf, 0, 0)
		start := len(m.buf)
		if compress {
			m.appendCompressed(s.Type, rdata)
		} else {
			m.buf = append(m.buf, rdata...)
		}
		if len(m.buf) > limit {
			return false
		}
		binary.BigEndian.PutUint16(m.buf[start-2:], uint16(len(m.buf)-start))
	}
	return true
}

// appendCompressed appends RDATA, its names compressed.
func (m *draft) appendCompressed(t zones.Type, rdata []byte) {
	spans, n, err := zones.EmbeddedNames(t, rdata)
	if err != nil {
		n = 0 // what the store holds was checked: this is not reached, and does no harm
	}
	at := 0
	for _, s := range spans[:n] {
		m.buf = append(m.buf, rdata[at:s.Start]...)
		m.appendName(zones.NameView(rdata[s.Start:s.End]))
		at = s.End
	}
	m.buf = append(m.buf, rdata[at:]...)
}

// optLen returns the octets of the OPT record.
func (r *Reply) optLen(q *Query) int {
	n := 11
	if q.NSID && len(r.NSID) > 0 {
		n += 4 + len(r.NSID)
	}
	if r.Cookie != nil {
		n += 4 + len(r.Cookie)
	}
	if r.ExtendedError >= 0 {
		n += 6 + len(r.ExtraText)
	}
	return n
}

// AppendOPT appends the OPT record of the answer to q to dst: nothing when the query has none. It is for who makes the rest by other means,
// and counts it in the header.
func AppendOPT(dst []byte, q *Query, r *Reply) []byte {
	if !q.EDNS || q.Echo != EchoAll {
		return dst
	}
	m := draft{buf: dst}
	m.appendOPT(q, r)
	return m.buf
}

func (m *draft) appendOPT(q *Query, r *Reply) {
	m.counts[sectionAdditional]++
	var flags byte
	if q.DO {
		flags = 0x80 // RFC 3225 §3: copied
	}
	b := append(m.buf, 0, 0, byte(zones.TypeOPT))
	b = binary.BigEndian.AppendUint16(b, r.UDPSize)
	b = append(b, byte(r.RCode>>4), 0, flags, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(r.optLen(q)-11))
	if q.NSID && len(r.NSID) > 0 {
		b = binary.BigEndian.AppendUint16(b, optionNSID)
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.NSID)))
		b = append(b, r.NSID...)
	}
	if r.Cookie != nil {
		b = binary.BigEndian.AppendUint16(b, optionCookie)
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.Cookie)))
		b = append(b, r.Cookie...)
	}
	if r.ExtendedError >= 0 {
		b = binary.BigEndian.AppendUint16(b, optionExtendedError)
		b = binary.BigEndian.AppendUint16(b, uint16(2+len(r.ExtraText)))
		b = binary.BigEndian.AppendUint16(b, uint16(r.ExtendedError))
		b = append(b, r.ExtraText...)
	}
	m.buf = b
}

// putHeader writes the header: ID, opcode and RD are the query's; RA, Z, AD and CD are 0 (RFC 1035
// §4.1.1, RFC 4035 §3.1.6, §3.2.2).
func (m *draft) putHeader(q *Query, r *Reply, truncated bool) {
	h := m.buf[m.base : m.base+HeaderLen]
	putHead(h, q, r.RCode)
	if r.Authoritative {
		h[2] |= flagAA
	}
	if truncated {
		h[2] |= flagTC
	}
	for i, n := range m.counts {
		binary.BigEndian.PutUint16(h[4+2*i:], n)
	}
}

// IsTruncated reports whether a message has TC.
func IsTruncated(message []byte) bool { return len(message) >= HeaderLen && message[2]&flagTC != 0 }

func putHead(h []byte, q *Query, rcode RCode) {
	binary.BigEndian.PutUint16(h, q.ID)
	h[2] = flagQR | byte(q.Opcode)<<3
	if q.RD {
		h[2] |= flagRD
	}
	if rcode > 15 && !(q.EDNS && q.Echo == EchoAll) {
		rcode = ServFail // there is no place for the upper bits
	}
	h[3] = byte(rcode & 0xf)
}
