package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"balefire/replication/keyring"
	"balefire/replication/mutationlog"
	"balefire/zones"
)

// Keyring is the namespace's TSIG keys and ACLs. *keyring.Ring satisfies it.
type Keyring interface {
	Keys() []keyring.KeyInfo
	KeyInfo(name zones.Name) (keyring.KeyInfo, bool)
	PutKey(ctx context.Context, key zones.TSIGKey) error
	PutSealedKey(ctx context.Context, key keyring.KeyInfo) error
	DeleteKey(ctx context.Context, name zones.Name) error
	ACLs() []keyring.ACL
	ACL(name string) (keyring.ACL, bool)
	PutACL(ctx context.Context, acl keyring.ACL) error
	DeleteACL(ctx context.Context, name string) error
}

var _ Keyring = (*keyring.Ring)(nil)

// keyring returns what knows the keys, or the problem that nothing does.
func (s *Server) keyring() (Keyring, error) {
	if s.opts.Keyring == nil {
		return nil, notKnown("this server has no TSIG keys and ACLs")
	}
	return s.opts.Keyring, nil
}

// fromKeyring is the problem of a change of the keyring that was not made.
func fromKeyring(err error) error {
	switch {
	case errors.Is(err, keyring.ErrExists), errors.Is(err, keyring.ErrNoSecret), errors.Is(err, keyring.ErrOtherSecret), errors.Is(err, keyring.ErrTooMany):
		return newProblem(http.StatusConflict, "rejected", "%v", err)
	case errors.Is(err, keyring.ErrNotFound):
		return newProblem(http.StatusNotFound, "not-found", "%v", err)
	case errors.Is(err, keyring.ErrNotValid):
		return newProblem(http.StatusUnprocessableEntity, "not-valid", "%v", err)
	case errors.Is(err, mutationlog.ErrTooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "%v", err)
	}
	return fromLog(err)
}

// keyView is a key as it is shown.
type keyView struct {
	Name      string     `json:"name"`
	Algorithm string     `json:"algorithm"`
	Created   *time.Time `json:"created,omitempty"`
	// Secret is shown once, to who has made the key.
	Secret string `json:"secret,omitempty"`
	// Sealed is shown to who asks for it, to bring the key into another namespace that has the same secret.
	Sealed  string `json:"sealed,omitempty"`
	Problem string `json:"problem,omitempty"`
}

func viewKey(k keyring.KeyInfo) keyView {
	return keyView{Name: k.Name.String(), Algorithm: zones.TSIGAlgorithmText(k.Algorithm), Created: timeOrNil(k.Created), Problem: k.Problem}
}

// getKeys lists the TSIG keys, without their secrets, but with these sealed for who asks for that.
func (s *Server) getKeys(w http.ResponseWriter, r *http.Request) error {
	query, err := queryOf(r, "sealed")
	if err != nil {
		return err
	}
	sealed, err := flagOf(query, "sealed")
	if err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	list := ring.Keys()
	shown := make([]keyView, len(list))
	for i, k := range list {
		shown[i] = viewKey(k)
		if sealed {
			shown[i].Sealed = k.Sealed
		}
	}
	return writeJSON(w, http.StatusOK, struct {
		Keys []keyView `json:"keys"`
	}{shown})
}

// postKeys makes a key, with the secret that is given or one of its own, and shows it; or takes one of another namespace, sealed.
func (s *Server) postKeys(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	body, err := readJSON(w, r, s.opts.Limits.Body)
	if err != nil {
		return err
	}
	f := &form{}
	key, sealed := f.key(body)
	if err := f.err(); err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
	defer cancel()
	if sealed != nil {
		if err := ring.PutSealedKey(ctx, *sealed); err != nil {
			return fromKeyring(err)
		}
		s.log.Info().Stringer("key", sealed.Name).Msg("a TSIG key was taken from another namespace")
		return writeJSON(w, http.StatusCreated, viewKey(*sealed))
	}
	if err := ring.PutKey(ctx, key); err != nil {
		return fromKeyring(err)
	}
	s.log.Info().Stringer("key", key.Name).Msg("a TSIG key was made")
	shown := keyView{Name: key.Name.String(), Algorithm: zones.TSIGAlgorithmText(key.Algorithm), Secret: base64.StdEncoding.EncodeToString(key.Secret)}
	if info, ok := ring.KeyInfo(key.Name); ok {
		shown.Created = timeOrNil(info.Created)
	}
	return writeJSON(w, http.StatusCreated, shown)
}

// key reads a new key, or one of another namespace. What is wrong with its secret is told without it.
func (f *form) key(body value) (key zones.TSIGKey, sealed *keyring.KeyInfo) {
	o := f.object(body)
	v, ok := o.required("name")
	if key.Name, ok = o.name(v, ok, zones.Root); ok && key.Name == zones.Root {
		o.add(v.at, "the root is no name for a key")
	}
	key.Algorithm = zones.HMACSHA256
	v, ok = o.optional("algorithm")
	if text, ok := o.text(v, ok); ok {
		var err error
		if key.Algorithm, err = zones.ParseTSIGAlgorithm(text); err != nil {
			o.add(v.at, "%v", err)
		}
	}
	v, given := o.optional("secret")
	if text, ok := o.text(v, given); ok {
		secret, err := base64.StdEncoding.DecodeString(text)
		switch {
		case err != nil:
			o.add(v.at, "is not base64")
		case len(secret) < zones.MinTSIGSecret || len(secret) > zones.MaxTSIGSecret:
			o.add(v.at, "%d octets; want %d to %d", len(secret), zones.MinTSIGSecret, zones.MaxTSIGSecret)
		}
		key.Secret = secret
	}
	v, ok = o.optional("sealed")
	if text, ok := o.text(v, ok); ok {
		sealed = &keyring.KeyInfo{Name: key.Name, Algorithm: key.Algorithm, Sealed: text}
		if given {
			o.add(v.at, "is there beside a secret")
		}
		v, ok := o.optional("created")
		if text, ok := o.text(v, ok); ok {
			var err error
			if sealed.Created, err = time.Parse(time.RFC3339, text); err != nil {
				o.add(v.at, "want a time, such as 2026-01-02T03:04:05Z")
			}
		}
	}
	o.end()
	if !given {
		key.Secret = make([]byte, max(zones.TSIGHashLen(key.Algorithm), zones.MinTSIGSecret))
		rand.Read(key.Secret) // never fails
	}
	return key, sealed
}

// keyNameOf reads {key}.
func keyNameOf(r *http.Request) (zones.Name, error) {
	name, err := zones.ParseName(r.PathValue("key"))
	if err != nil {
		return "", badParameter("{key}", "%v", err)
	}
	return name, nil
}

// getKey shows a key, without its secret.
func (s *Server) getKey(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	name, err := keyNameOf(r)
	if err != nil {
		return err
	}
	k, ok := ring.KeyInfo(name)
	if !ok {
		return newProblem(http.StatusNotFound, "not-found", "there is no TSIG key %s", name)
	}
	return writeJSON(w, http.StatusOK, viewKey(k))
}

// deleteKey removes a key. Nothing is signed or accepted with it any more, on each node as soon as it has read of it.
func (s *Server) deleteKey(w http.ResponseWriter, r *http.Request) error {
	if _, err := queryOf(r); err != nil {
		return err
	}
	ring, err := s.keyring()
	if err != nil {
		return err
	}
	name, err := keyNameOf(r)
	if err != nil {
		return err
	}
	ctx, cancel := contextWithin(r, s.opts.Limits.PublishTimeout)
	defer cancel()
	if err := ring.DeleteKey(ctx, name); err != nil {
		return fromKeyring(err)
	}
	s.log.Info().Stringer("key", name).Msg("a TSIG key was deleted")
	w.WriteHeader(http.StatusNoContent)
	return nil
}
