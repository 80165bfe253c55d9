// Package keypair keeps a certificate and its key as two PEM files have them, and follows the files when they are replaced, as who renews
// certificates does. It does not know what they are for.
//
// What is in use is always a whole pair: files that don't go together, or can't be read, change nothing.
package keypair

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// lookEvery is how often the files are looked at.
const lookEvery = 5 * time.Second

// Pair is a certificate and its key. Certificate may be called by many goroutines at once; the others by one at a time.
type Pair struct {
	certFile, keyFile string
	cert, key         []byte // as they were read last, good or not
	wrong             error  // with them
	current           atomic.Pointer[tls.Certificate]
}

// Open reads the files. The first is to have the whole chain, the server's own certificate first.
func Open(certFile, keyFile string) (*Pair, error) {
	p := &Pair{certFile: certFile, keyFile: keyFile}
	if _, err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Certificate returns the certificate that is in use. It is not to be changed.
func (p *Pair) Certificate() *tls.Certificate { return p.current.Load() }

// Reload reads the files, and uses what is in them if they have changed.
func (p *Pair) Reload() (changed bool, err error) {
	cert, err := os.ReadFile(p.certFile)
	if err != nil {
		return false, fmt.Errorf("certificate: %w", err)
	}
	key, err := os.ReadFile(p.keyFile)
	if err != nil {
		return false, fmt.Errorf("key: %w", err)
	}
	if p.cert != nil && bytes.Equal(cert, p.cert) && bytes.Equal(key, p.key) {
		return false, p.wrong
	}
	p.cert, p.key, p.wrong = cert, key, nil
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		p.wrong = fmt.Errorf("certificate %s with key %s: %w", p.certFile, p.keyFile, err)
		return false, p.wrong
	}
	p.current.Store(&pair)
	return true, nil
}

// Follow reloads the files when they change, and when told so, until ctx ends.
func (p *Pair) Follow(ctx context.Context, told <-chan os.Signal, log zerolog.Logger) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	p.follow(ctx, told, tick.C, log)
}

func (p *Pair) follow(ctx context.Context, told <-chan os.Signal, due <-chan time.Time, log zerolog.Logger) {
	said := ""
	for {
		var asked bool
		select {
		case <-ctx.Done():
			return
		case <-told:
			asked = true
		case <-due:
		}
		changed, err := p.Reload()
		switch {
		case err != nil && (asked || err.Error() != said):
			said = err.Error()
			log.Error().Err(err).Msg("the new certificate can't be used; the old one stays")
		case changed:
			said = ""
			log.Info().Time("expires", p.Certificate().Leaf.NotAfter).Msg("a new certificate is used")
		case err == nil && asked:
			log.Info().Msg("the certificate has not changed")
		}
	}
}
