package contract

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// catalogSaid is what `catalog show -o json` says.
type catalogSaid struct {
	Role    string `json:"role"`
	Problem string `json:"problem"`
	Listed  int    `json:"listed"`
	Pending int    `json:"pending"`
	Clashes int    `json:"clashes"`
	Members []struct {
		Zone     string   `json:"zone"`
		Label    string   `json:"label"`
		Groups   []string `json:"groups"`
		NewOwner string   `json:"new_owner"`
		Pending  string   `json:"pending"`
		Owner    string   `json:"owner"`
	} `json:"members"`
}

func (c catalogSaid) zones() (all []string) {
	for _, m := range c.Members {
		all = append(all, m.Zone)
	}
	return all
}

// lists reports whether a catalog lists these zones and no others, in canonical order, and nothing is to be done for it.
func lists(n node, catalog string, want ...string) func() bool {
	return func() bool {
		got := api[catalogSaid](n, 200, "GET", "/v1/catalogs/"+catalog, "")
		return got.Pending == 0 && slices.Equal(got.zones(), want)
	}
}

// hosts reports whether a node has these zones and no others.
func hosts(n node, want ...string) func() bool {
	return func() bool {
		type named struct {
			Name string `json:"name"`
		}
		var got []string
		for _, z := range api[struct{ Zones []named }](n, 200, "GET", "/v1/zones", "").Zones {
			got = append(got, z.Name)
		}
		return slices.Equal(got, want)
	}
}

// TestCatalogs: one server lists its zones, another hosts what that lists, as zones come, go, are made anew and change hands, across a kill -9 of either.
func TestCatalogs(t *testing.T) {
	t.Parallel()
	p := startHidden(t)
	n := start(t, "--dns-allow-peers", "127.0.0.0/8", "--secondary-min-refresh", "1s", "--secondary-min-retry", "1s")
	n.cli("tsig", "import", p.key.Name, "--algorithm", p.key.Algorithm, "--secret-file", p.secret)
	p.cli("acl", "set", "edges", "--allow", "transfer", "--key", p.key.Name)
	p.have("b.test.", 7, n.DNS)
	if out := p.cli("catalog", "create", "all.catalog.", "--notify", "key:"+p.key.Name+"@"+n.DNS); !strings.HasPrefix(out, "all.catalog. created, serial ") {
		t.Errorf("catalog create: %q", out)
	}
	p.cli("catalog", "create", "some.catalog.", "--group", "new", "--group", "odd", "--notify", "key:"+p.key.Name+"@"+n.DNS)
	p.cli("zone", "create", "a.test.", "--ns", "ns1", "--group", "odd")
	until(t, "zones are listed", lists(p.node, "all.catalog.", "a.test.", "b.test."))
	until(t, "a group is listed", lists(p.node, "some.catalog.", "a.test."))
	rows(t, p.cli("catalog", "list"), row("all\\.catalog\\.", "produced"), row("some\\.catalog\\.", "produced", "new, odd"))
	rows(t, p.cli("catalog", "show", "some.catalog."), row("groups", "new, odd"), row("zones listed", "1"), row("a\\.test\\.", "[0-9a-v]{26}", "odd"))

	n.cli("zone", "create", "own.test.", "--ns", "ns1")
	if out := n.cli("catalog", "subscribe", "all.catalog.", "--from", p.DNS, "--tsig", p.key.Name); !strings.HasPrefix(out, "all.catalog. subscribed to") {
		t.Errorf("catalog subscribe: %q", out)
	}
	until(t, "the members are hosted", hosts(n, "all.catalog.", "a.test.", "b.test.", "own.test."))
	until(t, "and answered for", serves(n, "b.test.", 7))
	rows(t, n.cli("catalog", "list"), row("all\\.catalog\\.", "consumed", `key:edge\.example\.@127\.0\.0\.1:\d+`))
	rows(t, n.cli("catalog", "show", "all.catalog."), row("a\\.test\\.", "[0-9a-v]{26}", "odd", "as it should be"))
	rows(t, n.cli("zone", "show", "a.test."), row("groups", "odd"), row("of catalog", `all\.catalog\. as [0-9a-v]{26}`))

	// Zones come and go; one is made anew, and is its old self nowhere. A clash is shown, and changes nothing.
	p.cli("zone", "delete", "b.test.")
	p.have("b.test.", 2)
	p.cli("zone", "create", "own.test.", "--ns", "ns1.other.")
	p.cli("zone", "create", "c.test.", "--ns", "ns1")
	p.cli("zone", "delete", "a.test.")
	until(t, "zones come, go, and are made anew", hosts(n, "all.catalog.", "b.test.", "c.test.", "own.test."))
	until(t, "a zone that was made anew has its new serial", serves(n, "b.test.", 2))
	until(t, "a clash is shown", func() bool {
		got := jsonOf[catalogSaid](n, "catalog", "show", "all.catalog.")
		return got.Clashes == 1 && got.Pending == 0 && got.Members[2].Zone == "own.test." && got.Members[2].Pending == "clash"
	})
	until(t, "it is a trouble", func() bool {
		said := n.cli("cluster", "status")
		return strings.Contains(said, "catalog all.catalog.") && strings.Contains(said, "own.test.")
	})
	if got := n.short("own.test", "NS"); got != "ns1.own.test.\n" {
		t.Errorf("a zone of its own was taken: %q", got)
	}

	// Both are killed, and go on.
	p = p.again()
	n = n.again()
	p.cli("catalog", "set", "some.catalog.", "--group", "new")
	p.cli("zone", "create", "d.test.", "--ns", "ns1", "--group", "new")
	for _, catalog := range []string{"all.catalog.", "some.catalog."} {
		p.cli("zone", "set", catalog, "--notify", "key:"+p.key.Name+"@"+n.DNS)
	}
	until(t, "another zone of another group is listed", lists(p.node, "some.catalog.", "d.test."))
	until(t, "what came after the kills is hosted", hosts(n, "all.catalog.", "b.test.", "c.test.", "d.test.", "own.test."))

	// A zone goes from one catalog to the other, with what is in it.
	n.cli("catalog", "subscribe", "some.catalog.", "--from", p.DNS, "--tsig", p.key.Name)
	p.cli("zone", "set", "c.test.", "--new-catalog", "some.catalog.")
	owner := func(zone, catalog string) func() bool {
		return func() bool {
			got := api[struct{ Member struct{ Catalog string } }](n, 200, "GET", "/v1/zones/"+zone, "")
			return got.Member.Catalog == catalog
		}
	}
	until(t, "a zone changes hands", owner("c.test.", "some.catalog."))
	if !owner("d.test.", "all.catalog.")() {
		t.Error("a zone changed hands that was not given away")
	}
	p.cli("zone", "set", "c.test.", "--group", "new", "--new-catalog", "none")
	p.cli("catalog", "set", "all.catalog.", "--group", "nothing")
	until(t, "the first catalog is empty, and the other has what was given to it", hosts(n, "all.catalog.", "some.catalog.", "c.test.", "d.test.", "own.test."))
	until(t, "and what it lists", owner("d.test.", "some.catalog."))

	// The ends: the members stay, or go.
	n.fails(1, "--delete-members", "catalog", "delete", "some.catalog.")
	n.cli("catalog", "delete", "some.catalog.", "--keep-members")
	until(t, "the members are let go", hosts(n, "all.catalog.", "c.test.", "d.test.", "own.test."))
	if strings.Contains(n.cli("zone", "show", "c.test."), "of catalog") {
		t.Error("a zone that was let go is of a catalog")
	}
	n.cli("catalog", "delete", "all.catalog.", "--delete-members")
	until(t, "the other catalog is gone", hosts(n, "c.test.", "d.test.", "own.test."))
	p.cli("catalog", "delete", "all.catalog.")
	p.fails(1, "not hosted", "catalog", "show", "all.catalog.")

	// What makes no sense.
	p.fails(1, "no catalog", "catalog", "show", "c.test.")
	p.fails(1, "no catalog", "catalog", "set", "c.test.", "--group", "x")
	p.fails(1, "no catalog", "catalog", "delete", "c.test.")
	p.fails(1, "stay as they are", "catalog", "delete", "some.catalog.", "--keep-members")
	p.fails(2, "--group", "catalog", "set", "some.catalog.")
	p.fails(2, "--from", "catalog", "subscribe", "x.catalog.")
	p.fails(2, "--from", "catalog", "subscribe", "x.catalog.", "--tsig", "key.")
	p.fails(2, "exclude", "catalog", "delete", "some.catalog.", "--keep-members", "--delete-members")
	p.fails(1, "already", "catalog", "create", "some.catalog.")
	p.fails(1, "too long", "catalog", "create", strings.Repeat(strings.Repeat("x", 60)+".", 3)+strings.Repeat("x", 40)+"."+"test.")
	p.fails(1, "text", "zone", "set", "c.test.", "--group", "a\nb")
}

// TestCatalogsInARegion: nodes that share the partitions list the zones of both, and host what a catalog lists, wherever it belongs.
func TestCatalogsInARegion(t *testing.T) {
	t.Parallel()
	nodes := sharing(t, "--dns-allow-peers", "127.0.0.0/8", "--secondary-min-refresh", "1s", "--secondary-min-retry", "1s")
	var want []string
	for i := range 12 {
		zone := fmt.Sprintf("zone-%02d.test.", i)
		want = append(want, zone)
		nodes[i%2].cli("zone", "create", zone, "--ns", "ns1")
	}
	for _, catalog := range []string{"one.catalog.", "two.catalog.", "three.catalog."} { // in several partitions
		nodes[0].cli("catalog", "create", catalog)
	}
	for i, n := range nodes {
		for _, catalog := range []string{"one.catalog.", "two.catalog.", "three.catalog."} {
			until(t, fmt.Sprintf("node %d lists all zones in %s", i+1, catalog), lists(n, catalog, want...))
		}
		if got := strings.Count(n.cli("catalog", "list"), "produced"); got != 3 {
			t.Errorf("node %d knows %d catalogs", i+1, got)
		}
	}
	nodes[1].cli("zone", "delete", want[0])
	nodes[0].cli("zone", "delete", want[1])
	for _, catalog := range []string{"one.catalog.", "two.catalog.", "three.catalog."} {
		until(t, "zones go from "+catalog, lists(nodes[0], catalog, want[2:]...))
	}

	p := startHidden(t)
	nodes[0].cli("tsig", "import", p.key.Name, "--algorithm", p.key.Algorithm, "--secret-file", p.secret)
	knowKey(t, nodes, p.key.Name)
	p.cli("acl", "set", "edges", "--allow", "transfer", "--key", p.key.Name)
	p.cli("catalog", "create", "their.catalog.")
	var theirs []string
	for i := range 8 {
		zone := fmt.Sprintf("their-%02d.test.", i)
		theirs = append(theirs, zone)
		p.have(zone, 3)
	}
	until(t, "the other server lists its zones", lists(p.node, "their.catalog.", theirs...))
	nodes[1].cli("catalog", "subscribe", "their.catalog.", "--from", p.DNS, "--tsig", p.key.Name)
	for i, n := range nodes {
		until(t, fmt.Sprintf("node %d hosts what it lists", i+1), lists(n, "their.catalog.", theirs...))
		for _, zone := range theirs {
			until(t, fmt.Sprintf("node %d answers for %s", i+1, zone), serves(n, zone, 3))
		}
	}
	nodes[0].cli("catalog", "delete", "their.catalog.", "--delete-members")
	until(t, "all of it is gone", hosts(nodes[1], append([]string{"one.catalog.", "three.catalog.", "two.catalog."}, want[2:]...)...))
}
