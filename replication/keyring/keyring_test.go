package keyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"

	"balefire/zones"
)

// topic is a control topic in memory, for several rings.
type topic struct {
	mu      sync.Mutex
	records map[string][]byte
	changed chan struct{}
	fails   error
}

func newTopic() *topic { return &topic{records: map[string][]byte{}, changed: make(chan struct{})} }

func (c *topic) List(prefix string) map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := map[string][]byte{}
	for key, value := range c.records {
		if strings.HasPrefix(key, prefix) {
			list[key] = value
		}
	}
	return list
}

func (c *topic) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *topic) put(_ context.Context, key string, value []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails != nil {
		return c.fails
	}
	c.records[key] = bytes.Clone(value)
	close(c.changed)
	c.changed = make(chan struct{})
	return nil
}

func secret(fill byte) []byte { return bytes.Repeat([]byte{fill}, SecretLen) }

func ring(t testing.TB, c *topic, secrets ...[]byte) *Ring {
	t.Helper()
	r, err := New(Options{Control: c, Put: c.put, Secrets: secrets, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func name(text string) zones.Name { return zones.MustParseName(text) }

func testKey(text string) zones.TSIGKey {
	return zones.TSIGKey{Name: name(text), Algorithm: zones.HMACSHA256, Secret: []byte("known to who was told: " + text)}
}

func TestKeysAreSharedAndSealed(t *testing.T) {
	synctest.Test(t, testKeysAreSharedAndSealed)
}

func testKeysAreSharedAndSealed(t *testing.T) {
	ctx := t.Context()
	c := newTopic()
	here, there := ring(t, c, secret(1)), ring(t, c, secret(1))
	following, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	running.Go(func() { there.Run(following) })

	key := testKey("transfer.example.")
	if err := here.PutKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	if got, ok := here.Key(key.Name); !ok || !bytes.Equal(got.Secret, key.Secret) || got.Algorithm != key.Algorithm || got.Name != key.Name {
		t.Errorf("got %v %v", got, ok)
	}
	synctest.Wait()
	if _, ok := there.Key(key.Name); !ok {
		t.Error("the other node does not hear of the key")
	}
	for topicKey, value := range c.records {
		if bytes.Contains(value, key.Secret) || bytes.Contains(value, []byte(base64.StdEncoding.EncodeToString(key.Secret))) {
			t.Errorf("%s has the secret: %s", topicKey, value)
		}
	}
	if err := here.PutKey(ctx, key); !errors.Is(err, ErrExists) {
		t.Errorf("again: %v", err)
	}
	if infos := here.Keys(); len(infos) != 1 || infos[0].Name != key.Name || infos[0].Problem != "" || infos[0].Created.IsZero() {
		t.Errorf("listed %+v", infos)
	}
	if err := here.DeleteKey(ctx, key.Name); err != nil {
		t.Fatal(err)
	}
	if _, ok := here.Key(key.Name); ok || len(here.Keys()) != 0 || len(here.Troubles()) != 0 {
		t.Errorf("it is still there, or a trouble: %v", here.Troubles())
	}
	synctest.Wait()
	if _, ok := there.Key(key.Name); ok {
		t.Error("it is still there at the other node")
	}
	if err := here.DeleteKey(ctx, key.Name); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := here.PutKey(ctx, key); err != nil {
		t.Errorf("made again: %v", err)
	}
	if len(here.Troubles()) != 0 {
		t.Error(here.Troubles())
	}
}

// TestSealing: what was sealed opens for who has the secret, and for the key and algorithm that it was sealed for; changed by a bit it does not.
func TestSealing(t *testing.T) {
	ctx := t.Context()
	c := newTopic()
	key := testKey("a.example.")
	if err := ring(t, c, secret(1)).PutKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	var record keyRecord
	if err := json.Unmarshal(c.records["tsig/a.example."], &record); err != nil {
		t.Fatal(err)
	}
	opens := func(r *Ring, key string) bool {
		_, ok := r.Key(name(key))
		if _, listed := r.KeyInfo(name(key)); listed && ok != (len(r.Troubles()) == 0) {
			t.Errorf("usable %v, troubles %v", ok, r.Troubles())
		}
		return ok
	}
	if !opens(ring(t, c, secret(1)), "a.example.") || !opens(ring(t, c, secret(2), secret(1)), "a.example.") {
		t.Error("it does not open with its secret")
	}
	if opens(ring(t, c, secret(2)), "a.example.") || opens(ring(t, c), "a.example.") {
		t.Error("it opens without its secret")
	}
	stored := func(change func(r *keyRecord)) *topic {
		other := newTopic()
		changed := record
		change(&changed)
		value, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		other.records["tsig/"+changed.Name] = value
		return other
	}
	if opens(ring(t, stored(func(r *keyRecord) { r.Name = "b.example." }), secret(1)), "b.example.") {
		t.Error("another key's secret is taken")
	}
	if opens(ring(t, stored(func(r *keyRecord) { r.Algorithm = "hmac-sha512." }), secret(1)), "a.example.") {
		t.Error("it is taken for another algorithm")
	}
	sealed, err := base64.StdEncoding.DecodeString(record.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		c := stored(func(r *keyRecord) {
			flipped := bytes.Clone(sealed)
			flipped[i] ^= 1
			r.Sealed = base64.StdEncoding.EncodeToString(flipped)
		})
		if opens(ring(t, c, secret(1)), "a.example.") {
			t.Errorf("octet %d changed, and it opens", i)
		}
	}
	for _, sealed := range []string{"", "AAAA", "%"} {
		if opens(ring(t, stored(func(r *keyRecord) { r.Sealed = sealed }), secret(1)), "a.example.") {
			t.Errorf("%q opens", sealed)
		}
	}
	// The same key is never sealed alike.
	if err := ring(t, c, secret(1)).DeleteKey(ctx, key.Name); err != nil {
		t.Fatal(err)
	}
	if err := ring(t, c, secret(1)).PutKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(c.records["tsig/a.example."], []byte(record.Sealed)) {
		t.Error("sealed twice alike")
	}
	if _, err := New(Options{Control: c, Put: c.put, Secrets: [][]byte{secret(1)[:31]}}); err == nil {
		t.Error("a short secret is taken")
	}
}

// TestGolden: what version 1 wrote is read, and written alike. The key was sealed by another library.
func TestGolden(t *testing.T) {
	read := func(file string) []byte {
		value, err := os.ReadFile(filepath.Join("..", "..", "testdata", "formats", "v1", file))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	c := newTopic()
	c.records["tsig/golden.example."] = read("control-tsig.json")
	c.records["acl/office"] = read("control-acl.json")
	r := ring(t, c, secret(7))
	want := testKey("golden.example.")
	if got, ok := r.Key(want.Name); !ok || !bytes.Equal(got.Secret, want.Secret) || got.Algorithm != want.Algorithm {
		t.Errorf("key %v, %v", got, ok)
	}
	a, ok := r.ACL("office")
	if office := officeACL(); !ok || !a.Grant.Equal(office.Grant) || !slices.Equal(a.Zones, office.Zones) {
		t.Errorf("ACL %+v, %v", a, ok)
	}
	again := a.record()
	again.Changed = a.Changed
	if text, err := json.Marshal(again); err != nil || !bytes.Equal(text, c.records["acl/office"]) {
		t.Errorf("%v, written again:\n%s", err, text)
	}
	k := r.current.Load().keys[want.Name]
	sealed := sealKey(k.TSIGKey, r.sealers[0], k.created)
	var before keyRecord
	if err := json.Unmarshal(c.records["tsig/golden.example."], &before); err != nil {
		t.Fatal(err)
	}
	sealed.Sealed = before.Sealed // has another nonce
	if text, err := json.Marshal(sealed); err != nil || !bytes.Equal(text, c.records["tsig/golden.example."]) {
		t.Errorf("%v, written again:\n%s", err, text)
	}
}

// TestSealedKeysMove: a key goes into another namespace sealed, if that has the same secret, and is never taken for another.
func TestSealedKeysMove(t *testing.T) {
	ctx := t.Context()
	old := ring(t, newTopic(), secret(1))
	key := testKey("transfer.example.")
	if err := old.PutKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	told, _ := old.KeyInfo(key.Name)
	c := newTopic()
	fresh := ring(t, c, secret(2), secret(1))
	for range 2 { // the second time it is there already
		if err := fresh.PutSealedKey(ctx, told); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok := fresh.Key(key.Name); !ok || !bytes.Equal(got.Secret, key.Secret) || got.Algorithm != key.Algorithm {
		t.Errorf("got %v, %v", got.Name, ok)
	}
	if got, _ := fresh.KeyInfo(key.Name); got != told {
		t.Errorf("told %+v, was %+v", got, told)
	}
	for what, test := range map[string]struct {
		change func(*KeyInfo)
		want   error
	}{
		"under another name":      {func(k *KeyInfo) { k.Name = name("other.example.") }, ErrOtherSecret},
		"as another algorithm":    {func(k *KeyInfo) { k.Name, k.Algorithm = name("other.example."), zones.HMACSHA512 }, ErrOtherSecret},
		"changed":                 {func(k *KeyInfo) { k.Name, k.Sealed = name("other.example."), k.Sealed[:len(k.Sealed)-4]+"AAA=" }, ErrOtherSecret},
		"in the place of another": {func(k *KeyInfo) { k.Sealed = "AAAA" }, ErrExists},
		"without a name":          {func(k *KeyInfo) { k.Name = "" }, ErrNotValid},
		"without an algorithm":    {func(k *KeyInfo) { k.Algorithm = "" }, ErrNotValid},
	} {
		k := told
		test.change(&k)
		if err := fresh.PutSealedKey(ctx, k); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", what, err, test.want)
		}
	}
	if len(c.records) != 1 || len(fresh.Keys()) != 1 {
		t.Errorf("%d records, %d keys", len(c.records), len(fresh.Keys()))
	}
	if err := ring(t, newTopic(), secret(3)).PutSealedKey(ctx, told); !errors.Is(err, ErrOtherSecret) {
		t.Errorf("where the secret is another: %v", err)
	}
	if err := ring(t, newTopic()).PutSealedKey(ctx, told); !errors.Is(err, ErrNoSecret) {
		t.Errorf("where there is no secret: %v", err)
	}
}

func TestWithoutSecret(t *testing.T) {
	ctx := t.Context()
	c := newTopic()
	r := ring(t, c)
	if err := r.PutKey(ctx, testKey("a.example.")); !errors.Is(err, ErrNoSecret) || len(c.records) != 0 {
		t.Errorf("%v, %v", err, c.records)
	}
	if len(r.Troubles()) != 0 {
		t.Errorf("without keys nothing is wrong: %v", r.Troubles())
	}
	if err := ring(t, c, secret(1)).PutKey(ctx, testKey("a.example.")); err != nil {
		t.Fatal(err)
	}
	made := 0
	r, err := New(Options{Control: c, Put: c.put, Logger: zerolog.Nop(), MakeSecret: func() ([]byte, error) {
		made++
		return secret(1), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if troubles := r.Troubles(); len(troubles) != 1 || !strings.Contains(troubles[0], "secrets.key-file") {
		t.Errorf("%v", troubles)
	}
	if made != 0 {
		t.Error("made before it was needed")
	}
	for _, k := range []string{"b.example.", "c.example."} {
		if err := r.PutKey(ctx, testKey(k)); err != nil {
			t.Fatal(err)
		}
	}
	if made != 1 || len(r.Troubles()) != 0 {
		t.Errorf("made %d times, %v", made, r.Troubles())
	}
	if _, ok := r.Key(name("a.example.")); !ok {
		t.Error("what could not be opened before is not tried again")
	}
}

func TestRefusedChanges(t *testing.T) {
	ctx := t.Context()
	c := newTopic()
	r := ring(t, c, secret(1))
	for _, key := range []zones.TSIGKey{
		{},
		{Name: zones.Root, Algorithm: zones.HMACSHA256, Secret: secret(1)},
		{Name: name("a."), Algorithm: name("hmac-sha3."), Secret: secret(1)},
		{Name: name("a."), Algorithm: zones.HMACSHA256, Secret: []byte("short")},
		{Name: name("a."), Algorithm: zones.HMACSHA256, Secret: make([]byte, zones.MaxTSIGSecret+1)},
	} {
		if err := r.PutKey(ctx, key); !errors.Is(err, ErrNotValid) {
			t.Errorf("%v: %v", key, err)
		}
	}
	c.fails = errors.New("no broker")
	if err := r.PutKey(ctx, testKey("a.example.")); !errors.Is(err, c.fails) {
		t.Error(err)
	}
	if err := r.PutACL(ctx, officeACL()); !errors.Is(err, c.fails) {
		t.Error(err)
	}
	c.fails = nil
	if _, ok := r.Key(name("a.example.")); ok || len(r.ACLs()) != 0 {
		t.Error("what was not written is there")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	r.changing <- struct{}{}
	if err := r.PutKey(ended, testKey("a.example.")); !errors.Is(err, context.Canceled) {
		t.Errorf("while another change is under way: %v", err)
	}
	<-r.changing
}

func officeACL() ACL {
	return ACL{
		Name:  "office",
		Zones: []zones.NamePattern{{Name: name("example.com."), Self: true, Below: true}, {Name: name("arpa."), Below: true}},
		Grant: zones.Grant{
			Deeds: zones.DeedTransfer | zones.DeedUpdate, Key: name("office.example."),
			Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
			Names:    []zones.NamePattern{{Name: name("dyn.example.com."), Below: true}},
			Types:    []zones.Type{zones.TypeA, zones.TypeTXT},
		},
	}
}

// TestAllowed is the matrix of who may do what: each column is one condition that does not hold.
func TestAllowed(t *testing.T) {
	ctx := t.Context()
	c := newTopic()
	r := ring(t, c)
	if err := r.PutACL(ctx, officeACL()); err != nil {
		t.Fatal(err)
	}
	open := ACL{Name: "secondaries", Grant: zones.Grant{Deeds: zones.DeedTransfer, Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}}
	if err := r.PutACL(ctx, open); err != nil {
		t.Fatal(err)
	}
	own := zones.ZoneSettings{Grants: []zones.Grant{{Deeds: zones.DeedNotify, Key: name("primary.")}}}
	const key, inside, outside = "office.example.", "192.0.2.7", "203.0.113.1"
	for _, tt := range []struct {
		deed            zones.Deed
		apex, key, from string
		settings        zones.ZoneSettings
		want            bool
	}{
		{zones.DeedTransfer, "example.com.", key, inside, own, true},
		{zones.DeedUpdate, "example.com.", key, inside, own, true},
		{zones.DeedNotify, "example.com.", key, inside, own, false},
		{zones.DeedTransfer, "sub.example.com.", key, inside, own, true},
		{zones.DeedTransfer, "example.org.", key, inside, own, false},
		{zones.DeedTransfer, "com.", key, inside, own, false},
		{zones.DeedTransfer, "2.192.in-addr.arpa.", key, inside, own, true},
		{zones.DeedTransfer, "arpa.", key, inside, own, false},
		{zones.DeedTransfer, "example.com.", "", inside, own, false},
		{zones.DeedTransfer, "example.com.", "other.", inside, own, false},
		{zones.DeedTransfer, "example.com.", key, outside, own, false},
		{zones.DeedTransfer, "example.com.", key, "2001:db8::1", own, true},
		{zones.DeedTransfer, "example.com.", key, "::ffff:192.0.2.7", own, true},
		{zones.DeedTransfer, "example.org.", "", "198.51.100.1", own, true},
		{zones.DeedTransfer, "example.org.", "other.", "198.51.100.1", own, true},
		{zones.DeedUpdate, "example.org.", "", "198.51.100.1", own, false},
		{zones.DeedNotify, "example.org.", "primary.", outside, own, true},
		{zones.DeedNotify, "example.org.", "primary.", outside, zones.ZoneSettings{}, false},
		{zones.DeedTransfer, "example.org.", "primary.", outside, own, false},
	} {
		if got := r.Allows(tt.deed, name(tt.apex), tt.settings, zonesName(tt.key), netip.MustParseAddr(tt.from)); got != tt.want {
			t.Errorf("%v of %s with %q from %s: %v", DeedNames(tt.deed), tt.apex, tt.key, tt.from, got)
		}
	}
	for _, tt := range []struct {
		key, from, owner string
		t                zones.Type
		want             bool
	}{
		{key, inside, "x.dyn.example.com.", zones.TypeA, true},
		{key, inside, "x.dyn.example.com.", zones.TypeTXT, true},
		{key, inside, "x.dyn.example.com.", zones.TypeMX, false},
		{key, inside, "dyn.example.com.", zones.TypeA, false},
		{key, inside, "example.com.", zones.TypeA, false},
		{key, outside, "x.dyn.example.com.", zones.TypeA, false},
		{"", inside, "x.dyn.example.com.", zones.TypeA, false},
		{"whole.", outside, "example.com.", zones.TypeMX, true},
		{"primary.", outside, "x.dyn.example.com.", zones.TypeA, false},
	} {
		settings := zones.ZoneSettings{Grants: append(own.Grants, zones.Grant{Deeds: zones.DeedUpdate, Key: name("whole.")})}
		got := slices.ContainsFunc(r.Grants(name("example.com."), settings), func(g zones.Grant) bool {
			return g.AllowsFrom(zones.DeedUpdate, zonesName(tt.key), netip.MustParseAddr(tt.from)) && g.AllowsUpdate(name(tt.owner), tt.t)
		})
		if got != tt.want {
			t.Errorf("update of %s %v with %q from %s: %v", tt.owner, tt.t, tt.key, tt.from, got)
		}
	}
	if n := len(r.Grants(name("example.com."), zones.ZoneSettings{})); n != 2 {
		t.Errorf("%d grants in example.com.", n)
	}
	if n := len(r.Grants(name("example.net."), zones.ZoneSettings{})); n != 1 {
		t.Errorf("%d grants in example.net.", n)
	}
	if err := r.DeleteACL(ctx, "secondaries"); err != nil {
		t.Fatal(err)
	}
	if r.Allows(zones.DeedTransfer, name("example.org."), own, "", netip.MustParseAddr("198.51.100.1")) {
		t.Error("a deleted ACL allows")
	}
	if err := r.DeleteACL(ctx, "secondaries"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func zonesName(text string) zones.Name {
	if text == "" {
		return ""
	}
	return name(text)
}

func TestACLsThatAreNotValid(t *testing.T) {
	r := ring(t, newTopic())
	for what, change := range map[string]func(*ACL){
		"no name":          func(a *ACL) { a.Name = "" },
		"a slash":          func(a *ACL) { a.Name = "a/b" },
		"upper case":       func(a *ACL) { a.Name = "Office" },
		"nothing allowed":  func(a *ACL) { a.Grant.Deeds = 0 },
		"unknown deed":     func(a *ACL) { a.Grant.Deeds = 128 },
		"for everybody":    func(a *ACL) { a.Grant.Key, a.Grant.Networks = "", nil },
		"host bits":        func(a *ACL) { a.Grant.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")} },
		"mapped":           func(a *ACL) { a.Grant.Networks = []netip.Prefix{netip.MustParsePrefix("::ffff:192.0.2.0/120")} },
		"no network":       func(a *ACL) { a.Grant.Networks = []netip.Prefix{{}} },
		"an empty pattern": func(a *ACL) { a.Zones = []zones.NamePattern{{Name: name("a.")}} },
		"names without update": func(a *ACL) {
			a.Grant.Deeds = zones.DeedTransfer
		},
		"many names": func(a *ACL) { a.Grant.Names = slices.Repeat(a.Grant.Names, maxNames+1) },
	} {
		a := officeACL()
		change(&a)
		if err := r.PutACL(t.Context(), a); !errors.Is(err, ErrNotValid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestStrangeRecords: what is not understood allows nothing, and is said.
func TestStrangeRecords(t *testing.T) {
	c := newTopic()
	strange := map[string]string{
		"tsig/a.example.": `{"v":2,"name":"a.example."}`,
		"tsig/b.example.": `{"v":1,"name":"c.example.","algorithm":"hmac-sha256.","sealed":""}`,
		"tsig/d.example.": `{"v":1,"name":"d.example.","algorithm":"hmac-sha3.","sealed":""}`,
		"tsig/e.example.": `rubbish`,
		"tsig/F.example.": `{"v":1,"name":"F.example.","algorithm":"hmac-sha256.","sealed":""}`,
		"acl/a":           `{"v":2,"name":"a","allow":["transfer"],"networks":["0.0.0.0/0"]}`,
		"acl/b":           `{"v":1,"name":"c","allow":["transfer"],"networks":["0.0.0.0/0"]}`,
		"acl/d":           `{"v":1,"name":"d","allow":["everything"],"networks":["0.0.0.0/0"]}`,
		"acl/e":           `{"v":1,"name":"e","allow":["transfer"]}`,
		"acl/f":           `{"v":1,"name":"f","allow":["transfer"],"networks":["0.0.0.0/0"],"unless":"monday"}`,
		"acl/g":           `{"v":1,"name":"g","allow":["transfer"],"networks":["0.0.0.0/33"]}`,
		"acl/h":           `[]`,
	}
	for key, value := range strange {
		c.records[key] = []byte(value)
	}
	r := ring(t, c, secret(1))
	for _, k := range r.Keys() {
		if _, usable := r.Key(k.Name); usable || k.Problem == "" {
			t.Errorf("%+v", k)
		}
	}
	if len(r.ACLs()) != 0 || r.Allows(zones.DeedTransfer, name("a."), zones.ZoneSettings{}, "", netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("%+v", r.ACLs())
	}
	if troubles := r.Troubles(); len(troubles) != 1 || !strings.HasPrefix(troubles[0], fmt.Sprint(len(strange), " ")) {
		t.Errorf("%v", troubles)
	}
	// One that is replaced by what is not understood is not used any more.
	if err := r.PutACL(t.Context(), officeACL()); err != nil {
		t.Fatal(err)
	}
	if err := c.put(t.Context(), "acl/office", []byte(`{"v":9}`)); err != nil {
		t.Fatal(err)
	}
	r.refresh()
	if _, ok := r.ACL("office"); ok {
		t.Error("the record before is still used")
	}
}

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secrets.key")
	first, err := LoadOrCreateSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := LoadOrCreateSecret(path)
	if err != nil || !bytes.Equal(first, again) || len(first) != SecretLen {
		t.Errorf("%x, %x, %v", first, again, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	line := base64.StdEncoding.EncodeToString(secret(3))
	for what, tt := range map[string]struct {
		content string
		mode    os.FileMode
		secrets int
	}{
		"one":             {line, 0o600, 1},
		"several":         {"# new\n" + line + "\n\n# old\n  " + line + "  \n", 0o600, 2},
		"read only":       {line + "\n", 0o400, 1},
		"others may read": {line, 0o640, 0},
		"empty":           {"# nothing\n", 0o600, 0},
		"short":           {line[4:], 0o600, 0},
		"not base64":      {"%" + line, 0o600, 0},
		"too many":        {strings.Repeat(line+"\n", maxSecrets+1), 0o600, 0},
	} {
		path := filepath.Join(dir, strings.ReplaceAll(what, " ", "-"))
		if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
			t.Fatal(err)
		}
		secrets, err := LoadSecrets(path)
		if len(secrets) != tt.secrets || (err == nil) != (tt.secrets > 0) {
			t.Errorf("%s: %d secrets, %v", what, len(secrets), err)
		}
		if err != nil && strings.Contains(err.Error(), line[:10]) {
			t.Errorf("%s: the secret is told: %v", what, err)
		}
	}
	if _, err := LoadSecrets(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// FuzzRecords: no record of the topic panics, and what can be read allows no more than its Check takes.
func FuzzRecords(f *testing.F) {
	c := newTopic()
	r := ring(f, c, secret(1))
	if err := errors.Join(r.PutKey(f.Context(), testKey("a.")), r.PutACL(f.Context(), ACL{
		Name: "x", Zones: []zones.NamePattern{{Name: name("a."), Self: true}},
		Grant: zones.Grant{Deeds: zones.DeedUpdate, Key: name("a."), Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Types: []zones.Type{zones.TypeTXT}},
	})); err != nil {
		f.Fatal(err)
	}
	for key, value := range c.records {
		f.Add(key, value)
	}
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if acl, err := readACL(key, value); err == nil && acl != nil && acl.Check() != nil {
			t.Fatalf("%s: %+v", value, acl)
		}
		if k, err := readKey(key, value, r.sealers); err == nil && k != nil && (k.Secret == nil || k.Check() != nil) {
			t.Fatalf("%s: %+v", value, k)
		}
	})
}
