// Package keyring knows the namespace's TSIG keys and who may do what in all its zones: records of the control topic (docs/formats/control.md), with
// the keys' secrets sealed. It does not know how the topic is read and written, what the keys sign, nor the grants that zones have
// themselves.
//
// What holds:
//   - What isn't understood, or can't be opened, allows nothing, and is said.
//   - Secrets are in the topic, and in its copy on disk, only sealed under the namespace's secret, which is in neither.
//   - Looking up needs no lock: it is done in a snapshot that is replaced as a whole.
package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"balefire/zones"
)

// Control is the control topic as far as it was read.
type Control interface {
	// List returns the records whose keys begin with a prefix. The values are not to be changed.
	List(prefix string) map[string][]byte
	// Changed returns a channel that is closed when there is something new.
	Changed() <-chan struct{}
}

// Options of a Ring. Control and Put are needed.
type Options struct {
	Control Control
	// Put sets a record of the control topic, and returns when this node has read it back.
	Put func(ctx context.Context, key string, value []byte) error
	// Secrets are the namespace's, each of SecretLen octets: the first seals, all are tried for opening. None: keys can't be made or used.
	Secrets [][]byte
	// MakeSecret makes the first secret when it is needed. Nil: it must be given.
	MakeSecret func() ([]byte, error)
	Logger     zerolog.Logger
}

// The errors of changes, beside Put's.
var (
	ErrExists   = errors.New("it exists")
	ErrNotFound = errors.New("there is none of this name")
	ErrNoSecret = errors.New("the namespace's secret is not given (secrets.key-file)")
	ErrTooMany  = errors.New("there are as many as there may be")
	ErrNotValid = errors.New("not valid")
	// ErrOtherSecret is of a key that this namespace can't use.
	ErrOtherSecret = errors.New("it was sealed under a secret that is not in secrets.key-file, or was changed since")
)

// Every node has all of them in memory, and its copy of the control topic is one file.
const (
	maxKeys = 10_000
	maxACLs = 1000
)

// recordVersion is the version of the records.
const recordVersion = 1

// Ring is the keys and ACLs. Its methods may be used by many goroutines at once.
type Ring struct {
	opts    Options
	current atomic.Pointer[snapshot]
	// changing has a token for who changes something: what it has looked at stays so for it, in this process.
	changing chan struct{}

	mu      sync.Mutex // guards what follows
	sealers []*sealer
	read    map[string]entry // by key of the topic: what was read last, and what it came to
}

// entry is a record and what it came to: a key, an ACL, or a problem; or none of them, when it says that it was deleted.
type entry struct {
	value   []byte
	key     *heldKey
	acl     *ACL
	problem string
}

// snapshot is immutable.
type snapshot struct {
	keys     map[zones.Name]*heldKey
	acls     []ACL // by name
	unusable []string
}

// New makes a ring of what the topic holds so far. Run keeps it up.
func New(opts Options) (*Ring, error) {
	r := &Ring{opts: opts, changing: make(chan struct{}, 1), read: make(map[string]entry)}
	for _, secret := range opts.Secrets {
		s, err := newSealer(secret)
		if err != nil {
			return nil, err
		}
		r.sealers = append(r.sealers, s)
	}
	r.refresh()
	return r, nil
}

// Run follows the topic until ctx ends.
func (r *Ring) Run(ctx context.Context) {
	for {
		changed := r.opts.Control.Changed() // before looking, so that nothing is missed
		r.refresh()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// refresh makes a snapshot of what the topic holds now.
func (r *Ring) refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	read := make(map[string]entry, len(r.read))
	same := true
	for _, prefix := range []string{keyPrefix, aclPrefix} {
		for key, value := range r.opts.Control.List(prefix) {
			before, known := r.read[key]
			if known && bytes.Equal(before.value, value) {
				read[key] = before
				continue
			}
			same = false
			read[key] = r.readRecord(key, value)
			if problem := read[key].problem; problem != "" {
				r.opts.Logger.Error().Str("record", key).Str("problem", problem).Msg("control topic: a record of the keyring can't be used")
			}
		}
	}
	if same && len(read) == len(r.read) && r.current.Load() != nil {
		return
	}
	r.read = read
	s := &snapshot{keys: make(map[zones.Name]*heldKey)}
	for key, e := range read {
		switch {
		case e.key != nil:
			s.keys[e.key.Name] = e.key
		case e.acl != nil:
			s.acls = append(s.acls, *e.acl)
		}
		if e.problem != "" {
			s.unusable = append(s.unusable, key+": "+e.problem)
		}
	}
	slices.SortFunc(s.acls, func(a, b ACL) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(s.unusable)
	r.current.Store(s)
}

func (r *Ring) readRecord(key string, value []byte) entry {
	e := entry{value: value}
	var err error
	if strings.HasPrefix(key, keyPrefix) {
		e.key, err = readKey(key, value, r.sealers)
	} else {
		e.acl, err = readACL(key, value)
	}
	if err != nil {
		e.problem = err.Error()
	}
	return e
}

// change takes the token, or returns what ends ctx. The token is given back by done.
func (r *Ring) change(ctx context.Context) (done func(), err error) {
	select {
	case r.changing <- struct{}{}:
		r.refresh()
		return func() { <-r.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// put publishes a record, and has it in the snapshot when it returns.
func (r *Ring) put(ctx context.Context, key string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	err = r.opts.Put(ctx, key, value)
	r.refresh()
	return err
}

// Key returns a key that can be used, with its secret.
func (r *Ring) Key(name zones.Name) (zones.TSIGKey, bool) {
	k := r.current.Load().keys[name]
	if k == nil || k.Secret == nil {
		return zones.TSIGKey{}, false
	}
	return k.TSIGKey, true
}

// KeyInfo is what may be told of a key.
type KeyInfo struct {
	Name, Algorithm zones.Name
	Created         time.Time
	// Sealed is its secret, sealed under the namespace's, in base64: of use to nobody without that, and to another namespace that has it.
	Sealed string
	// Problem says why the key can't be used; "" when it can.
	Problem string
}

// Keys returns all keys, in canonical order.
func (r *Ring) Keys() []KeyInfo {
	var list []KeyInfo
	for k := range maps.Values(r.current.Load().keys) {
		list = append(list, k.info())
	}
	slices.SortFunc(list, func(a, b KeyInfo) int { return zones.Compare(a.Name, b.Name) })
	return list
}

// KeyInfo returns what may be told of one key.
func (r *Ring) KeyInfo(name zones.Name) (KeyInfo, bool) {
	k := r.current.Load().keys[name]
	if k == nil {
		return KeyInfo{}, false
	}
	return k.info(), true
}

// PutKey makes a key known in the namespace. The errors are Put's, and those of this package, after which nothing was changed. Of two nodes that make the
// same key at once, the last one's counts.
func (r *Ring) PutKey(ctx context.Context, key zones.TSIGKey) error {
	if err := key.Check(); err != nil {
		return fmt.Errorf("TSIG key %s: %w: %w", key.Name, ErrNotValid, err)
	}
	return r.putKey(ctx, key.Name, func() (*keyRecord, error) {
		first, err := r.firstSealer()
		if err != nil {
			return nil, err
		}
		sealed := sealKey(key, first, time.Now())
		return &sealed, nil
	})
}

// PutSealedKey makes known a key of another namespace that has the same secret, as KeyInfo tells of it there. It is no error that it is there already. The
// errors are PutKey's, and ErrOtherSecret.
func (r *Ring) PutSealedKey(ctx context.Context, key KeyInfo) error {
	if key.Name == "" || key.Name == zones.Root || zones.TSIGHashLen(key.Algorithm) == 0 {
		return fmt.Errorf("TSIG key %s: %w: want a name and an algorithm", key.Name, ErrNotValid)
	}
	record := keyRecord{V: recordVersion, Name: key.Name.String(), Algorithm: key.Algorithm.String(), Created: key.Created.UTC().Truncate(time.Second), Sealed: key.Sealed}
	err := r.putKey(ctx, key.Name, func() (*keyRecord, error) {
		r.mu.Lock()
		sealers := r.sealers
		r.mu.Unlock()
		held := heldKey{TSIGKey: zones.TSIGKey{Name: key.Name, Algorithm: key.Algorithm}, sealed: key.Sealed}
		return &record, held.open(sealers)
	})
	if there, ok := r.KeyInfo(key.Name); errors.Is(err, ErrExists) && ok && there.Algorithm == key.Algorithm && there.Sealed == key.Sealed {
		return nil
	}
	return err
}

// putKey publishes the record of a key that is not there.
func (r *Ring) putKey(ctx context.Context, name zones.Name, begin func() (*keyRecord, error)) error {
	failed := func(err error) error { return fmt.Errorf("TSIG key %s: %w", name, err) }
	done, err := r.change(ctx)
	if err != nil {
		return failed(err)
	}
	defer done()
	s := r.current.Load()
	switch {
	case s.keys[name] != nil:
		return failed(ErrExists)
	case len(s.keys) >= maxKeys:
		return failed(fmt.Errorf("%w: %d", ErrTooMany, maxKeys))
	}
	record, err := begin()
	if err != nil {
		return failed(err)
	}
	if err := r.put(ctx, keyPrefix+name.String(), record); err != nil {
		return failed(err)
	}
	return nil
}

// firstSealer returns what seals. It makes the namespace's secret, if there is none and it may.
func (r *Ring) firstSealer() (*sealer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sealers) > 0 {
		return r.sealers[0], nil
	}
	if r.opts.MakeSecret == nil {
		return nil, ErrNoSecret
	}
	secret, err := r.opts.MakeSecret()
	if err != nil {
		return nil, fmt.Errorf("make the namespace's secret: %w", err)
	}
	s, err := newSealer(secret)
	if err != nil {
		return nil, err
	}
	r.sealers = []*sealer{s}
	clear(r.read) // what could not be opened is tried again
	return s, nil
}

// DeleteKey makes a key unknown. The errors are PutKey's.
func (r *Ring) DeleteKey(ctx context.Context, name zones.Name) error {
	done, err := r.change(ctx)
	if err != nil {
		return fmt.Errorf("TSIG key %s: %w", name, err)
	}
	defer done()
	if r.current.Load().keys[name] == nil {
		return fmt.Errorf("TSIG key %s: %w", name, ErrNotFound)
	}
	if err := r.put(ctx, keyPrefix+name.String(), keyRecord{V: recordVersion, Name: name.String(), Deleted: true}); err != nil {
		return fmt.Errorf("TSIG key %s: %w", name, err)
	}
	return nil
}

// ACLs returns all of them, by name. They are not to be changed.
func (r *Ring) ACLs() []ACL { return r.current.Load().acls }

// ACL returns one of them. It is not to be changed.
func (r *Ring) ACL(name string) (ACL, bool) {
	acls := r.ACLs()
	i, ok := slices.BinarySearchFunc(acls, name, func(a ACL, name string) int { return strings.Compare(a.Name, name) })
	if !ok {
		return ACL{}, false
	}
	return acls[i], true
}

// PutACL sets an ACL, whether it was there or not. The errors are PutKey's.
func (r *Ring) PutACL(ctx context.Context, acl ACL) error {
	if err := acl.Check(); err != nil {
		return fmt.Errorf("ACL %s: %w: %w", acl.Name, ErrNotValid, err)
	}
	done, err := r.change(ctx)
	if err != nil {
		return fmt.Errorf("ACL %s: %w", acl.Name, err)
	}
	defer done()
	if _, there := r.ACL(acl.Name); !there && len(r.ACLs()) >= maxACLs {
		return fmt.Errorf("ACL %s: %w: %d", acl.Name, ErrTooMany, maxACLs)
	}
	if err := r.put(ctx, aclPrefix+acl.Name, acl.record()); err != nil {
		return fmt.Errorf("ACL %s: %w", acl.Name, err)
	}
	return nil
}

// DeleteACL removes an ACL. The errors are PutKey's.
func (r *Ring) DeleteACL(ctx context.Context, name string) error {
	done, err := r.change(ctx)
	if err != nil {
		return fmt.Errorf("ACL %s: %w", name, err)
	}
	defer done()
	if _, there := r.ACL(name); !there {
		return fmt.Errorf("ACL %s: %w", name, ErrNotFound)
	}
	if err := r.put(ctx, aclPrefix+name, aclRecord{V: recordVersion, Name: name, Deleted: true}); err != nil {
		return fmt.Errorf("ACL %s: %w", name, err)
	}
	return nil
}

// Grants returns what is allowed in a zone, by its own grants and by ACLs.
func (r *Ring) Grants(apex zones.Name, settings zones.ZoneSettings) []zones.Grant {
	grants := slices.Clone(settings.Grants)
	for _, a := range r.ACLs() {
		if a.covers(apex) {
			grants = append(grants, a.Grant)
		}
	}
	return grants
}

// Allows reports whether somebody with a key ("" when the message is not signed) at an address may do something to a zone: by the zone's own grants, or
// by an ACL.
func (r *Ring) Allows(d zones.Deed, apex zones.Name, settings zones.ZoneSettings, key zones.Name, from netip.Addr) bool {
	for _, g := range settings.Grants {
		if g.AllowsFrom(d, key, from) {
			return true
		}
	}
	for _, a := range r.ACLs() {
		if a.covers(apex) && a.Grant.AllowsFrom(d, key, from) {
			return true
		}
	}
	return false
}

// toldTroubles is how many records are named in a trouble.
const toldTroubles = 3

// Troubles returns what people should put right.
func (r *Ring) Troubles() []string {
	unusable := r.current.Load().unusable
	if len(unusable) == 0 {
		return nil
	}
	text := fmt.Sprintf("%d TSIG keys or ACLs can't be used: %s", len(unusable), strings.Join(unusable[:min(len(unusable), toldTroubles)], "; "))
	if len(unusable) > toldTroubles {
		text += "; …"
	}
	return []string{text}
}
