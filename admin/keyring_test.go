package admin

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"balefire/replication/keyring"
	"balefire/zones"
)

// withKeyring gives the server a keyring over the node's own control topic.
func withKeyring(t *testing.T, secrets ...[]byte) *rig {
	t.Helper()
	r := newRig(t, nil)
	log := r.node.Log()
	ring, err := keyring.New(keyring.Options{Control: log.Control(), Put: log.PutControl, Secrets: secrets, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	r.server.opts.Keyring = ring
	return r
}

func TestTSIGKeys(t *testing.T) {
	r := withKeyring(t, []byte(strings.Repeat("k", keyring.SecretLen)))
	const path = "/v1/tsig-keys"
	made := r.must(http.StatusCreated, "POST", path, `{"name":"A.example"}`)
	if !strings.Contains(string(made.body), `"name":"a.example.","algorithm":"hmac-sha256"`) || !strings.Contains(string(made.body), `"secret":"`) {
		t.Errorf("made %s", made.body)
	}
	r.must(http.StatusCreated, "POST", path, `{"name":"b.example.","algorithm":"HMAC-MD5.sig-alg.reg.int.","secret":"MDEyMzQ1Njc="}`)
	for _, p := range []string{path, path + "/a.example.", path + "/B.example"} {
		if a := r.must(http.StatusOK, "GET", p, ""); strings.Contains(string(a.body), "secret") {
			t.Errorf("%s: %s", p, a.body)
		}
	}
	r.must(http.StatusConflict, "POST", path, `{"name":"a.example."}`)
	for body, field := range map[string]string{
		`{}`:                                    "/name",
		`{"name":"."}`:                          "/name",
		`{"name":"a..b"}`:                       "/name",
		`{"name":"c.","algorithm":"rot13"}`:     "/algorithm",
		`{"name":"c.","secret":"MDEyMzQ1Ng=="}`: "/secret",
		`{"name":"c.","secret":"?"}`:            "/secret",
		`{"name":"c.","secret":""}`:             "/secret",
		`{"name":"c.","more":1}`:                "/more",
	} {
		if a := r.must(http.StatusUnprocessableEntity, "POST", path, body); !strings.Contains(string(a.body), field) {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	r.must(http.StatusNotFound, "GET", path+"/c.", "")
	r.must(http.StatusBadRequest, "GET", path+"/c..d", "")
	r.must(http.StatusNotFound, "DELETE", path+"/c.", "")
	r.must(http.StatusNoContent, "DELETE", path+"/a.example", "")
	r.must(http.StatusNotFound, "GET", path+"/a.example.", "")
	r.must(http.StatusUnauthorized, "GET", path, "", "Authorization: none")

	// Into another namespace with the same secret, and into one with another.
	var told struct {
		Keys []struct{ Name, Algorithm, Created, Sealed string }
	}
	if err := json.Unmarshal(r.must(http.StatusOK, "GET", path+"?sealed=true", "").body, &told); err != nil || len(told.Keys) != 1 || told.Keys[0].Sealed == "" {
		t.Fatalf("%+v, %v", told, err)
	}
	body, err := json.Marshal(told.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	body = []byte(strings.NewReplacer(`"Name"`, `"name"`, `"Algorithm"`, `"algorithm"`, `"Created"`, `"created"`, `"Sealed"`, `"sealed"`).Replace(string(body)))
	fresh := withKeyring(t, []byte(strings.Repeat("k", keyring.SecretLen)))
	for range 2 {
		if a := fresh.must(http.StatusCreated, "POST", path, string(body)); strings.Contains(string(a.body), "secret") || strings.Contains(string(a.body), "sealed") {
			t.Errorf("%s", a.body)
		}
	}
	if got := fresh.must(http.StatusOK, "GET", path+"?sealed=true", "").body; string(got) != string(r.must(http.StatusOK, "GET", path+"?sealed=true", "").body) {
		t.Errorf("moved: %s", got)
	}
	fresh.must(http.StatusUnprocessableEntity, "POST", path, strings.Replace(string(body), "{", `{"secret":"MDEyMzQ1Njc=",`, 1))
	fresh.must(http.StatusUnprocessableEntity, "POST", path, `{"name":"c.","created":"2026-01-02T03:04:05Z"}`)
	other := withKeyring(t, []byte(strings.Repeat("o", keyring.SecretLen)))
	if a := other.must(http.StatusConflict, "POST", path, string(body)); !strings.Contains(string(a.body), "secrets.key-file") {
		t.Errorf("under another secret: %s", a.body)
	}

	none := withKeyring(t)
	if a := none.must(http.StatusConflict, "POST", path, `{"name":"a."}`); !strings.Contains(string(a.body), "secrets.key-file") {
		t.Errorf("without a secret: %s", a.body)
	}
	alone := newRig(t, nil)
	alone.must(http.StatusNotImplemented, "GET", path, "")
	alone.must(http.StatusNotImplemented, "GET", "/v1/acls", "")
}

func TestACLs(t *testing.T) {
	r := withKeyring(t)
	const path = "/v1/acls"
	office := `{"zones":[{"name":"example.com","self":true,"below":true}],"allow":["transfer","update"],"key":"Office.example","networks":["192.0.2.0/24","2001:db8::1","::ffff:192.0.2.9"],` +
		`"names":[{"name":"dyn.example.com.","below":true}],"types":["TXT","TYPE65280"]}`
	a := r.must(http.StatusOK, "PUT", path+"/office", office)
	want := `{"name":"office","zones":[{"name":"example.com.","self":true,"below":true}],"allow":["transfer","update"],"key":"office.example.",` +
		`"networks":["192.0.2.0/24","2001:db8::1/128","192.0.2.9/32"],"names":[{"name":"dyn.example.com.","self":false,"below":true}],"types":["TXT","TYPE65280"],"changed":`
	if !strings.HasPrefix(string(a.body), want) {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
	r.must(http.StatusOK, "GET", path+"/office", "")
	r.must(http.StatusOK, "PUT", path+"/office", `{"allow":["notify"],"networks":["192.0.2.0/24"]}`)
	if a := r.must(http.StatusOK, "GET", path, ""); strings.Contains(string(a.body), "office.example") {
		t.Errorf("the one before is still there: %s", a.body)
	}
	for body, field := range map[string]string{
		`{}`:                                 "/allow",
		`{"allow":["everything"],"key":"k"}`: "/allow/0",
		`{"allow":["transfer"]}`:             "for nobody",
		`{"allow":["transfer"],"networks":["example.com"]}`:                              "/networks/0",
		`{"allow":["transfer"],"networks":["192.0.2.1/24"]}`:                             "no network",
		`{"allow":["transfer"],"key":"k","zones":[{"name":"a..b"}]}`:                     "/zones/0/name",
		`{"allow":["transfer"],"key":"k","zones":[{"name":"a"}]}`:                        "matches none",
		`{"allow":["transfer"],"key":"k","zones":[{"name":"a","self":"yes"}]}`:           "/zones/0/self",
		`{"allow":["transfer"],"key":"k","types":["A"]}`:                                 "names and types",
		`{"allow":["update"],"key":"k","types":["AXFR"]}`:                                "/types/0",
		`{"allow":["update"],"key":"k","types":["nonsense"]}`:                            "/types/0",
		`{"allow":["update"],"key":"k","unless":"monday"}`:                               "/unless",
		`{"allow":["update"],"key":"k","types":[` + strings.Repeat(`"A",`, 32) + `"A"]}`: "at most",
	} {
		if a := r.must(http.StatusUnprocessableEntity, "PUT", path+"/x", body); !strings.Contains(string(a.body), field) {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	r.must(http.StatusUnprocessableEntity, "PUT", path+"/Office", `{"allow":["notify"],"key":"k"}`)
	r.must(http.StatusNotFound, "GET", path+"/x", "")
	r.must(http.StatusNotFound, "DELETE", path+"/x", "")
	r.must(http.StatusNoContent, "DELETE", path+"/office", "")
	r.must(http.StatusUnauthorized, "DELETE", path+"/office", "", "Authorization: none")
}

// TestSettingsDigest: zones whose settings are the same have the same digest, however they came to be so.
func TestSettingsDigest(t *testing.T) {
	transfer := zones.Grant{Deeds: zones.DeedTransfer, Key: zones.MustParseName("key.")}
	update := zones.Grant{Deeds: zones.DeedUpdate, Key: zones.MustParseName("key.")}
	both := transfer
	both.Deeds |= zones.DeedUpdate
	want := settingsDigest(zones.ZoneSettings{Grants: []zones.Grant{transfer, update}})
	for _, grants := range [][]zones.Grant{{update, transfer}, {both}} {
		if got := settingsDigest(zones.ZoneSettings{Grants: grants}); got != want {
			t.Errorf("%+v: %s, want %s", grants, got, want)
		}
	}
	remote := []zones.Remote{{Addr: netip.MustParseAddrPort("192.0.2.1:53")}}
	seen := map[string]bool{want: true}
	for _, other := range []zones.ZoneSettings{
		{}, {Frozen: true}, {SerialPolicy: zones.SerialKeep}, {Primaries: remote}, {Notify: remote}, {Grants: []zones.Grant{transfer}}, {Grants: []zones.Grant{update}},
	} {
		if got := settingsDigest(other); seen[got] {
			t.Errorf("%+v has the digest of another", other)
		} else {
			seen[got] = true
		}
	}
}
