package relay_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"balefire/replication/relay"
)

// served is an HTTP handler that says who calls and what.
func served(o *relay.Options) {
	o.HTTP = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path+" of "+r.TLS.PeerCertificates[0].Subject.CommonName+": "+string(body)) // the client will miss it
	})
}

func call(t *testing.T, client *http.Client, path, body string) (status int, text string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(minute(t), http.MethodPut, "https://peer"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestHTTP(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	peer := start(t, &region, "peer", echo, served)
	client := &http.Client{Transport: asking.Transport(peerOf("peer", peer))}
	for range 3 {
		if status, text, err := call(t, client, "/v1/zones", "a zone"); err != nil || status != 200 || text != "PUT /v1/zones of asking: a zone" {
			t.Fatalf("%d %q, %v", status, text, err)
		}
	}
	// Frames and calls go to one listener.
	if _, _, err := asking.Ask(minute(t), []relay.Peer{peerOf("peer", peer)}, nil, nil); err != nil {
		t.Error(err)
	}

	region.set(asking.Fingerprint(), false)
	if status, _, err := call(t, client, "/v1/zones", ""); err == nil && status != http.StatusForbidden { // an error, when the connection was not kept
		t.Errorf("a node that is none any more got %d, %v", status, err)
	}
	if _, _, err := call(t, client, "/v1/zones", ""); err == nil {
		t.Error("a stranger could call")
	}
}

func TestHTTPGoesToThePeerOnly(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	peer := start(t, &region, "peer", echo, served)
	without := start(t, &region, "without", echo)
	impostor := peerOf("impostor", peer)
	impostor.Fingerprint = without.Fingerprint()
	for name, to := range map[string]relay.Peer{"another certificate": impostor, "no HTTP there": peerOf("without", without)} {
		if _, text, err := call(t, &http.Client{Transport: asking.Transport(to)}, "/", "secret"); err == nil {
			t.Errorf("%s: %q", name, text)
		}
	}
	resp, err := (&http.Client{Transport: asking.Transport(peerOf("peer", peer))}).Get("http://peer/")
	if err == nil {
		_ = resp.Body.Close()
		t.Error("a call went out in the clear")
	}
}

// TestCloseEndsCalls closes both ends in the middle of calls.
func TestCloseEndsCalls(t *testing.T) {
	var region trust
	asking := start(t, &region, "asking", echo)
	called := make(chan struct{}, 2)
	peer := start(t, &region, "peer", echo, func(o *relay.Options) {
		o.HTTP = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			called <- struct{}{}
			<-r.Context().Done()
		})
	})
	client := &http.Client{Transport: asking.Transport(peerOf("peer", peer))}
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, _, err := call(t, client, "/", "")
			errs <- err
		}()
	}
	<-called
	<-called
	if err := asking.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-errs; err == nil {
			t.Error("a call was answered")
		}
	}
	if _, _, err := call(t, client, "/", ""); err == nil {
		t.Error("a call was answered after Close")
	}
	if _, _, err := call(t, &http.Client{Transport: asking.Transport(peerOf("other", peer))}, "/", ""); err == nil {
		t.Error("a call was answered after Close")
	}
	if err := peer.Close(); err != nil {
		t.Error(err)
	}
	nothingRuns(t)
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	id := selfSigned(t, "a")
	trusted := func([32]byte) bool { return true }
	for says, o := range map[string]relay.Options{
		"Identity": {Trusted: trusted, Handler: echo},
		"Trusted":  {Identity: id, Handler: echo},
		"Handler":  {Identity: id, Trusted: trusted},
		"listen":   {Identity: id, Trusted: trusted, Handler: echo, Listen: "nonsense"},
	} {
		if r, err := relay.Start(o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, error %v, want one about %s", r, err, says)
		}
	}
}
