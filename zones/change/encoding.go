package change

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"balefire/zones"
)

// The value of a log record is the ChangeSet message of docs/formats/mutation.proto. The numbers of its fields are here
// and in decode.go; mutation.md says what they mean and what is refused.

// Fields of message ChangeSet. The level comes first in the octets too, so that it can be read before anything else.
const (
	fieldLevel         = 1
	fieldID            = 2
	fieldZone          = 3
	fieldAuthor        = 4
	fieldReason        = 5
	fieldKeep          = 6
	fieldPreconditions = 7
	fieldOps           = 8
	fieldSource        = 9
)

// Members of the oneof of message Operation.
const (
	opCreateZone       = 1
	opReplaceZone      = 2
	opDeleteZone       = 3
	opSetSettings      = 4
	opPutRRset         = 5
	opAddRecords       = 6
	opDeleteRecords    = 7
	opDeleteRRset      = 8
	opDeleteName       = 9
	opStageChunk       = 10
	opStageCommit      = 11
	opStageAbort       = 12
	opRaiseFormatLevel = 13
	opSetStanding      = 14
)

// Members of the oneof of message Precondition.
const (
	ifRRsetExists  = 1
	ifRRsetEquals  = 2
	ifRRsetAbsent  = 3
	ifNameInUse    = 4
	ifNameNotInUse = 5
	ifSerial       = 6
	ifZoneAbsent   = 7
	ifExpression   = 8
	ifMember       = 9
)

// Encode returns the record value of cs, at the lowest format level that can say it. Equal change sets give equal
// octets. The error is a *zones.Rejection when the record would be larger than MaxRecord.
func Encode(cs *zones.ChangeSet) ([]byte, error) {
	const level = 1
	b := appendNumber(nil, fieldLevel, level)
	b = appendOctets(b, fieldID, cs.ID[:])
	b = appendText(b, fieldZone, string(cs.Zone))
	b = appendText(b, fieldAuthor, cs.Author)
	b = appendText(b, fieldReason, cs.Reason)
	b = appendNumber(b, fieldKeep, uint64(cs.Keep))
	for i, p := range cs.Preconditions {
		member, body, err := encodePrecondition(p)
		if err != nil {
			return nil, fmt.Errorf("encode precondition %d: %w", i, err)
		}
		b = appendMessage(b, fieldPreconditions, appendMessage(nil, member, body))
	}
	for i, op := range cs.Ops {
		member, body, err := encodeOp(op)
		if err != nil {
			return nil, fmt.Errorf("encode operation %d: %w", i, err)
		}
		b = appendMessage(b, fieldOps, appendMessage(nil, member, body))
	}
	b = appendNumber(b, fieldSource, uint64(cs.Source))
	if len(b) > MaxRecord {
		return nil, tooLarge(len(b))
	}
	return b, nil
}

func tooLarge(size int) *zones.Rejection {
	return &zones.Rejection{
		Rule: zones.RuleTooLarge, Op: -1,
		Detail: fmt.Sprintf("the record takes %d octets; at most %d are allowed", size, MaxRecord),
	}
}

func encodeOp(op zones.Op) (member protowire.Number, body []byte, err error) {
	switch op := op.(type) {
	case zones.OpCreateZone:
		return opCreateZone, appendRRsets(appendSettings(nil, 1, op.Settings), 2, op.RRsets), nil
	case zones.OpReplaceZone:
		body = appendSettings(nil, 1, op.Settings)
		body = appendFlag(body, 2, op.SetSettings)
		return opReplaceZone, appendRRsets(body, 3, op.RRsets), nil
	case zones.OpDeleteZone:
		return opDeleteZone, nil, nil
	case zones.OpSetSettings:
		return opSetSettings, appendNumber(appendSettings(nil, 1, op.Settings), 2, uint64(op.Parts)), nil
	case zones.OpPutRRset:
		return opPutRRset, encodeRRset(op.RRset), nil
	case zones.OpAddRecords:
		return opAddRecords, encodeRRset(op.RRset), nil
	case zones.OpDeleteRecords:
		return opDeleteRecords, encodeRRset(op.RRset), nil
	case zones.OpDeleteRRset:
		return opDeleteRRset, encodeNameAndType(op.Owner, op.Type), nil
	case zones.OpDeleteName:
		return opDeleteName, appendText(nil, 1, string(op.Owner)), nil
	case zones.OpStageChunk:
		body = appendOctets(nil, 1, op.Stage[:])
		body = appendNumber(body, 2, uint64(op.Index))
		return opStageChunk, appendRRsets(body, 3, op.RRsets), nil
	case zones.OpStageCommit:
		digest := op.Digest.Bytes()
		body = appendOctets(nil, 1, op.Stage[:])
		body = appendNumber(body, 2, uint64(op.Chunks))
		body = appendNumber(body, 3, op.RRsets)
		body = appendOctets(body, 4, digest[:])
		body = appendSettings(body, 5, op.Settings)
		return opStageCommit, appendFlag(body, 6, op.SetSettings), nil
	case zones.OpStageAbort:
		return opStageAbort, appendOctets(nil, 1, op.Stage[:]), nil
	case zones.OpRaiseFormatLevel:
		return opRaiseFormatLevel, appendNumber(nil, 1, uint64(op.Level)), nil
	case zones.OpSetStanding:
		body = appendFlag(nil, 1, op.Expired)
		if !op.Since.IsZero() {
			body = appendNumber(body, 2, uint64(op.Since.UnixMilli()))
		}
		return opSetStanding, body, nil
	}
	return 0, nil, fmt.Errorf("unknown operation %T", op)
}

func encodePrecondition(p zones.Precondition) (member protowire.Number, body []byte, err error) {
	switch p := p.(type) {
	case zones.IfRRsetExists:
		return ifRRsetExists, encodeNameAndType(p.Owner, p.Type), nil
	case zones.IfRRsetEquals:
		return ifRRsetEquals, encodeRRset(p.RRset), nil
	case zones.IfRRsetAbsent:
		return ifRRsetAbsent, encodeNameAndType(p.Owner, p.Type), nil
	case zones.IfNameInUse:
		return ifNameInUse, appendText(nil, 1, string(p.Owner)), nil
	case zones.IfNameNotInUse:
		return ifNameNotInUse, appendText(nil, 1, string(p.Owner)), nil
	case zones.IfSerial:
		return ifSerial, appendNumber(nil, 1, uint64(p.Serial)), nil
	case zones.IfZoneAbsent:
		return ifZoneAbsent, nil, nil
	case zones.IfMember:
		return ifMember, encodeMember(p.Member), nil
	case zones.IfExpression:
		return ifExpression, appendText(encodeNameAndType(p.Owner, p.Type), 3, p.Expression), nil
	}
	return 0, nil, fmt.Errorf("unknown precondition %T", p)
}

func encodeRRset(s zones.RRset) []byte {
	b := make([]byte, 0, EncodedSize(s))
	b = appendText(b, 1, string(s.Owner))
	b = appendNumber(b, 2, uint64(s.Type))
	b = appendNumber(b, 3, uint64(s.TTL))
	for rdata := range s.RDatas() {
		b = appendMessage(b, 4, rdata)
	}
	return b
}

// EncodedSize returns how many octets s takes in a record, or a few more.
func EncodedSize(s zones.RRset) int {
	// RDATA: tag and at most three octets of length, of which Size counts two. The RRset's own fields take at most 18.
	return s.Size() + 2*s.Len() + len(s.Owner) + 24
}

func encodeNameAndType(owner zones.Name, t zones.Type) []byte {
	return appendNumber(appendText(nil, 1, string(owner)), 2, uint64(t))
}

func appendRRsets(b []byte, field protowire.Number, sets []zones.RRset) []byte {
	for _, s := range sets {
		b = appendMessage(b, field, encodeRRset(s))
	}
	return b
}

// appendMessage appends a field of octets, even when there are none.
func appendMessage(b []byte, field protowire.Number, body []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendBytes(b, body)
}

// The fields below are left out when they have their default, as proto3 does.

func appendOctets(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return appendMessage(b, field, v)
}

func appendText(b []byte, field protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, v)
}

func appendNumber(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = protowire.AppendTag(b, field, protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

func appendFlag(b []byte, field protowire.Number, v bool) []byte {
	return appendNumber(b, field, protowire.EncodeBool(v))
}
