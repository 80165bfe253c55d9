package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"balefire/replication/catalogzones"
	"balefire/store"
	"balefire/zones"
	"balefire/zones/catalog"
)

// knownCatalogs are what a node knows of catalogs.
type knownCatalogs struct {
	store *store.Store

	mu      sync.Mutex
	problem string
	members []catalogzones.Listed
	err     error
}

func (k *knownCatalogs) Show(_ context.Context, apex zones.Name) (r catalogzones.Report, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.Info, err = k.store.Zone(apex); err == nil && r.Info.Settings.Catalog.Role == zones.NoCatalog {
		err = catalogzones.ErrNoCatalog
	}
	r.Problem, r.Members, r.Pending, r.Clashes = k.problem, k.members, 1, 1
	return r, err
}

func (k *knownCatalogs) Each(_ context.Context, fn func(zones.Name, zones.ZoneSettings)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	page, err := k.store.Zones("", "", 1000)
	for _, z := range page.Zones {
		if z.Settings.Catalog.Role != zones.NoCatalog {
			fn(z.Apex, z.Settings)
		}
	}
	return errors.Join(err, k.err)
}

func TestCatalogs(t *testing.T) {
	known := &knownCatalogs{}
	r := newRig(t, func(o *Options) { o.Catalogs = known })
	known.store = r.node.Store()
	const path = "/v1/catalogs"
	has := func(what string, a reply, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(string(a.body), text) {
				t.Errorf("%s: %s; want %s", what, a.body, text)
			}
		}
	}
	has("none", r.must(http.StatusOK, "GET", path, ""), `{"catalogs":[]}`)
	a := r.must(http.StatusCreated, "POST", path, `{"name": "all.catalog", "groups": ["b", "a", "b"], "notify": [{"address": "192.0.2.1"}], "allow_transfer": [{"key": "k."}], "reason": "for the edge"}`)
	if got := a.header.Get("Location"); got != path+"/all.catalog." {
		t.Errorf("made at %q", got)
	}
	r.must(http.StatusCreated, "POST", path, `{"name": "their.catalog.", "primaries": [{"address": "192.0.2.1", "key": "k.", "tls": true}], "allow_notify": [{"key": "n."}]}`)
	r.must(http.StatusConflict, "POST", path, `{"name": "all.catalog."}`)
	for body, field := range map[string]string{
		`{}`: "/name",
		`{"name": "x.", "groups": ["a"], "primaries": [{"address": "192.0.2.1"}]}`: "/groups",
		`{"name": "x.", "groups": [""]}`:                                           "/groups/0",
		`{"name": "x.", "groups": ["a", "\u0000"]}`:                                "/groups/1",
		`{"name": "x.", "groups": "a"}`:                                            "/groups",
		`{"name": "x.", "rrsets": []}`:                                             "/rrsets",
		`{"name": "x.", "frozen": true}`:                                           "/frozen",
		`{"name": "x.", "primaries": [{"port": 53}]}`:                              "/primaries/0/address",
		`{"name": "` + strings.Repeat("x.", 125) + `"}`:                            "/name",
	} {
		has(body, r.must(http.StatusUnprocessableEntity, "POST", path, body), `"`+field+`"`)
	}
	has("both", r.must(http.StatusOK, "GET", path, ""),
		`{"name":"all.catalog.","role":"produced","groups":["a","b"]}`, `{"name":"their.catalog.","role":"consumed","primaries":[{"address":"192.0.2.1","port":853,"key":"k.","tls":true}]}`)
	has("a produced one", r.must(http.StatusOK, "GET", "/v1/zones/all.catalog.", ""),
		`"rrsets":3`, `"catalog":{"role":"produced","groups":["a","b"]}`, `"allow_transfer":[{"key":"k."}]`, `"notify":[{"address":"192.0.2.1","port":53}]`)
	has("a consumed one", r.must(http.StatusOK, "GET", "/v1/zones/their.catalog.", ""), `"catalog":{"role":"consumed"}`, `"allow_notify":[{"key":"n."}]`, `"standing":"awaiting"`)

	// What is known of one.
	known.problem = "it is broken"
	for _, zone := range []string{"a.", "b.", "c."} {
		known.members = append(known.members, catalogzones.Listed{Member: catalog.Member{Zone: zones.MustParseName(zone), Label: "l\x00" + zone, Groups: []string{"g"}}})
	}
	known.members[1].Pending, known.members[1].Owner = catalog.Clash, zones.MustParseName("other.")
	has("one page", r.must(http.StatusOK, "GET", path+"/their.catalog.?limit=2", ""),
		`"problem":"it is broken"`, `"listed":3`, `"pending":1`, `"clashes":1`, `"next":"b."`, `{"zone":"a.","label":"l\\x00a.","groups":["g"]}`, `"pending":"clash","owner":"other."}]`)
	if a := r.must(http.StatusOK, "GET", path+"/their.catalog.?limit=2&after=b.", ""); strings.Contains(string(a.body), `"next"`) || strings.Contains(string(a.body), `"b."`) {
		t.Errorf("the last page: %s", a.body)
	}
	r.must(http.StatusBadRequest, "GET", path+"/their.catalog.?after=..", "")
	r.must(http.StatusNotFound, "GET", path+"/no.catalog.", "")
	r.makeZone("plain.")
	for method, body := range map[string]string{"GET": "", "PATCH": `{"groups": []}`, "DELETE": ""} {
		has(method, r.must(http.StatusConflict, method, path+"/plain.", body), "no-catalog")
	}
	known.mu.Lock()
	known.err = errors.New("not now")
	known.mu.Unlock()
	has("what is not known", r.must(http.StatusServiceUnavailable, "GET", path, ""), "not now")

	// Other groups; the ends.
	r.must(http.StatusOK, "PATCH", path+"/all.catalog.", `{"groups": ["z", "y"]}`)
	has("other groups", r.must(http.StatusOK, "GET", "/v1/zones/all.catalog.", ""), `"catalog":{"role":"produced","groups":["y","z"]}`)
	has("groups of theirs", r.must(http.StatusConflict, "PATCH", path+"/their.catalog.", `{"groups": ["z"]}`), "no-producer")
	r.must(http.StatusUnprocessableEntity, "PATCH", path+"/all.catalog.", `{}`)
	r.must(http.StatusBadRequest, "DELETE", path+"/all.catalog.?members=keep", "")
	r.must(http.StatusBadRequest, "DELETE", path+"/their.catalog.", "")
	r.must(http.StatusBadRequest, "DELETE", path+"/their.catalog.?members=some", "")
	r.must(http.StatusOK, "DELETE", path+"/all.catalog.", "")
	r.must(http.StatusNotFound, "GET", "/v1/zones/all.catalog.", "")
	r.must(http.StatusOK, "DELETE", path+"/their.catalog.?members=keep", "")
	has("let go", r.must(http.StatusOK, "GET", "/v1/zones/their.catalog.", ""), `"catalog":{"role":"released"}`)
	r.must(http.StatusOK, "DELETE", path+"/their.catalog.?members=delete", "")
	has("after all", r.must(http.StatusOK, "GET", "/v1/zones/their.catalog.", ""), `"catalog":{"role":"dissolved"}`)

	alone := newRig(t, nil)
	alone.must(http.StatusNotImplemented, "GET", path, "")
	alone.makeZone("plain.")
	alone.must(http.StatusNotImplemented, "GET", path+"/plain.", "")
}

// TestGroups: what zones have of catalogs is set, and shown.
func TestGroups(t *testing.T) {
	r := newRig(t, nil)
	r.must(http.StatusCreated, "POST", "/v1/zones", `{"name": "a.", "nameservers": ["ns."], "groups": ["y", "x"], "new_owner": "c."}`)
	zone := func(want string) {
		t.Helper()
		if a := r.must(http.StatusOK, "GET", "/v1/zones/a.", ""); !strings.Contains(string(a.body), want) {
			t.Errorf("%s; want %s", a.body, want)
		}
	}
	zone(`"groups":["x","y"],"new_owner":"c."}`)
	r.must(http.StatusOK, "PATCH", "/v1/zones/a.", `{"groups": ["z"]}`)
	zone(`"groups":["z"],"new_owner":"c."}`)
	r.must(http.StatusOK, "PATCH", "/v1/zones/a.", `{"new_owner": "", "detached": true}`)
	zone(`"groups":["z"]}`)
	r.must(http.StatusOK, "POST", "/v1/zones/a./changes", `{"operations": [{"op": "set_settings", "groups": [], "new_owner": "d."}]}`)
	zone(`"groups":[],"new_owner":"d."}`)
	for body, field := range map[string]string{
		`{"groups": ["` + strings.Repeat("g", 256) + `"]}`: "/groups/0",
		`{"groups": [1]}`:       "/groups/0",
		`{"new_owner": "x..y"}`: "/new_owner",
		`{"detached": false}`:   "/detached",
	} {
		if a := r.must(http.StatusUnprocessableEntity, "PATCH", "/v1/zones/a.", body); !strings.Contains(string(a.body), `"`+field+`"`) {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	r.must(http.StatusUnprocessableEntity, "PATCH", "/v1/zones/a.", `{"new_owner": "a."}`)
}
