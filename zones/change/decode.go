package change

import (
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"balefire/zones"
)

// Decode reads a record value of a partition that is at the given format level. Its cost and its memory are
// proportional to len(value). The result shares no memory with value.
//
// It is stricter than Protocol Buffers have to be, for two replicas must never read a record differently: a field
// that the level does not have, a field twice, a number out of range and a oneof without or with two members are refused.
func Decode(value []byte, level uint32) (*zones.ChangeSet, *zones.Rejection) {
	if len(value) > MaxRecord {
		return nil, tooLarge(len(value))
	}
	cs, err := decodeChangeSet(value, level)
	if err != nil {
		var rej *zones.Rejection
		if errors.As(err, &rej) {
			return nil, rej
		}
		return nil, &zones.Rejection{Rule: zones.RuleUndecodable, Op: -1, Detail: err.Error()}
	}
	return cs, nil
}

func decodeChangeSet(value []byte, level uint32) (*zones.ChangeSet, error) {
	recordLevel, err := readLevel(value)
	if err != nil {
		return nil, err
	}
	if recordLevel > uint64(level) {
		return nil, &zones.Rejection{
			Rule: zones.RuleFormatLevel, Op: -1,
			Detail: fmt.Sprintf("a record of level %d, in a partition of level %d", recordLevel, level),
		}
	}
	cs := &zones.ChangeSet{}
	return cs, read(value, "change set", changeSetFields, func(f field) error {
		switch f.number {
		case fieldID:
			return f.id(&cs.ID)
		case fieldZone:
			return f.name(&cs.Zone)
		case fieldAuthor:
			cs.Author = string(f.octets)
		case fieldReason:
			cs.Reason = string(f.octets)
		case fieldKeep:
			return f.uint32(&cs.Keep)
		case fieldSource:
			if f.value > math.MaxUint8 {
				return fmt.Errorf("field %d: %d is no source", f.number, f.value)
			}
			cs.Source = zones.Source(f.value)
		case fieldPreconditions:
			if len(cs.Preconditions) == MaxPreconditions {
				return &zones.Rejection{Rule: zones.RuleTooLarge, Op: -1, Detail: fmt.Sprintf("more than %d preconditions", MaxPreconditions)}
			}
			p, err := decodePrecondition(f.octets)
			if err != nil {
				return place(err, "precondition", len(cs.Preconditions))
			}
			cs.Preconditions = append(cs.Preconditions, p)
		case fieldOps:
			if len(cs.Ops) == MaxOps {
				return &zones.Rejection{Rule: zones.RuleTooLarge, Op: -1, Detail: fmt.Sprintf("more than %d operations", MaxOps)}
			}
			op, err := decodeOp(f.octets)
			if err != nil {
				return place(err, "operation", len(cs.Ops))
			}
			cs.Ops = append(cs.Ops, op)
		}
		return nil
	})
}

// place says in which operation or precondition decoding failed.
func place(err error, what string, i int) error {
	var rej *zones.Rejection
	if errors.As(err, &rej) {
		return atOp(rej, i)
	}
	return fmt.Errorf("%s %d: %w", what, i, err)
}

// readLevel reads the record's format level, which must come before all else.
func readLevel(value []byte) (uint64, error) {
	number, wire, n := protowire.ConsumeTag(value)
	if n < 0 || number != fieldLevel || wire != protowire.VarintType {
		return 0, errors.New("it does not begin with a format level")
	}
	level, n := protowire.ConsumeVarint(value[n:])
	if n < 0 || level == 0 {
		return 0, errors.New("it does not begin with a format level")
	}
	return level, nil
}

// The fields that messages have, by number.
var (
	changeSetFields = schema{
		fieldLevel: number, fieldID: octetString, fieldZone: octetString, fieldAuthor: octetString, fieldReason: octetString,
		fieldKeep: number, fieldPreconditions: repeated, fieldOps: repeated, fieldSource: number,
	}
	opMembers = schema{
		opCreateZone: octetString, opReplaceZone: octetString, opDeleteZone: octetString, opSetSettings: octetString,
		opPutRRset: octetString, opAddRecords: octetString, opDeleteRecords: octetString, opDeleteRRset: octetString,
		opDeleteName: octetString, opStageChunk: octetString, opStageCommit: octetString, opStageAbort: octetString,
		opRaiseFormatLevel: octetString, opSetStanding: octetString,
	}
	preconditionMembers = schema{
		ifRRsetExists: octetString, ifRRsetEquals: octetString, ifRRsetAbsent: octetString, ifNameInUse: octetString,
		ifNameNotInUse: octetString, ifSerial: octetString, ifZoneAbsent: octetString, ifExpression: octetString,
		ifMember: octetString,
	}
	noFields       = schema{}
	oneNumber      = schema{1: number}
	oneOctetString = schema{1: octetString}
	rrsetFields    = schema{1: octetString, 2: number, 3: number, 4: repeated}
	nameAndType    = schema{1: octetString, 2: number}
	createFields   = schema{1: octetString, 2: repeated}
	setFields      = schema{1: octetString, 2: number}
	replaceFields  = schema{1: octetString, 2: number, 3: repeated}
	chunkFields    = schema{1: octetString, 2: number, 3: repeated}
	commitFields   = schema{1: octetString, 2: number, 3: number, 4: octetString, 5: octetString, 6: number}
	conditionShape = schema{1: octetString, 2: number, 3: octetString}
	standingFields = schema{1: number, 2: number}
)

func decodeOp(b []byte) (zones.Op, error) {
	member, body, err := readOneof(b, "operation", opMembers)
	if err != nil {
		return nil, err
	}
	switch member {
	case opCreateZone:
		var op zones.OpCreateZone
		err = read(body, "create_zone", createFields, func(f field) error {
			if f.number == 1 {
				return f.settings(&op.Settings)
			}
			return f.appendRRset(&op.RRsets)
		})
		return op, err
	case opReplaceZone:
		var op zones.OpReplaceZone
		err = read(body, "replace_zone", replaceFields, func(f field) error {
			switch f.number {
			case 1:
				return f.settings(&op.Settings)
			case 2:
				return f.flag(&op.SetSettings)
			}
			return f.appendRRset(&op.RRsets)
		})
		return op, err
	case opDeleteZone:
		return zones.OpDeleteZone{}, read(body, "delete_zone", noFields, nil)
	case opSetSettings:
		var op zones.OpSetSettings
		err = read(body, "set_settings", setFields, func(f field) error {
			if f.number == 1 {
				return f.settings(&op.Settings)
			}
			if f.value > math.MaxUint16 {
				return fmt.Errorf("field 2: %d are no parts of settings", f.value)
			}
			op.Parts = zones.SettingsPart(f.value)
			return nil
		})
		return op, err
	case opPutRRset:
		s, err := decodeRRset(body)
		return zones.OpPutRRset{RRset: s}, err
	case opAddRecords:
		s, err := decodeRRset(body)
		return zones.OpAddRecords{RRset: s}, err
	case opDeleteRecords:
		s, err := decodeRRset(body)
		return zones.OpDeleteRecords{RRset: s}, err
	case opDeleteRRset:
		owner, t, err := decodeNameAndType(body)
		return zones.OpDeleteRRset{Owner: owner, Type: t}, err
	case opDeleteName:
		owner, err := decodeName(body)
		return zones.OpDeleteName{Owner: owner}, err
	case opStageChunk:
		return decodeChunk(body)
	case opStageCommit:
		return decodeCommit(body)
	case opStageAbort:
		var op zones.OpStageAbort
		err = read(body, "stage_abort", oneOctetString, func(f field) error { return f.id(&op.Stage) })
		return op, err
	case opRaiseFormatLevel:
		var op zones.OpRaiseFormatLevel
		err = read(body, "raise_format_level", oneNumber, func(f field) error { return f.uint32(&op.Level) })
		return op, err
	default: // opSetStanding: readOneof knows no others
		var op zones.OpSetStanding
		err = read(body, "set_standing", standingFields, func(f field) error {
			if f.number == 1 {
				return f.flag(&op.Expired)
			}
			return f.time(&op.Since)
		})
		return op, err
	}
}

func decodeChunk(body []byte) (zones.Op, error) {
	var op zones.OpStageChunk
	err := read(body, "stage_chunk", chunkFields, func(f field) error {
		switch f.number {
		case 1:
			return f.id(&op.Stage)
		case 2:
			return f.uint32(&op.Index)
		}
		return f.appendRRset(&op.RRsets)
	})
	return op, err
}

func decodeCommit(body []byte) (zones.Op, error) {
	var op zones.OpStageCommit
	err := read(body, "stage_commit", commitFields, func(f field) error {
		switch f.number {
		case 1:
			return f.id(&op.Stage)
		case 2:
			return f.uint32(&op.Chunks)
		case 3:
			op.RRsets = f.value
		case 4:
			if len(f.octets) != len(op.Digest.Bytes()) {
				return errors.New("a digest is 32 octets")
			}
			op.Digest = zones.DigestFromBytes([32]byte(f.octets))
		case 5:
			return f.settings(&op.Settings)
		case 6:
			return f.flag(&op.SetSettings)
		}
		return nil
	})
	return op, err
}

func decodePrecondition(b []byte) (zones.Precondition, error) {
	member, body, err := readOneof(b, "precondition", preconditionMembers)
	if err != nil {
		return nil, err
	}
	switch member {
	case ifRRsetExists:
		owner, t, err := decodeNameAndType(body)
		return zones.IfRRsetExists{Owner: owner, Type: t}, err
	case ifRRsetEquals:
		s, err := decodeRRset(body)
		return zones.IfRRsetEquals{RRset: s}, err
	case ifRRsetAbsent:
		owner, t, err := decodeNameAndType(body)
		return zones.IfRRsetAbsent{Owner: owner, Type: t}, err
	case ifNameInUse:
		owner, err := decodeName(body)
		return zones.IfNameInUse{Owner: owner}, err
	case ifNameNotInUse:
		owner, err := decodeName(body)
		return zones.IfNameNotInUse{Owner: owner}, err
	case ifSerial:
		var serial uint32
		err := read(body, "serial", oneNumber, func(f field) error { return f.uint32(&serial) })
		return zones.IfSerial{Serial: zones.Serial(serial)}, err
	case ifZoneAbsent:
		return zones.IfZoneAbsent{}, read(body, "zone_absent", noFields, nil)
	case ifMember:
		m, err := decodeMember(body)
		return zones.IfMember{Member: m}, err
	default: // ifExpression: readOneof knows no others
		var p zones.IfExpression
		err := read(body, "expression", conditionShape, func(f field) error {
			switch f.number {
			case 1:
				return f.name(&p.Owner)
			case 2:
				return f.rrtype(&p.Type)
			}
			p.Expression = string(f.octets)
			return nil
		})
		return p, err
	}
}

func decodeName(body []byte) (owner zones.Name, err error) {
	err = read(body, "name", oneOctetString, func(f field) error { return f.name(&owner) })
	return owner, err
}

func decodeNameAndType(body []byte) (owner zones.Name, t zones.Type, err error) {
	err = read(body, "name and type", nameAndType, func(f field) error {
		if f.number == 1 {
			return f.name(&owner)
		}
		return f.rrtype(&t)
	})
	return owner, t, err
}

// decodeRRset reads an RRset. It takes RDATA in any order and case, and puts them into canonical form.
func decodeRRset(body []byte) (zones.RRset, error) {
	var (
		owner  zones.Name
		t      zones.Type
		ttl    uint32
		rdatas [][]byte
	)
	err := read(body, "RRset", rrsetFields, func(f field) error {
		switch f.number {
		case 1:
			return f.name(&owner)
		case 2:
			return f.rrtype(&t)
		case 3:
			return f.uint32(&ttl)
		}
		rdatas = append(rdatas, f.octets)
		return nil
	})
	if err != nil {
		return zones.RRset{}, err
	}
	s, err := zones.NewRRset(owner, t, ttl, rdatas...)
	if err != nil {
		return zones.RRset{}, &zones.Rejection{Rule: zones.RuleMalformed, Owner: owner, Type: t, Op: -1, Detail: err.Error()}
	}
	return s, nil
}
