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
		if op.Settings.IsSecondary() {
			break // its content is yet to come
		}
		_, rej = sequenceAll(cs.Zone, zones.SourceClient, slices.SortedStableFunc(slices.Values(op.RRsets), zones.CompareRRsets))
	case zones.OpReplaceZone:
		_, rej = sequenceAll(cs.Zone, cs.Source, op.RRsets)
	case zones.OpStageChunk:
		rej = checkChunk(cs.Zone, cs.Source, op)
	case zones.OpRaiseFormatLevel:
		if op.Level < 2 || op.Level > MaxLevel {
			rej = &zones.Rejection{Rule: zones.RuleFormatLevel, Detail: fmt.Sprintf("this version knows no level %d to raise to", op.Level)}
		}
	}
	return atOp(rej, 0)
}

// checkChunk validates what can be known of a chunk without the ones before it.
func checkChunk(apex zones.Name, source zones.Source, op zones.OpStageChunk) *zones.Rejection {
	if op.Index == 0 {
		seq := NewSequenceFrom(apex, source)
		for _, s := range op.RRsets {
			if rej := seq.Add(s); rej != nil {
				return rej
			}
		}
		return nil
	}
	for i, s := range op.RRsets {
		if rej := checkRRset(s, apex, source); rej != nil {
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
	case !cs.Source.Valid():
		return malformed(zones.RuleMalformed, "no such source: %s", cs.Source)
	case cs.Source != zones.SourceClient && len(cs.Ops) == 0:
		return malformed(zones.RuleMalformed, "nothing comes from the %s", cs.Source)
	}
	for i, p := range cs.Preconditions {
		if rej := checkPrecondition(p, cs.Zone); rej != nil {
			return atOp(rej, i)
		}
	}
	for i, op := range cs.Ops {
		if rej := checkOp(op, cs.Zone, cs.Source, len(cs.Ops) == 1); rej != nil {
			return atOp(rej, i)
		}
	}
	return nil
}

func checkOp(op zones.Op, apex zones.Name, source zones.Source, alone bool) *zones.Rejection {
	if rej := checkSource(op, source); rej != nil {
		return rej
	}
	switch op := op.(type) {
	case zones.OpSetSettings:
		if op.Parts&^zones.AllSettings != 0 || op.Parts != 0 && !op.Settings.Equal(zones.ZoneSettings{}.With(op.Parts, op.Settings)) {
			return &zones.Rejection{Rule: zones.RuleMalformed, Detail: "settings that it does not name, or that there are not"}
		}
		return checkSettings(op.Settings, apex)
	case zones.OpPutRRset:
		return checkPut(op.RRset, apex, source)
	case zones.OpAddRecords:
		return checkPut(op.RRset, apex, source)
	case zones.OpDeleteRecords:
		if typeSigning(op.RRset.Type) && source == zones.SourceClient {
			return signersWork(op.RRset.Owner, op.RRset.Type)
		}
		return checkValues(op.RRset, apex)
	case zones.OpDeleteRRset:
		switch {
		case typeSigning(op.Type) && source == zones.SourceClient:
			return signersWork(op.Owner, op.Type)
		case op.Type == zones.TypeRRSIG:
			return &zones.Rejection{
				Rule: zones.RuleMalformed, Owner: op.Owner, Type: op.Type,
				Detail: "signatures are an RRset for each type that they cover: delete their records",
			}
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
		if op.Settings.IsSecondary() && len(op.RRsets) > 0 {
			return &zones.Rejection{Rule: zones.RuleSecondary, Owner: apex, Detail: "the content of a zone with primaries comes from them, and is not created"}
		}
		return checkContent(op.Settings, apex, op.RRsets)
	case zones.OpReplaceZone:
		return checkContent(op.Settings, apex, op.RRsets)
	case zones.OpStageChunk:
		if len(op.RRsets) == 0 {
			return &zones.Rejection{Rule: zones.RuleMalformed, Detail: "an empty chunk"}
		}
		return checkContent(zones.ZoneSettings{}, apex, op.RRsets)
	case zones.OpStageCommit:
		return checkNewSettings(op.Settings, apex)
	case zones.OpSetStanding:
		if ms := op.Since.UnixMilli(); !op.Since.IsZero() && (ms <= 0 || ms > maxMillis) {
			return &zones.Rejection{Rule: zones.RuleMalformed, Detail: "no time at which a zone could be confirmed"}
		}
		return nil
	case zones.OpDeleteZone, zones.OpStageAbort, zones.OpRaiseFormatLevel:
		return nil
	}
	return &zones.Rejection{Rule: zones.RuleMalformed, Detail: fmt.Sprintf("operation %T", op)}
}

// checkPut checks an RRset that is to be in the zone.
func checkPut(s zones.RRset, apex zones.Name, source zones.Source) *zones.Rejection {
	if typeSigning(s.Type) && source == zones.SourceClient {
		return signersWork(s.Owner, s.Type)
	}
	return checkRRset(s, apex, source)
}

func signersWork(owner zones.Name, t zones.Type) *zones.Rejection {
	return &zones.Rejection{
		Rule: zones.RuleSigned, Owner: owner, Type: t,
		Detail: "keys, signatures and denials come with a whole signed zone, not one by one",
	}
}

func checkContent(settings zones.ZoneSettings, apex zones.Name, sets []zones.RRset) *zones.Rejection {
	if len(sets) > MaxRRsetsTouched {
		return &zones.Rejection{
			Rule:   zones.RuleTooLarge,
			Detail: fmt.Sprintf("%d RRsets; at most %d fit one record: stage larger zones", len(sets), MaxRRsetsTouched),
		}
	}
	return checkNewSettings(settings, apex)
}

// checkNewSettings says what is wrong with the whole settings of a zone that is made.
func checkNewSettings(settings zones.ZoneSettings, apex zones.Name) *zones.Rejection {
	if rej := checkSettings(settings, apex); rej != nil {
		return rej
	}
	return checkTogether(settings)
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
	case zones.IfMember:
		if why := memberFault(p.Member, apex); why != "" {
			return &zones.Rejection{Rule: zones.RuleMalformed, Detail: why}
		}
		return nil
	case zones.IfSerial, zones.IfZoneAbsent:
		return nil
	}
	return &zones.Rejection{Rule: zones.RuleMalformed, Detail: fmt.Sprintf("precondition %T", p)}
}
