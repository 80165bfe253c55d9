package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

// What is the namespace's and no zone's is moved as well: TSIG keys, sealed as they are, and ACLs. They come before the zones, whose settings name them.

// controlPass is what comparing them came to.
type controlPass struct {
	copied, failed int
	own            []string // those that only the new namespace has
}

// control makes the new namespace have what the old one has. The error is for what ends the move.
func (m *mover) control(ctx context.Context) (p controlPass, err error) {
	for _, step := range []func(context.Context, *controlPass) error{m.keys, m.acls} {
		if err := step(ctx, &p); err != nil {
			return p, err
		}
	}
	slices.Sort(p.own)
	return p, ctx.Err()
}

// did notes what became of one of them.
func (m *mover) did(p *controlPass, what string, err error) {
	if err == nil {
		p.copied++
		return
	}
	if p.failed++; p.failed <= movesTold {
		fmt.Fprintf(m.log, "failed: %s: %v\n", what, err)
	}
}

// sealedKey is a TSIG key as one namespace tells another of it.
type sealedKey struct {
	Name      string    `json:"name"`
	Algorithm string    `json:"algorithm"`
	Created   time.Time `json:"created,omitzero"`
	Sealed    string    `json:"sealed"`
}

func (m *mover) keys(ctx context.Context, p *controlPass) error {
	list := func(c *client) (keys map[string]sealedKey, err error) {
		var got struct {
			Keys []sealedKey `json:"keys"`
		}
		err = c.call(ctx, request{method: http.MethodGet, path: tsigPath, query: url.Values{"sealed": {"true"}}}, &got)
		keys = map[string]sealedKey{}
		for _, k := range got.Keys {
			k.Created = k.Created.UTC()
			keys[k.Name] = k
		}
		return keys, err
	}
	old, err := list(m.from)
	if err != nil {
		return err
	}
	there, err := list(m.to)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		k, what := old[name], "TSIG key "+name
		other, present := there[name]
		switch {
		case present && other == k:
			continue
		case present && !m.force:
			m.did(p, what, errors.New("the new namespace has another one of this name: --force puts this one in its place"))
			continue
		case present:
			err := m.to.call(ctx, request{method: http.MethodDelete, path: append(tsigPath[:2:2], name)}, nil)
			if err != nil {
				m.did(p, what, err)
				continue
			}
		}
		err := m.to.call(ctx, request{method: http.MethodPost, path: tsigPath, body: k}, nil)
		if err != nil && strings.Contains(err.Error(), "secrets.key-file") {
			err = fmt.Errorf("%w. Start the new namespace's nodes with the secrets of the old one in their secrets.key-file", err)
		}
		m.did(p, what, err)
	}
	for name := range there {
		if _, ok := old[name]; !ok {
			p.own = append(p.own, "TSIG key "+name)
		}
	}
	return nil
}

func (m *mover) acls(ctx context.Context, p *controlPass) error {
	list := func(c *client) (acls map[string]acl, err error) {
		var got struct {
			ACLs []acl `json:"acls"`
		}
		err = c.call(ctx, request{method: http.MethodGet, path: []string{"v1", "acls"}}, &got)
		acls = map[string]acl{}
		for _, a := range got.ACLs {
			acls[a.Name] = a
		}
		return acls, err
	}
	old, err := list(m.from)
	if err != nil {
		return err
	}
	there, err := list(m.to)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		a, what := old[name], "ACL "+name
		other, present := there[name]
		changed, since := a.Changed, other.Changed // in UTC, to the second: they compare as texts
		a.Changed, other.Changed = "", ""
		switch {
		case present && reflect.DeepEqual(a, other):
			continue
		case present && since > changed && !m.force: // a move makes them equal, so the one that was set last is the one that was changed since
			m.did(p, what, errors.New("it was changed in the new namespace: --force overwrites that"))
			continue
		}
		a.Name = ""
		m.did(p, what, m.to.call(ctx, request{method: http.MethodPut, path: []string{"v1", "acls", name}, body: a}, nil))
	}
	for name := range there {
		if _, ok := old[name]; !ok {
			p.own = append(p.own, "ACL "+name)
		}
	}
	return nil
}
