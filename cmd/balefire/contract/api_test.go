package contract

import (
	"net/url"
	"strings"
	"testing"
)

// problem is an answer of RFC 9457.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	ID     string `json:"id"`
	Errors []struct {
		Field  string `json:"field"`
		Detail string `json:"detail"`
	} `json:"errors"`
}

// refused makes a request that must be refused with a problem that names a field ("" when none).
func (n node) refused(status int, field, method, path, body string, headers ...string) problem {
	n.t.Helper()
	p := api[problem](n, status, method, path, body, headers...)
	named := field == ""
	for _, e := range p.Errors {
		named = named || e.Field == field
	}
	if !named || p.Status != status || p.Title == "" || p.Type == "" || p.Detail == "" {
		n.t.Errorf("%s %s: %+v, want one that names %q", method, path, p, field)
	}
	return p
}

// TestAPI walks through what scripts do over HTTP: create, put, look up, change with conditions, repeat, roll back.
func TestAPI(t *testing.T) {
	t.Parallel()
	n := start(t)
	created := api[changed](n, 201, "POST", "/v1/zones", `{"name":"example.com.","nameservers":["ns1.example.net."],"ttl":600}`)
	if created.Status != "applied" || created.ID == "" || created.Serial == 0 {
		t.Errorf("created: %+v", created)
	}
	n.refused(409, "", "POST", "/v1/zones", `{"name":"example.com.","nameservers":["ns1.example.net."]}`)

	// If-Match holds the serial, which is the ETag of what was read.
	res := n.call("GET", "/v1/zones/example.com.", "")
	etag := res.header.Get("ETag")
	if etag != `"`+utoa(created.Serial)+`"` {
		t.Errorf("ETag %s of serial %d", etag, created.Serial)
	}
	const www = "/v1/zones/example.com./rrsets/www/A"
	put := api[changed](n, 200, "PUT", www, `{"ttl":300,"records":["192.0.2.7"]}`, "If-Match: "+etag)
	if put.Serial != created.Serial+1 {
		t.Errorf("put: %+v", put)
	}
	n.refused(412, "If-Match", "PUT", www, `{"ttl":300,"records":["192.0.2.8"]}`, "If-Match: "+etag)
	n.refused(412, "If-None-Match", "PUT", www, `{"ttl":300,"records":["192.0.2.8"]}`, "If-None-Match: *")
	n.refused(400, "If-Match", "PUT", www, `{"ttl":300,"records":["192.0.2.8"]}`, "If-Match: seven")
	if got := n.short("www.example.com", "A"); got != "192.0.2.7\n" {
		t.Errorf("after what was refused: %q", got)
	}

	// Idempotency-Key: the second request is the first one's result, and another request with it is refused.
	post := func(status int, body string) changed {
		return api[changed](n, status, "POST", "/v1/zones/example.com./changes", body, "Idempotency-Key: 4711")
	}
	add := `{"reason":"more of it","operations":[{"op":"add_records","owner":"www","type":"A","ttl":300,"records":["192.0.2.9"]}]}`
	first, second := post(200, add), post(200, add)
	if first.Duplicate || !second.Duplicate || first.ID != second.ID || first.Serial != second.Serial {
		t.Errorf("one key twice: %+v, %+v", first, second)
	}
	n = n.again() // it is remembered by the partition, not by the process
	if third := post(200, add); !third.Duplicate || third.ID != first.ID {
		t.Errorf("one key after kill -9: %+v", third)
	}
	n.refused(422, "", "POST", "/v1/zones/example.com./changes", strings.Replace(add, "192.0.2.9", "192.0.2.10", 1), "Idempotency-Key: 4711")
	if got := n.serial("example.com"); got != first.Serial {
		t.Errorf("serial %d, want %d", got, first.Serial)
	}

	// Preconditions, and whole or not at all.
	n.refused(412, "/preconditions/0", "POST", "/v1/zones/example.com./changes",
		`{"preconditions":[{"if":"name_not_in_use","owner":"www"}],"operations":[{"op":"delete_name","owner":"www"}]}`)
	n.refused(422, "/operations/1", "POST", "/v1/zones/example.com./changes",
		`{"operations":[{"op":"delete_name","owner":"www"},{"op":"put_rrset","owner":"@","type":"CNAME","ttl":1,"records":["a."]}]}`)
	api[changed](n, 200, "POST", "/v1/zones/example.com./changes",
		`{"preconditions":[{"if":"expression","owner":"www","type":"A","expression":"exists && ttl == 300"}],"operations":[{"op":"put_rrset","owner":"ftp","type":"A","ttl":300,"records":["192.0.2.21"]}]}`)
	if got := n.short("www.example.com", "A"); got != "192.0.2.7\n192.0.2.9\n" {
		t.Errorf("after changes that were rejected: %q", got)
	}

	// Bad bodies name the field.
	n.refused(422, "/record", "PUT", www, `{"ttl":300,"records":["192.0.2.8"],"record":1}`)
	n.refused(422, "/ttl", "PUT", www, `{"ttl":"soon","records":["192.0.2.8"]}`)
	n.refused(422, "/records/1", "PUT", www, `{"ttl":300,"records":["192.0.2.8","192.0.2.256"]}`)
	n.refused(400, "", "PUT", www, `{"ttl":300,`)
	n.refused(400, "{owner}", "PUT", "/v1/zones/example.com./rrsets/www.example.org./A", `{"ttl":300,"records":["192.0.2.8"]}`)
	n.refused(400, "?colour", "GET", "/v1/zones?colour=red", "")
	n.refused(413, "", "PUT", www, `{"ttl":300,"records":["`+strings.Repeat("1", 2<<20)+`"]}`)
	n.refused(404, "", "GET", "/v1/zones/example.org.", "")
	n.refused(404, "", "GET", "/v1/zones/example.com./rrsets/nothing/A", "")
	if res := n.call("POST", "/v1/zones/example.com.", "{}"); res.status != 405 || res.header.Get("Allow") == "" {
		t.Errorf("a method that is not for it: %d, Allow %q", res.status, res.header.Get("Allow"))
	}

	// Outcomes: waited for, not waited for, rejected.
	type outcome struct {
		changed
		Reason string `json:"reason"`
		Error  *struct {
			Rule string `json:"rule"`
		} `json:"error"`
	}
	if got := api[outcome](n, 200, "GET", "/v1/changes/"+first.ID+"?wait=5s", ""); got.Status != "applied" || got.Reason != "more of it" {
		t.Errorf("the outcome of %s: %+v", first.ID, got)
	}
	later := n.call("PUT", www, `{"ttl":300,"records":["192.0.2.7"]}`, "Prefer: respond-async")
	if later.status != 202 || !strings.HasPrefix(later.header.Get("Location"), "/v1/changes/") {
		t.Errorf("not waited for: %d, Location %q\n%s", later.status, later.header.Get("Location"), later.body)
	} else if got := api[outcome](n, 200, "GET", later.header.Get("Location")+"?wait=20s", ""); got.Status != "applied" {
		t.Errorf("waited for later: %+v", got)
	}
	rejected := n.refused(422, "", "PUT", "/v1/zones/example.com./rrsets/www/CNAME", `{"ttl":300,"records":["a."]}`)
	if got := api[outcome](n, 200, "GET", "/v1/changes/"+rejected.ID, ""); got.Status != "rejected" || got.Error == nil || got.Error.Rule == "" {
		t.Errorf("the outcome of what was rejected: %+v", got)
	}

	// History, and rolling back.
	history := api[struct {
		Entries []struct {
			ID, Action, Author, Reason string
			From, To                   uint32
		} `json:"entries"`
	}](n, 200, "GET", "/v1/zones/example.com./history?limit=100", "")
	if len(history.Entries) != 5 || history.Entries[4].Action != "created" || history.Entries[2].Reason != "more of it" || history.Entries[2].From+1 != history.Entries[2].To {
		t.Errorf("history: %+v", history.Entries)
	}
	back := api[changed](n, 200, "POST", "/v1/zones/example.com./rollback", `{"serial":`+utoa(put.Serial)+`}`)
	if back.Serial != first.Serial+3 || n.short("ftp.example.com", "A") != "" || n.short("www.example.com", "A") != "192.0.2.7\n" {
		t.Errorf("rolled back to %d: %+v", put.Serial, back)
	}

	// Look-ups of many at once, in several zones.
	api[changed](n, 201, "POST", "/v1/zones", `{"name":"example.net.","nameservers":["ns1"]}`)
	found := api[struct {
		Results []struct {
			Name, Status string
			Records      []string
			Serial       uint32
		} `json:"results"`
	}](n, 200, "POST", "/v1/lookup", `{"queries":[
		{"zone":"example.com.","name":"www","type":"A"}, {"zone":"example.net.","name":"@","type":"NS"},
		{"zone":"example.com.","name":"nothing","type":"A"}, {"zone":"example.org.","name":"@","type":"NS"}]}`)
	var statuses []string
	for _, r := range found.Results {
		statuses = append(statuses, r.Status+" "+strings.Join(r.Records, ","))
	}
	if got := strings.Join(statuses, "; "); got != "found 192.0.2.7; found ns1.example.net.; no-such-rrset ; no-such-zone " || found.Results[0].Serial != back.Serial {
		t.Errorf("look-ups: %s", got)
	}

	// Paging, with a prefix.
	many := `{"rrsets":[`
	for _, name := range []string{"h1", "h2", "h3", "h4", "h5"} {
		many += `{"owner":"` + name + `","type":"A","ttl":60,"records":["192.0.2.1"]},`
	}
	api[changed](n, 200, "PUT", "/v1/zones/example.net./rrsets", strings.TrimSuffix(many, ",")+"]}")
	var owners []string
	for after, pages := "", 0; pages < 10; pages++ {
		page := api[struct {
			RRsets []rrset `json:"rrsets"`
			Next   string  `json:"next"`
		}](n, 200, "GET", "/v1/zones/example.net./rrsets?prefix=h&limit=2"+after, "")
		for _, s := range page.RRsets {
			owners = append(owners, s.Owner)
		}
		if page.Next == "" {
			break
		}
		after = "&after=" + url.QueryEscape(page.Next)
	}
	if got := strings.Join(owners, " "); got != "h1.example.net. h2.example.net. h3.example.net. h4.example.net. h5.example.net." {
		t.Errorf("pages: %s", got)
	}

	// The zone as a file, out and in again.
	file := n.call("GET", "/v1/zones/example.net./file", "")
	if file.status != 200 || !strings.HasPrefix(file.header.Get("Content-Type"), "text/dns") {
		t.Errorf("export: %d %s", file.status, file.header.Get("Content-Type"))
	}
	in := api[struct{ Result string }](n, 200, "PUT", "/v1/zones/example.net./file", file.body, "Content-Type: text/dns")
	if in.Result != "unchanged" {
		t.Errorf("what came out, in again: %s", in.Result)
	}
	copied := api[struct{ Result string }](n, 201, "PUT", "/v1/zones/example.info./file", strings.ReplaceAll(file.body, "example.net.", "example.info."), "Content-Type: text/dns")
	if copied.Result != "created" || n.short("h3.example.info", "A") != "192.0.2.1\n" {
		t.Errorf("a copy: %+v", copied)
	}
}

// TestSignedZone: one that came signed keeps its serial, and takes no changes of single records.
func TestSignedZone(t *testing.T) {
	t.Parallel()
	n := start(t)
	n.importRoot()
	if info := jsonOf[zoneInfo](n, "zone", "show", "."); !info.Signed || info.Records != 22772 || info.Serial != 2017082100 {
		t.Errorf("the root zone: %+v", info)
	}
	n.refused(409, "", "PUT", "/v1/zones/@/rrsets/se./NS", `{"ttl":1,"records":["a.ns.se."]}`)
	n.fails(1, "signed", "record", "set", ".", "se.", "NS", "172800", "a.ns.se.")
	if got := n.serial("."); got != 2017082100 {
		t.Errorf("serial %d", got)
	}
	contains(t, "an unchanged import", n.cli("zone", "import", rootZone, "--origin", "."), "unchanged")
}
