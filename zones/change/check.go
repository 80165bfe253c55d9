package change

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"balefire/zones"
)

// timeUnit is how exactly stages remember partition time.
const timeUnit = time.Millisecond

// Check says what is wrong with cs as far as that can be known without the zone: nil when nothing is. It is
// what a door asks before publishing; Apply asks the same again.
func Check(cs *zones.ChangeSet) *zones.Rejection {
	if rej := checkAtApply(cs); rej != nil {
		return rej
	}
	if len(cs.Ops) != 1 {
		return nil
	}
	// Whole zones are validated by applying them; a door need not wait for that.
	var rej *zones.Rejection
	switch op := cs.Ops[0].(type) {
	case zones.OpCreateZone:
		_, rej = sequenceAll(cs.Zone, slices.SortedStableFunc(slices.Values(op.RRsets), zones.CompareRRsets))
	case zones.OpReplaceZone:
		_, rej = sequenceAll(cs.Zone, op.RRsets)
	case zones.OpStageChunk:
		rej = checkChunk(cs.Zone, op)
	case zones.OpRaiseFormatLevel:
		if op.Level < 2 || op.Level > MaxLevel {
			rej = &zones.Rejection{Rule: zones.RuleFormatLevel, Detail: fmt.Sprintf("this version knows no level %d to raise to", op.Level)}
		}
	}
	return atOp(rej, 0)
}

// checkChunk validates what can be known of a chunk without the ones before it.
func checkChunk(apex zones.Name, op zones.OpStageChunk) *zones.Rejection {
	if op.Index == 0 {
		seq := NewSequence(apex)
		for _, s := range op.RRsets {
			if rej := seq.Add(s); rej != nil {
				return rej
			}
		}
		return nil
	}
	for i, s := range op.RRsets {
		if rej := checkRRset(s, apex); rej != nil {
			return rej
		}
		if i > 0 && zones.CompareRRsets(op.RRsets[i-1], s) >= 0 {
			return reject(zones.RuleOrder, s, "it belongs before the RRset that it follows, or is it again")
		}
	}
	return nil
}

// checkAtApply is the part of Check that applying does not do in any case.
func checkAtApply(cs *zones.ChangeSet) *zones.Rejection {
	malformed := func(rule zones.Rule, format string, args ...any) *zones.Rejection {
		return &zones.Rejection{Rule: rule, Op: -1, Detail: fmt.Sprintf(format, args...)}
	}
	switch {
	case cs.Zone == "":
		return malformed(zones.RuleMalformed, "no zone")
	case cs.ID == zones.ChangeID{}:
		return malformed(zones.RuleMalformed, "no ID")
	case len(cs.Ops) == 0 && len(cs.Preconditions) == 0:
		return malformed(zones.RuleMalformed, "no operations")
	case len(cs.Ops) > MaxOps:
		return malformed(zones.RuleTooLarge, "%d operations; at most %d are allowed", len(cs.Ops), MaxOps)
	case len(cs.Preconditions) > MaxPreconditions:
		return malformed(zones.RuleTooLarge, "%d preconditions; at most %d are allowed", len(cs.Preconditions), MaxPreconditions)
	case len(cs.Author) > MaxAuthor || len(cs.Reason) > MaxReason:
		return malformed(zones.RuleTooLarge, "the author takes at most %d octets, the reason %d", MaxAuthor, MaxReason)
	case !utf8.ValidString(cs.Author) || !utf8.ValidString(cs.Reason):
		return malformed(zones.RuleMalformed, "author and reason must be UTF-8")
	case cs.Keep > MaxKeep:
		return malformed(zones.RuleTooLarge, "an ID is remembered for at most %d seconds", MaxKeep)
	}
	for i, p := range cs.Preconditions {
		if rej := checkPrecondition(p, cs.Zone); rej != nil {
			return atOp(rej, i)
		}
	}
	for i, op := range cs.Ops {
		if rej := checkOp(op, cs.Zone, len(cs.Ops) == 1); rej != nil {
			return atOp(rej, i)
		}
	}
	return nil
}

func checkOp(op zones.Op, apex zones.Name, alone bool) *zones.Rejection {
	switch op := op.(type) {
	case zones.OpSetSettings:
		return checkSettings(op.Settings)
	case zones.OpPutRRset:
		return checkSingle(op.RRset, apex, checkRRset)
	case zones.OpAddRecords:
		return checkSingle(op.RRset, apex, checkRRset)
	case zones.OpDeleteRecords:
		return checkSingle(op.RRset, apex, checkValues)
	case zones.OpDeleteRRset:
		if typeSigning(op.Type) {
			return signersWork(op.Owner, op.Type)
		}
		return checkNameAndType(op.Owner, op.Type, apex)
	case zones.OpDeleteName:
		return checkName(op.Owner, apex, 0)
	}
	if !alone {
		return &zones.Rejection{Rule: zones.RuleMalformed, Detail: "an operation on the whole zone or partition must be the only one"}
	}
	switch op := op.(type) {
	case zones.OpCreateZone:
		return checkContent(op.Settings, op.RRsets)
	case zones.OpReplaceZone:
		return checkContent(op.Settings, op.RRsets)
	case zones.OpStageChunk:
		if len(op.RRsets) == 0 {
			return &zones.Rejection{Rule: zones.RuleMalformed, Detail: "an empty chunk"}
		}
		return checkContent(zones.ZoneSettings{}, op.RRsets)
	case zones.OpStageCommit:
		return checkSettings(op.Settings)
	case zones.OpDeleteZone, zones.OpStageAbort, zones.OpRaiseFormatLevel:
		return nil
	}
	return &zones.Rejection{Rule: zones.RuleMalformed, Detail: fmt.Sprintf("operation %T", op)}
}

// checkSingle checks the RRset of an operation on single records.
func checkSingle(s zones.RRset, apex zones.Name, check func(zones.RRset, zones.Name) *zones.Rejection) *zones.Rejection {
	if typeSigning(s.Type) {
		return signersWork(s.Owner, s.Type)
	}
	return check(s, apex)
}

func signersWork(owner zones.Name, t zones.Type) *zones.Rejection {
	return &zones.Rejection{
		Rule: zones.RuleSigned, Owner: owner, Type: t,
		Detail: "keys, signatures and denials come with a whole signed zone, not one by one",
	}
}

func checkContent(settings zones.ZoneSettings, sets []zones.RRset) *zones.Rejection {
	if len(sets) > MaxRRsetsTouched {
		return &zones.Rejection{
			Rule:   zones.RuleTooLarge,
			Detail: fmt.Sprintf("%d RRsets; at most %d fit one record: stage larger zones", len(sets), MaxRRsetsTouched),
		}
	}
	return checkSettings(settings)
}

func checkSettings(s zones.ZoneSettings) *zones.Rejection {
	if !s.SerialPolicy.Valid() {
		return &zones.Rejection{Rule: zones.RuleMalformed, Detail: "no such serial policy: " + s.SerialPolicy.String()}
	}
	return nil
}

func checkNameAndType(owner zones.Name, t zones.Type, apex zones.Name) *zones.Rejection {
	if rej := checkName(owner, apex, t); rej != nil {
		return rej
	}
	if !typeKept(t) {
		return &zones.Rejection{Rule: zones.RuleMetaType, Owner: owner, Type: t, Detail: "no zone here holds this type"}
	}
	return nil
}

func checkPrecondition(p zones.Precondition, apex zones.Name) *zones.Rejection {
	about := func(owner zones.Name, t zones.Type) *zones.Rejection {
		// Signatures are many RRsets, by covered type, and NSEC3 owners are no names: neither can be asked for.
		if t == zones.TypeRRSIG || t == zones.TypeNSEC3 {
			return &zones.Rejection{Rule: zones.RuleMalformed, Owner: owner, Type: t, Detail: "no precondition can be about this type"}
		}
		return checkNameAndType(owner, t, apex)
	}
	switch p := p.(type) {
	case zones.IfRRsetExists:
		return about(p.Owner, p.Type)
	case zones.IfRRsetAbsent:
		return about(p.Owner, p.Type)
	case zones.IfRRsetEquals:
		if rej := about(p.RRset.Owner, p.RRset.Type); rej != nil {
			return rej
		}
		return checkValues(p.RRset, apex)
	case zones.IfNameInUse:
		return checkName(p.Owner, apex, 0)
	case zones.IfNameNotInUse:
		return checkName(p.Owner, apex, 0)
	case zones.IfExpression:
		if rej := about(p.Owner, p.Type); rej != nil {
			return rej
		}
		if _, err := ParseCondition(p.Expression); err != nil {
			return &zones.Rejection{Rule: zones.RuleBadCondition, Owner: p.Owner, Type: p.Type, Detail: err.Error()}
		}
		return nil
	case zones.IfSerial, zones.IfZoneAbsent:
		return nil
	}
	return &zones.Rejection{Rule: zones.RuleMalformed, Detail: fmt.Sprintf("precondition %T", p)}
}
