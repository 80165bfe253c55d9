package update

import (
	"errors"
	"fmt"
	"slices"

	"balefire/zones"
)

// Zone is a zone at one position, as evaluating reads it. *store.Reading satisfies it.
type Zone interface {
	// Node returns the RRsets of a name at or below the apex; none, when it has none. An error means that the truth is unknown.
	Node(owner zones.Name) ([]zones.RRset, error)
}

// Policy says which updates of the zone are taken (RFC 2136 §3.3).
type Policy struct {
	// Refuse says, for people, why the zone takes no updates at all; "" when it does.
	Refuse string
	// Grants are those by which who sends the message may update the zone. Each record must be one that one of them allows.
	Grants []zones.Grant
}

// may reports whether records of a type at a name may be added and removed; of zones.TypeANY, whether all may.
func (p *Policy) may(owner zones.Name, t zones.Type) bool {
	return slices.ContainsFunc(p.Grants, func(g zones.Grant) bool { return g.AllowsUpdate(owner, t) })
}

// maySome reports whether records of some type at a name may be.
func (p *Policy) maySome(owner zones.Name) bool {
	return slices.ContainsFunc(p.Grants, func(g zones.Grant) bool {
		return len(g.Types) == 0 && g.AllowsUpdate(owner, zones.TypeANY) || len(g.Types) > 0 && g.AllowsUpdate(owner, g.Types[0])
	})
}

// Plan is what evaluating a message comes to.
type Plan struct {
	// RCode is the answer, if it is not NoError, and Reason says why, for people.
	RCode  RCode
	Reason string
	// Changes says that the zone is not as the message asks. A change set of the preconditions and operations makes it so; there are
	// none when it need not.
	Changes       bool
	Preconditions []zones.Precondition
	Ops           []zones.Op
}

const (
	// maxPreconditions is how many a change set can have. What needs more is made to depend on the whole zone.
	maxPreconditions = 100
	// maxRead is how many octets of RRsets a message may be about.
	maxRead = 16 << 20
)

// Evaluate says what is to be done to the zone for the message, or the RCODE that it is answered with. The zone is the one that the
// message names, in its class. An error says that the zone could not be read.
func (m *Message) Evaluate(z Zone, p Policy) (Plan, error) {
	e := evaluation{zone: z, apex: m.Zone, policy: &p, names: map[zones.Name]*name{}, required: map[fact]bool{}}
	steps := []func(*Message) (RCode, string, error){e.prerequisites, e.permission, e.prescan, e.updates, e.orphans}
	for _, step := range steps {
		if rcode, reason, err := step(m); err != nil || rcode != NoError {
			return Plan{RCode: rcode, Reason: reason}, err
		}
	}
	return e.plan()
}

// evaluation is one Evaluate.
type evaluation struct {
	zone     Zone
	apex     zones.Name
	policy   *Policy
	names    map[zones.Name]*name
	order    []*name // names, as they were first looked at
	read     int     // octets
	required map[fact]bool
	needs    []zones.Precondition
	// exact says that something was decided that no precondition can say: the zone must be the very same.
	exact bool
	// byType are the updates (by index) that remove a name type by type, since not all types may be.
	byType map[int]bool
}

// name is an owner name, as the zone has it and as the updates so far leave it. RRsets are in the order of their keys.
type name struct {
	owner       zones.Name
	before, now []zones.RRset
	ops         []zones.Op
	added       []zones.Type // of the records that ops add
}

// fact is what a precondition is about.
type fact struct {
	kind  byte
	owner zones.Name
	t     zones.Type
}

// require adds a precondition, once.
func (e *evaluation) require(kind byte, owner zones.Name, t zones.Type, p zones.Precondition) {
	f := fact{kind, owner, t}
	if !e.required[f] {
		e.required[f] = true
		e.needs = append(e.needs, p)
	}
}

// requireAsBefore requires that an RRset has the values that it was found with.
func (e *evaluation) requireAsBefore(n *name, t zones.Type) {
	if s := get(n.before, t); s.IsZero() {
		e.require('-', n.owner, t, zones.IfRRsetAbsent{Owner: n.owner, Type: t})
	} else {
		e.require('=', n.owner, t, zones.IfRRsetEquals{RRset: s})
	}
}

// errTooLarge means that a message is about more than is read for one.
var errTooLarge = fmt.Errorf("the names that it is about own more than %d octets", maxRead)

// name returns an owner name in the zone.
func (e *evaluation) name(owner zones.Name) (*name, error) {
	if n, ok := e.names[owner]; ok {
		return n, nil
	}
	sets, err := e.zone.Node(owner)
	if err != nil {
		return nil, err
	}
	n := &name{owner: owner}
	for _, s := range sets {
		if !s.Hashed() { // the owners of the NSEC3 chain are no names of the zone (RFC 5155 §7.1)
			n.before = append(n.before, s)
			e.read += len(s.Owner) + s.Size()
		}
	}
	if e.read > maxRead {
		return nil, errTooLarge
	}
	n.now = slices.Clone(n.before)
	e.names[owner] = n
	e.order = append(e.order, n)
	return n, nil
}

func find(sets []zones.RRset, t zones.Type) (at int, ok bool) {
	return slices.BinarySearchFunc(sets, zones.Key{Type: t}, func(s zones.RRset, k zones.Key) int { return s.Key.Compare(k) })
}

// get returns an RRset; zero when there is none. It finds no RRSIGs.
func get(sets []zones.RRset, t zones.Type) zones.RRset {
	if at, ok := find(sets, t); ok {
		return sets[at]
	}
	return zones.RRset{}
}

func (n *name) put(s zones.RRset) {
	at, ok := find(n.now, s.Type)
	if ok {
		n.now[at] = s
		return
	}
	n.now = slices.Insert(n.now, at, s)
}

func (n *name) remove(t zones.Type) {
	if at, ok := find(n.now, t); ok {
		n.now = slices.Delete(n.now, at, at+1)
	}
}

func (n *name) has(t zones.Type) bool { return !get(n.now, t).IsZero() }

// owned reports whether the name owned a record of a type before, RRSIGs included.
func (n *name) owned(t zones.Type) bool {
	return slices.ContainsFunc(n.before, func(s zones.RRset) bool { return s.Type == t })
}

// permission refuses what the zone's state forbids altogether (RFC 2136 §3.3.1).
func (e *evaluation) permission(m *Message) (RCode, string, error) {
	if len(m.Updates) > 0 && e.policy.Refuse != "" {
		return Refused, e.policy.Refuse, nil
	}
	return NoError, "", nil
}

// orphans removes DS where the delegation is gone, or never was: they mean nothing there (RFC 4035 §2.4), and who removes the NS of a
// delegation means all of it.
func (e *evaluation) orphans(*Message) (RCode, string, error) {
	for _, n := range e.order {
		if n.owner == e.apex || len(n.ops) == 0 || n.has(zones.TypeNS) || !n.has(zones.TypeDS) {
			continue
		}
		e.requireAsBefore(n, zones.TypeNS)
		n.remove(zones.TypeDS)
		n.ops = append(n.ops, zones.OpDeleteRRset{Owner: n.owner, Type: zones.TypeDS})
	}
	return NoError, "", nil
}

// plan says what came of it.
func (e *evaluation) plan() (Plan, error) {
	var p Plan
	for _, n := range e.order {
		p.Ops = append(p.Ops, n.ops...)
		p.Changes = p.Changes || !slices.EqualFunc(n.before, n.now, func(a, b zones.RRset) bool { return a.Equal(b) })
	}
	if !p.Changes {
		return Plan{}, nil
	}
	p.Preconditions = e.needs
	if e.exact || len(e.needs) > maxPreconditions {
		apex, err := e.name(e.apex)
		if err != nil {
			return failedToRead(err)
		}
		p.Preconditions = []zones.Precondition{zones.IfSerial{Serial: get(apex.before, zones.TypeSOA).SOASerial()}}
	}
	return p, nil
}

func failedToRead(err error) (Plan, error) {
	if errors.Is(err, errTooLarge) {
		return Plan{RCode: Refused, Reason: err.Error()}, nil
	}
	return Plan{}, err
}
