package mutationlog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// The secret of DNS cookies (RFC 7873, RFC 9018) is the namespace's, so that a cookie that one node gave is good at all
// of them. Three generations are kept: the next is everywhere before it is used, and the previous is accepted for a
// while after.
const (
	cookieKey         = "cookie-secrets"
	cookieGenerations = 3
)

// cookieRecord is the value of the control topic's cookie-secrets.
type cookieRecord struct {
	V       int            `json:"v"`
	Secrets []cookieSecret `json:"secrets"` // oldest first; the last is the next, the one before it is in use
}

type cookieSecret struct {
	Generation uint64 `json:"generation"`
	Secret     string `json:"secret"` // 16 octets in hexadecimal
	secret     [16]byte
}

func parseCookieRecord(value []byte) (cookieRecord, error) {
	var r cookieRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("%s: %w", cookieKey, err)
	}
	if r.V != controlVersion {
		return r, fmt.Errorf("%s: version %d is not known here", cookieKey, r.V)
	}
	if len(r.Secrets) < 2 || len(r.Secrets) > cookieGenerations {
		return r, fmt.Errorf("%s: %d secrets, want 2 or %d", cookieKey, len(r.Secrets), cookieGenerations)
	}
	for i := range r.Secrets {
		id, err := parseID(r.Secrets[i].Secret)
		if err != nil {
			return r, fmt.Errorf("%s: secret %d is not 16 octets in hexadecimal", cookieKey, i) // without the secret
		}
		r.Secrets[i].secret = id
	}
	return r, nil
}

// inUse returns the secret to make cookies with, then the others to accept.
func (r cookieRecord) inUse() [][16]byte {
	n := len(r.Secrets)
	secrets := [][16]byte{r.Secrets[n-2].secret, r.Secrets[n-1].secret}
	if n > 2 {
		secrets = append(secrets, r.Secrets[n-3].secret)
	}
	return secrets
}

// rotated returns the record with the next secret in use, and a new next one.
func (r cookieRecord) rotated() cookieRecord {
	var generation uint64
	if n := len(r.Secrets); n > 0 {
		generation = r.Secrets[n-1].Generation
	}
	var secret [16]byte
	rand.Read(secret[:]) // never fails
	secrets := append(r.Secrets[:len(r.Secrets):len(r.Secrets)], cookieSecret{
		Generation: generation + 1, Secret: hex.EncodeToString(secret[:]), secret: secret,
	})
	return cookieRecord{V: controlVersion, Secrets: secrets[max(0, len(secrets)-cookieGenerations):]}
}

// CookieSecrets returns the secrets of DNS cookies: the first makes them, all are accepted. There are none until the
// log was reached once. The slice is not to be changed. Control().Changed() tells when to ask again.
func (l *Log) CookieSecrets() [][16]byte {
	l.control.mu.Lock()
	defer l.control.mu.Unlock()
	return l.control.cookies
}

// RotateCookieSecret takes the next secret into use, and makes a new next one, for the whole namespace. The errors are
// Publish's. Rotating again before resolvers have come back, an hour by RFC 9018 §4.3, invalidates their cookies.
func (l *Log) RotateCookieSecret(ctx context.Context) error {
	value, ok := l.control.Get(cookieKey)
	if !ok {
		return fmt.Errorf("rotate the cookie secret: %w", errors.Join(ErrRefused, ErrNotEstablished))
	}
	record, err := parseCookieRecord(value)
	if err != nil {
		return fmt.Errorf("rotate the cookie secret: %w: %w", ErrRefused, err)
	}
	next, err := json.Marshal(record.rotated())
	if err != nil {
		return err
	}
	return l.PutControl(ctx, cookieKey, next)
}

// firstCookieSecrets makes the first two secrets of a namespace.
func (l *Log) firstCookieSecrets(ctx context.Context) error {
	return l.putAndRead(ctx, cookieKey, cookieRecord{}.rotated().rotated())
}
