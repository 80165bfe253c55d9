// Obtain gets a certificate with the library of lego, whose dnsupdate provider answers the challenges by dynamic updates: `obtain DIRECTORY
// NAMESERVER DOMAIN…`. The key for TSIG comes in KEY, ALGORITHM and SECRET. It prints the certificate.
package main

import (
	"context"
	"crypto"
	"fmt"
	"os"
	"time"

	"github.com/go-acme/lego/v5/acme"
	"github.com/go-acme/lego/v5/certcrypto"
	"github.com/go-acme/lego/v5/certificate"
	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/go-acme/lego/v5/lego"
	"github.com/go-acme/lego/v5/providers/dns/dnsupdate"
	"github.com/go-acme/lego/v5/registration"
)

// account is a user who has nothing but a key.
type account struct {
	key        crypto.Signer
	registered *acme.ExtendedAccount
}

func (a *account) GetEmail() string                       { return "" }
func (a *account) GetPrivateKey() crypto.Signer           { return a.key }
func (a *account) GetRegistration() *acme.ExtendedAccount { return a.registered }

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	got, err := obtain(ctx, os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		cancel()
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(got)
}

func obtain(ctx context.Context, directory, nameserver string, domains []string) ([]byte, error) {
	key, err := certcrypto.GeneratePrivateKey(certcrypto.EC256)
	if err != nil {
		return nil, err
	}
	user := &account{key: key}
	config := lego.NewConfig(user)
	config.CADirURL = directory
	client, err := lego.NewClient(config)
	if err != nil {
		return nil, err
	}

	updates := dnsupdate.NewDefaultConfig()
	updates.Nameserver = nameserver
	updates.TSIGKey, updates.TSIGAlgorithm, updates.TSIGSecret = os.Getenv("KEY"), os.Getenv("ALGORITHM"), os.Getenv("SECRET")
	updates.PollingInterval, updates.SequenceInterval = 100*time.Millisecond, 100*time.Millisecond
	provider, err := dnsupdate.NewDNSProviderConfig(updates)
	if err != nil {
		return nil, err
	}
	// Before it says that it is done, it asks for what it has added. The name server's port is not the one that it would find by itself.
	options := dns01.NewOptions()
	options.RecursiveNameservers = []string{nameserver}
	dns01.SetDefaultClient(dns01.NewClient(options))
	if err := client.Challenge.SetDNS01Provider(provider, dns01.DisableAuthoritativeNssPropagationRequirement()); err != nil {
		return nil, err
	}

	if user.registered, err = client.Registration.Register(ctx, registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
		return nil, err
	}
	got, err := client.Certificate.Obtain(ctx, certificate.ObtainRequest{Domains: domains, KeyType: certcrypto.EC256})
	if err != nil {
		return nil, err
	}
	return got.Certificate, nil
}
