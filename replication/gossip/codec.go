package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// version is the first octet of everything that is sent. docs/formats/gossip.md draws what follows.
const version = 1

// kind says what a section is about.
type kind uint8

const (
	kindMember    kind = 1 // who the node is
	kindCondition kind = 2 // how it is
	kindStates    kind = 3 // the states of statesBlock partitions
	kindPositions kind = 4 // the positions of positionsBlock partitions
)

// Partitions of one section. States are a few octets where neighbours are alike; positions must fit a packet at their longest.
const (
	statesBlock    = 256
	positionsBlock = 16
)

// maxBody is more than any section's longest content. It leaves room in a packet of 1,400 octets for the headers of
// memberlist, the label, the encryption, and the node's ID.
const maxBody = 700

// key names a section of a record.
type key struct {
	kind  kind
	block uint8 // of partitions; 0 for the other kinds
}

func (k key) blocks() bool { return k.kind == kindStates || k.kind == kindPositions }

// section is one part of a record, replaced as a whole.
type section struct {
	sequence uint64
	body     []byte // never changed
}

// statement is some sections of one node's record.
type statement struct {
	id          string
	incarnation uint64
	sections    []keyedSection
}

type keyedSection struct {
	key
	section
}

// errVersion is what a statement of a newer program comes to.
var errVersion = errors.New("a version that this program does not know")

// appendHeader begins a statement.
func appendHeader(b []byte, id string, incarnation uint64) []byte {
	b = append(b, version, byte(len(id)))
	b = append(b, id...)
	return binary.BigEndian.AppendUint64(b, incarnation)
}

func headerLen(id string) int { return 2 + len(id) + 8 }

func appendSection(b []byte, k key, s section) []byte {
	b = append(b, byte(k.kind))
	if k.blocks() {
		b = append(b, k.block)
	}
	b = binary.AppendUvarint(b, s.sequence)
	b = binary.AppendUvarint(b, uint64(len(s.body)))
	return append(b, s.body...)
}

func sectionLen(k key, s section) int {
	n := 1 + uvarintLen(s.sequence) + uvarintLen(uint64(len(s.body))) + len(s.body)
	if k.blocks() {
		n++
	}
	return n
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// decodeStatement reads a whole statement, or none of it. Sections that it does not know are left out. The bodies are b's octets, and
// not looked into: most of what is heard is known already.
func decodeStatement(b []byte) (statement, error) {
	r := reader{b: b}
	if v := r.octet(); v != version {
		return statement{}, fmt.Errorf("statement of version %d: %w", v, errVersion)
	}
	var st statement
	st.id = string(r.octets(int(r.octet())))
	st.incarnation = r.uint64()
	if r.failed {
		return statement{}, errors.New("statement: its header is cut short")
	}
	if err := validID(st.id); err != nil {
		return statement{}, fmt.Errorf("statement: %w", err)
	}
	if st.incarnation == 0 || st.incarnation >= maxIncarnation {
		return statement{}, fmt.Errorf("statement of %q: incarnation %d", st.id, st.incarnation)
	}
	for len(r.b) > 0 {
		k := key{kind: kind(r.octet())}
		if k.blocks() {
			k.block = r.octet()
		}
		s := section{sequence: r.uvarint()}
		length := r.uvarint()
		if r.failed || length > maxBody {
			return statement{}, fmt.Errorf("statement of %q: section %d is cut short or too long", st.id, k.kind)
		}
		s.body = r.octets(int(length))
		if r.failed || s.sequence == 0 {
			return statement{}, fmt.Errorf("statement of %q: section %d is cut short or has no sequence", st.id, k.kind)
		}
		if k.known() {
			st.sections = append(st.sections, keyedSection{k, s})
		}
	}
	return st, nil
}

// known reports whether this program knows what the section is about. A later one may have more.
func (k key) known() bool {
	switch k.kind {
	case kindMember, kindCondition, kindPositions:
		return true
	case kindStates:
		return int(k.block) < MaxPartitions/statesBlock
	default:
		return false
	}
}

// check reads a section's content for nothing but its mistakes.
func (k key) check(body []byte) error {
	switch k.kind {
	case kindMember:
		var m Member
		return decodeMember(body, &m)
	case kindCondition:
		_, _, err := decodeCondition(body)
		return err
	case kindStates:
		return decodeStates(body, func(int, State, bool) {})
	default:
		return decodePositions(body, func(int, Claim) {})
	}
}

func appendMember(b []byte, m *Member) []byte {
	for _, text := range m.texts() {
		b = append(b, byte(len(*text)))
		b = append(b, *text...)
	}
	return append(b, m.Fingerprint[:]...)
}

// decodeMember fills in what a section says; ID and Incarnation are the statement's.
func decodeMember(body []byte, m *Member) error {
	r := reader{b: body}
	total := 0
	for _, text := range m.texts() {
		*text = string(r.octets(int(r.octet())))
		total += len(*text)
		if !printable(*text) {
			return errors.New("member: a text that is not printable UTF-8")
		}
	}
	copy(m.Fingerprint[:], r.octets(len(m.Fingerprint)))
	if r.failed || total > maxDescription {
		return errors.New("member: it is cut short or too long")
	}
	return nil // what a later program adds comes after it
}

// Flags of a condition.
const (
	flagReady    = 1 << 0
	flagDraining = 1 << 1
	flagLeft     = 1 << 2
)

func appendCondition(b []byte, c Condition, left bool) []byte {
	var flags byte
	if c.Ready {
		flags |= flagReady
	}
	if c.Draining {
		flags |= flagDraining
	}
	if left {
		flags |= flagLeft
	}
	return appendOffset(append(b, flags), c.Catalog)
}

func decodeCondition(body []byte) (c Condition, left bool, err error) {
	r := reader{b: body}
	flags := r.octet()
	c = Condition{Ready: flags&flagReady != 0, Draining: flags&flagDraining != 0, Catalog: r.offset()}
	if r.failed {
		return Condition{}, false, errors.New("condition: it is cut short, or its offset is none")
	}
	return c, flags&flagLeft != 0, nil
}

// stateNone is a partition without a claim, stateAssigned the flag beside a state's number plus one.
const (
	stateNone     = 0
	stateAssigned = 0x80
)

// appendStates writes runs of equal states; what is after the last claim of the block is not there.
func appendStates(b []byte, states *[statesBlock]byte) []byte {
	end := statesBlock
	for end > 0 && states[end-1] == stateNone {
		end--
	}
	for i := 0; i < end; {
		run := 1
		for i+run < end && states[i+run] == states[i] {
			run++
		}
		b = append(b, states[i], byte(run-1))
		i += run
	}
	return b
}

func decodeStates(body []byte, claim func(partition int, s State, assigned bool)) error {
	r := reader{b: body}
	for at := 0; len(r.b) > 0; {
		what, run := r.octet(), int(r.octet())+1
		s := what &^ stateAssigned
		if r.failed || at+run > statesBlock || s > byte(states) || what == stateAssigned {
			return errors.New("states: a run that is cut short, too long, or of no state")
		}
		if s != stateNone {
			for i := range run {
				claim(at+i, State(s-1), what&stateAssigned != 0)
			}
		}
		at += run
	}
	return nil
}

// positionDigest is the flag beside a partition's place in its block when a digest follows.
const positionDigest = 0x10

func appendPosition(b []byte, place int, c *Claim) []byte {
	what := byte(place)
	if c.Digest != [16]byte{} {
		what |= positionDigest
	}
	b = append(b, what)
	b = appendOffset(b, c.Position)
	b = appendOffset(b, c.Checkpoint)
	if what&positionDigest != 0 {
		b = append(b, c.Digest[:]...)
	}
	return b
}

func decodePositions(body []byte, position func(place int, c Claim)) error {
	r := reader{b: body}
	for next := 0; len(r.b) > 0; {
		what := r.octet()
		place := int(what &^ positionDigest)
		c := Claim{Position: r.offset(), Checkpoint: r.offset()}
		if what&positionDigest != 0 {
			copy(c.Digest[:], r.octets(len(c.Digest)))
		}
		if r.failed || place < next || place >= positionsBlock {
			return errors.New("positions: one that is cut short, out of order, or out of the block")
		}
		position(place, c)
		next = place + 1
	}
	return nil
}

// appendOffset writes an offset; -1, which is none, is the shortest.
func appendOffset(b []byte, offset int64) []byte {
	return binary.AppendUvarint(b, uint64(min(max(offset, -1), math.MaxInt64-1)+1))
}

// appendExchange adds a statement to a whole exchange.
func appendExchange(b, statement []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(statement)))
	return append(b, statement...)
}

// decodeExchange calls do for each statement of a whole exchange. It fails at what can't be cut into statements; a statement
// that can't be read is do's concern.
func decodeExchange(b []byte, do func(statement []byte)) error {
	r := reader{b: b}
	if v := r.octet(); v != version {
		return fmt.Errorf("exchange of version %d: %w", v, errVersion)
	}
	for len(r.b) > 0 {
		length := r.uvarint()
		if r.failed || length > uint64(len(r.b)) {
			return errors.New("exchange: it is cut short")
		}
		do(r.octets(int(length)))
	}
	return nil
}

// reader takes octets off a slice. After the first failure everything it returns is zero.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) octets(n int) []byte {
	if r.failed || n > len(r.b) {
		r.failed, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) octet() byte {
	if b := r.octets(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.octets(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.failed || n <= 0 {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) offset() int64 {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.failed, r.b = true, nil
		return -1
	}
	return int64(v) - 1
}

// decodeClaims makes claims of a record's sections, by partition. A position without a state is not a claim.
func decodeClaims(sections map[key]section) []Claim {
	var claims []Claim
	for k, s := range sections {
		if k.kind != kindStates {
			continue
		}
		first := int(k.block) * statesBlock
		// Sections were checked when they came in.
		_ = decodeStates(s.body, func(place int, state State, assigned bool) {
			claims = append(claims, Claim{Partition: int32(first + place), State: state, Assigned: assigned, Position: -1, Checkpoint: -1})
		})
	}
	slices.SortFunc(claims, func(a, b Claim) int { return int(a.Partition - b.Partition) })
	for k, s := range sections {
		if k.kind != kindPositions {
			continue
		}
		first := int(k.block) * positionsBlock
		_ = decodePositions(s.body, func(place int, c Claim) {
			if i, ok := searchClaims(claims, int32(first+place)); ok {
				claims[i].Position, claims[i].Checkpoint, claims[i].Digest = c.Position, c.Checkpoint, c.Digest
			}
		})
	}
	return claims
}
