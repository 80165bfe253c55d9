package change

import (
	"errors"
	"fmt"
	"slices"

	"balefire/zones"
)

// patch applies operations on the RRsets and settings of a hosted zone, in their order.
//
// The rules of a valid zone are asked of the end, not of each step: a CNAME may take the place of an A in two operations.
func (a *application) patch(ops []zones.Op) (Result, *zones.Rejection, error) {
	if !a.hosted {
		return Result{}, a.noZone(), nil
	}
	settings, setAt := a.old.Settings, -1
	for i, op := range ops {
		if set, ok := op.(zones.OpSetSettings); ok {
			parts := set.Parts
			if parts == 0 {
				parts = zones.AllSettings
			}
			settings, setAt = settings.With(parts, set.Settings), i
			continue
		}
		if rej := a.mayChange(settings); rej != nil {
			return Result{}, atOp(rej, i), nil
		}
		if a.old.Standing.Awaiting {
			return Result{}, atOp(a.nothingYet("the zone has no content yet, which must come whole"), i), nil
		}
		if a.old.Signed && a.source == zones.SourceClient {
			return Result{}, &zones.Rejection{
				Rule: zones.RuleSigned, Owner: a.apex, Op: i,
				Detail: "the zone came signed, and a change would break its signatures: replace it whole",
			}, nil
		}
		if rej, err := a.record(op); rej != nil || err != nil {
			return Result{}, atOp(rej, i), err
		}
	}
	if setAt >= 0 { // each part is good, and together they may still be too much
		if rej := checkSettings(settings, a.apex); rej != nil {
			return Result{}, atOp(rej, setAt), nil
		}
		if rej := checkTogether(settings); rej != nil {
			return Result{}, atOp(rej, setAt), nil
		}
	}
	if a.old.Standing.Awaiting && !settings.IsSecondary() {
		return Result{}, a.nothingYet("the zone has no content, and would have no primaries that it can come from"), nil
	}
	zone := a.old
	zone.Settings = settings
	zone.Standing = a.standing(settings)

	o := &a.overlay
	slices.SortFunc(o.changed, compareSites)
	if !slices.ContainsFunc(o.changed, func(at site) bool { return o.nodes[at].differs() }) {
		return a.keepContent(zone), nil, nil
	}
	if rej, err := o.checkNodes(a.old.DNAMEs > 0); rej != nil || err != nil {
		return Result{}, rej, err
	}
	if rej, err := a.step(&zone); rej != nil || err != nil {
		return Result{}, rej, err
	}

	delta := zones.Delta{From: a.old.Serial, To: zone.Serial}
	size := 0
	for _, at := range o.changed {
		delta.Changes = o.nodes[at].changes(delta.Changes, at.owner)
	}
	for _, c := range delta.Changes {
		if !c.Before.IsZero() {
			zone.leave(c.Before, a.apex)
			size += octets(c.Before)
		}
		if !c.After.IsZero() {
			zone.enter(c.After, a.apex)
			size += octets(c.After)
		}
	}
	if len(delta.Changes) > MaxRRsetsTouched || size > MaxTouched {
		return Result{}, &zones.Rejection{
			Rule: zones.RuleTooLarge, Owner: a.apex, Op: -1,
			Detail: fmt.Sprintf("it changes %d RRsets and %d octets; at most %d and %d may change at once",
				len(delta.Changes), size, MaxRRsetsTouched, MaxTouched),
		}, nil
	}
	return Result{Kind: Patch, Zone: zone, Delta: delta}, nil, nil
}

// step gives the zone, whose content changed and is valid, its next serial: the one that the change set put into the SOA
// when that is after the present one, or else by the zone's policy. A primary's changes bring their serial.
func (a *application) step(zone *Zone) (*zones.Rejection, error) {
	apex, rej, err := a.overlay.changeSOA()
	if rej != nil || err != nil {
		return rej, err
	}
	soa := apex.get(zones.Key{Type: zones.TypeSOA})
	if soa.IsZero() {
		return nil, fmt.Errorf("zone %s: %w", a.apex, errNoSOA)
	}
	serial := soa.SOASerial()
	switch {
	case serial == a.old.Serial && a.source == zones.SourceClient:
		serial = zone.Settings.SerialPolicy.Next(serial, a.logTime)
		apex.put(soa.WithSOASerial(serial))
	case !serial.IsAfter(a.old.Serial):
		return reject(zones.RuleSerial, soa, "serial %d is not after %d (RFC 1982)", serial, a.old.Serial), nil
	}
	zone.Serial = serial
	// The apex may be named by nothing but its serial: then it is the first of the changed names.
	slices.SortFunc(a.overlay.changed, compareSites)
	return nil, nil
}

// errNoSOA means that the stored zone is damaged.
var errNoSOA = errors.New("the apex has no SOA")

// record applies one operation on RRsets to the overlay.
func (a *application) record(op zones.Op) (*zones.Rejection, error) {
	o := &a.overlay
	switch op := op.(type) {
	case zones.OpPutRRset:
		t, rej, err := o.change(siteOf(op.RRset))
		if rej != nil || err != nil {
			return rej, err
		}
		t.put(op.RRset)
	case zones.OpAddRecords:
		return a.addRecords(op.RRset)
	case zones.OpDeleteRecords:
		t, rej, err := o.change(siteOf(op.RRset))
		if rej != nil || err != nil {
			return rej, err
		}
		present := t.get(op.RRset.Key)
		if rest := present.Minus(op.RRset); rest.IsZero() {
			t.remove(op.RRset.Key)
		} else {
			t.put(rest)
		}
	case zones.OpDeleteRRset:
		t, rej, err := o.change(site{op.Owner, op.Type == zones.TypeNSEC3})
		if rej != nil || err != nil {
			return rej, err
		}
		t.remove(zones.Key{Type: op.Type})
	case zones.OpDeleteName:
		t, rej, err := o.change(site{owner: op.Owner})
		if rej != nil || err != nil {
			return rej, err
		}
		t.after = slices.DeleteFunc(t.after, func(s zones.RRset) bool {
			// RFC 2136 §3.4.2.3: at the apex, SOA and NS stay.
			return op.Owner != a.apex || s.Type != zones.TypeSOA && s.Type != zones.TypeNS
		})
	default:
		return &zones.Rejection{Rule: zones.RuleMalformed, Detail: fmt.Sprintf("operation %T", op)}, nil
	}
	return nil, nil
}

func (a *application) addRecords(s zones.RRset) (*zones.Rejection, error) {
	t, rej, err := a.overlay.change(siteOf(s))
	if rej != nil || err != nil {
		return rej, err
	}
	present := t.get(s.Key)
	switch {
	case present.IsZero():
		t.put(s)
	case s.Type == zones.TypeSOA, s.Type == zones.TypeCNAME, s.Type == zones.TypeDNAME:
		// RFC 2136 §3.4.2.2, RFC 6672 §5.2: there is only ever one, and the new one is it.
		t.put(s)
	default:
		union, err := present.Union(s)
		if err != nil {
			return reject(zones.RuleRRsetSize, s, "%v", err), nil
		}
		t.put(union.WithTTL(s.TTL))
	}
	return nil, nil
}

// precondition says whether p holds of the zone before the change set: nil when it does.
func (a *application) precondition(p zones.Precondition) (*zones.Rejection, error) {
	if _, ok := p.(zones.IfZoneAbsent); ok {
		if a.hosted {
			return failed(a.apex, 0, "the zone is hosted"), nil
		}
		return nil, nil
	}
	if !a.hosted {
		return a.noZone(), nil
	}
	switch p := p.(type) {
	case zones.IfSerial:
		if p.Serial != a.old.Serial {
			return failed(a.apex, zones.TypeSOA, "the serial is %d, not %d", a.old.Serial, p.Serial), nil
		}
		return nil, nil
	case zones.IfMember:
		if p.Member != a.old.Settings.Member {
			return failed(a.apex, 0, "the zone %s, not %s", ofCatalog(a.old.Settings.Member), ofCatalog(p.Member)), nil
		}
		return nil, nil
	case zones.IfNameInUse:
		t, rej, err := a.overlay.at(p.Owner)
		if rej == nil && err == nil && len(t.before) == 0 {
			rej = failed(p.Owner, 0, "the name is not in use")
		}
		return rej, err
	case zones.IfNameNotInUse:
		t, rej, err := a.overlay.at(p.Owner)
		if rej == nil && err == nil && len(t.before) > 0 {
			rej = failed(p.Owner, 0, "the name is in use")
		}
		return rej, err
	case zones.IfRRsetExists:
		s, rej, err := a.present(p.Owner, p.Type)
		if rej == nil && err == nil && s.IsZero() {
			rej = failed(p.Owner, p.Type, "no such RRset exists")
		}
		return rej, err
	case zones.IfRRsetAbsent:
		s, rej, err := a.present(p.Owner, p.Type)
		if rej == nil && err == nil && !s.IsZero() {
			rej = failed(p.Owner, p.Type, "such an RRset exists")
		}
		return rej, err
	case zones.IfRRsetEquals:
		s, rej, err := a.present(p.RRset.Owner, p.RRset.Type)
		if rej == nil && err == nil && (s.IsZero() || !s.SameRData(p.RRset)) {
			rej = failed(p.RRset.Owner, p.RRset.Type, "the RRset has other values, or does not exist")
		}
		return rej, err
	case zones.IfExpression:
		s, rej, err := a.present(p.Owner, p.Type)
		if rej != nil || err != nil {
			return rej, err
		}
		return a.condition(p, s), nil
	}
	return &zones.Rejection{Rule: zones.RuleMalformed, Detail: fmt.Sprintf("precondition %T", p)}, nil
}

// condition says whether an expression over the present RRset, which may be zero, is true: nil when it is.
func (a *application) condition(p zones.IfExpression, present zones.RRset) *zones.Rejection {
	cond, err := ParseCondition(p.Expression)
	if err == nil {
		var holds bool
		holds, err = cond.Holds(Subject{Zone: a.apex, Serial: a.old.Serial, Owner: p.Owner, Type: p.Type, RRset: present})
		if err == nil && holds {
			return nil
		}
		if err == nil {
			return failed(p.Owner, p.Type, "the condition does not hold: %s", p.Expression)
		}
	}
	return &zones.Rejection{Rule: zones.RuleBadCondition, Owner: p.Owner, Type: p.Type, Detail: err.Error()}
}

// present returns the RRset before the change set; zero when there is none.
func (a *application) present(owner zones.Name, t zones.Type) (zones.RRset, *zones.Rejection, error) {
	node, rej, err := a.overlay.at(owner)
	if rej != nil || err != nil {
		return zones.RRset{}, rej, err
	}
	if at, ok := find(node.before, zones.Key{Type: t}); ok {
		return node.before[at], nil, nil
	}
	return zones.RRset{}, nil, nil
}

func failed(owner zones.Name, t zones.Type, format string, args ...any) *zones.Rejection {
	return &zones.Rejection{Rule: zones.RulePrecondition, Owner: owner, Type: t, Detail: fmt.Sprintf(format, args...)}
}
