package admin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/store"
	"balefire/zones"
	"balefire/zones/zonefile"
)

// zoneText makes the lines of a zone of n host names, and its SOA and NS.
func zoneText(apex string, serial, n int) []string {
	lines := []string{
		fmt.Sprintf("%s 3600 IN SOA ns1.test. hostmaster.test. %d 7200 900 1209600 300\n", apex, serial),
		fmt.Sprintf("%s 3600 IN NS ns1.test.\n", apex),
	}
	for i := range n {
		lines = append(lines, fmt.Sprintf("host-%07d.%s 300 IN A 192.0.2.%d\n", i, apex, i%256))
	}
	return lines
}

func shuffled(lines []string) string {
	lines = slices.Clone(lines)
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return strings.Join(lines, "")
}

// TestStagedImport: a zone of many records, in any order and little memory, becomes that zone and no other.
func TestStagedImport(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.SortMemory = 64 << 10 })
	const url = "/v1/zones/big.example./file"
	lines := zoneText("big.example.", 1, 9000)
	got := r.must(http.StatusCreated, "PUT", url, shuffled(lines)).json(t)
	if got["result"] != "created" || got["rrsets"] != 9002.0 || got["status"] != "applied" {
		t.Fatalf("%v", got)
	}
	if n := r.faults.published(); n < 6 || n > 20 {
		t.Errorf("%d records in the log", n)
	}
	export := r.must(http.StatusOK, "GET", url, "").body
	a, errA := zonefile.Read(bytes.NewReader(export), zonefile.Options{})
	b, errB := zonefile.Read(strings.NewReader(strings.Join(lines, "")), zonefile.Options{})
	if errA != nil || errB != nil || !slices.EqualFunc(a.RRsets, b.RRsets, zones.RRset.Equal) {
		t.Errorf("the export differs: %v %v", errA, errB)
	}

	// Again: not written. With a record more: written, and read whole before and after.
	published := r.faults.published()
	if got := r.must(http.StatusOK, "PUT", url, string(export)).json(t); got["result"] != "unchanged" || r.faults.published() != published {
		t.Errorf("%v, %d records", got, r.faults.published()-published)
	}
	got = r.must(http.StatusOK, "PUT", url+"?dry_run=1", shuffled(append(lines, "more.big.example. 60 A 192.0.2.1\n"))).json(t)
	if got["result"] != "replaced" || got["added"] != 1.0 || got["removed"] != 0.0 || got["changed"] != 0.0 || r.faults.published() != published {
		t.Errorf("dry run: %v", got)
	}
	got = r.must(http.StatusOK, "PUT", url, shuffled(append(lines, "more.big.example. 60 A 192.0.2.1\n")), "Idempotency-Key: big").json(t)
	if got["result"] != "replaced" || got["serial"] != 2.0 {
		t.Errorf("%v", got)
	}
	// The same request: its first result, also when the zone has changed.
	r.must(http.StatusOK, "DELETE", "/v1/zones/big.example./rrsets/more/A", "")
	again := r.must(http.StatusOK, "PUT", url, shuffled(append(lines, "more.big.example. 60 A 192.0.2.1\n")), "Idempotency-Key: big").json(t)
	if again["id"] != got["id"] || again["duplicate"] != true || again["serial"] != 2.0 {
		t.Errorf("again: %v, first %v", again, got)
	}
	r.must(http.StatusNotFound, "GET", "/v1/zones/big.example./rrsets/more/A", "")
	before := r.state()
	other := r.call("PUT", url, shuffled(append(lines, "more.big.example. 60 A 192.0.2.2\n")), "Idempotency-Key: big")
	if other.status != http.StatusUnprocessableEntity || r.state() != before {
		t.Errorf("the key of another: %d %s", other.status, other.body)
	}

	// A precondition that fails is found at the end, and nothing stays staged.
	if a := r.call("PUT", url, shuffled(zoneText("big.example.", 9, 8999)), `If-Match: "1"`); a.status != http.StatusPreconditionFailed || r.state() != before {
		t.Errorf("%d %s", a.status, a.body)
	}
	// A mistake in the last line.
	text := strings.Join(lines, "") + "host-0000001.big.example. 60 CNAME x.\n"
	if a := r.call("PUT", url, text); a.status != http.StatusUnprocessableEntity || fieldOfReply(t, a) != "big.example.zone:9003:1" && fieldOfReply(t, a) != "big.example.zone:4:1" || r.state() != before {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestStagingFails: whatever chunk fails, the zone stays as it was, and the next import succeeds.
func TestStagingFails(t *testing.T) {
	r := newRig(t, nil)
	const url = "/v1/zones/big.example./file"
	text := strings.Join(zoneText("big.example.", 1, 7000), "") // four chunks and the commit
	for at := range 5 {
		for _, landed := range []bool{false, true} {
			n := 0
			r.faults.set(func(ctx context.Context, cs *zones.ChangeSet) (store.Position, error) {
				if n++; n-1 != at {
					return r.node.Publish(ctx, cs)
				}
				if landed {
					if _, err := r.node.Publish(ctx, cs); err != nil {
						return store.Position{}, err
					}
				}
				return store.Position{}, errors.New("no acknowledgement")
			}, nil)
			a := r.call("PUT", url, text)
			want := http.StatusServiceUnavailable
			if at == 4 {
				want = http.StatusGatewayTimeout
			}
			if a.status != want {
				t.Errorf("publishing %d failed (landed: %v): %d %s", at, landed, a.status, a.body)
			}
			if state := r.state(); state != "" && !(at == 4 && landed) {
				t.Errorf("publishing %d failed (landed: %v), and yet: %s", at, landed, state)
			}
		}
	}
	r.faults.set(nil, nil)
	// The last one had landed after all.
	if got := r.call("PUT", url, text).json(t); got["result"] != "unchanged" && got["result"] != "created" {
		t.Errorf("%v", got)
	}
	// The client leaves in the middle of staging.
	before := r.state()
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	r.faults.set(func(pub context.Context, cs *zones.ChangeSet) (store.Position, error) {
		if op, ok := cs.Ops[0].(zones.OpStageChunk); ok && op.Index == 1 {
			leave()
			<-left
		}
		return r.node.Publish(pub, cs)
	}, nil)
	req, err := http.NewRequestWithContext(ctx, "PUT", r.base+url, strings.NewReader(strings.Join(zoneText("big.example.", 2, 7001), "")))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	req.Header.Set("Content-Type", "text/dns")
	if _, err := r.client.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(left)
	r.faults.set(nil, nil)
	await(t, "the import has noticed", func() bool { return r.call("PUT", url+"?dry_run=true", text).status == http.StatusOK })
	if after := r.state(); after != before {
		t.Errorf("changed to %s", after)
	}
}

func TestShrinkGuard(t *testing.T) {
	r := newRig(t, nil)
	const url = "/v1/zones/big.example."
	full := zoneText("big.example.", 1, 198) // 200 RRsets
	put := func(lines []string) string { return strings.Join(lines, "") }
	r.must(http.StatusCreated, "PUT", url+"/file", put(full))
	before := r.state()
	for _, lines := range [][]string{full[:159], full[:2]} {
		a := r.call("PUT", url+"/file", put(lines))
		if a.status != http.StatusConflict || !strings.Contains(string(a.body), "problem:shrinking") || fieldOfReply(t, a) != "?force" || r.state() != before {
			t.Errorf("%d of 200 left: %d %s", len(lines), a.status, a.body)
		}
	}
	// As many as before, but others.
	if a := r.call("PUT", url+"/file", strings.ReplaceAll(put(full), "host-", "other-")); a.status != http.StatusConflict {
		t.Errorf("others: %d %s", a.status, a.body)
	}
	few := `{"operations": [{"op": "replace_zone", "rrsets": [{"owner": "@", "type": "SOA", "ttl": 1, "records": ["a. b. 1 1 1 1 1"]}, {"owner": "@", "type": "NS", "ttl": 1, "records": ["a."]}]}]}`
	if a := r.call("POST", url+"/changes", few); a.status != http.StatusConflict || r.state() != before {
		t.Errorf("by a change set: %d %s", a.status, a.body)
	}
	r.must(http.StatusOK, "PUT", url+"/file", put(full[:160])) // a fifth, and no more
	r.must(http.StatusOK, "PUT", url+"/file?force=true", put(full[:120]))
	r.must(http.StatusOK, "PUT", url+"/file", put(full[:100])) // 20 of 120
	r.must(http.StatusOK, "PUT", url+"/file", put(full[:2]))   // no more than 100: not guarded
	r.must(http.StatusOK, "PUT", url+"/file", put(full))
	r.must(http.StatusOK, "POST", url+"/changes?force=true", few)
}

// TestOneImportOfAZone: a second one at the same time is told to come later.
func TestOneImportOfAZone(t *testing.T) {
	// Who finds room does not wait, so no time is enough for the first.
	r := newRig(t, func(o *Options) { o.Limits = Limits{Imports: 1, ImportQueue: time.Nanosecond} })
	body, send := io.Pipe()
	first := make(chan reply, 1)
	go func() {
		a, err := r.try("PUT", "/v1/zones/a.example./file", body)
		if err != nil {
			t.Error(err)
		}
		first <- a
	}()
	if _, err := io.WriteString(send, "@ 60 SOA a. b. 1 1 1 1 1\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "the first is in", func() bool { return len(r.server.imports.free) == 1 })
	if a := r.call("PUT", "/v1/zones/a.example./file", "; nothing\n"); a.status != http.StatusConflict || a.header.Get("Retry-After") == "" {
		t.Errorf("the same zone: %d %s", a.status, a.body)
	}
	if a := r.call("PUT", "/v1/zones/b.example./file", "; nothing\n"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("another zone: %d %s", a.status, a.body)
	}
	if _, err := io.WriteString(send, "@ 60 NS a.\n"); err != nil {
		t.Fatal(err)
	}
	send.Close()
	if a := <-first; a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.must(http.StatusUnprocessableEntity, "PUT", "/v1/zones/b.example./file", "; nothing\n")
}

// TestRootZone imports the real, signed root zone and exports it again.
func TestRootZone(t *testing.T) {
	text, err := os.ReadFile("../testdata/zones/root.zone")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, nil)
	got := r.must(http.StatusCreated, "PUT", "/v1/zones/@/file", string(text)).json(t)
	if got["records"] != 22772.0 {
		t.Errorf("%v", got)
	}
	export := r.must(http.StatusOK, "GET", "/v1/zones/%2E/file", "").body
	a, errA := zonefile.Read(bytes.NewReader(export), zonefile.Options{})
	b, errB := zonefile.Read(bytes.NewReader(text), zonefile.Options{Origin: zones.Root})
	if errA != nil || errB != nil || !slices.EqualFunc(a.RRsets, b.RRsets, zones.RRset.Equal) {
		t.Errorf("the export differs: %v %v", errA, errB)
	}
	if got := r.must(http.StatusOK, "PUT", "/v1/zones/@/file", string(export)).json(t); got["result"] != "unchanged" {
		t.Errorf("%v", got)
	}
	// It came signed: single records can't be changed.
	if a := r.call("PUT", "/v1/zones/@/rrsets/se./NS", `{"ttl": 60, "records": ["a."]}`); a.status != http.StatusConflict || !strings.Contains(string(a.body), "zone-is-signed") {
		t.Errorf("%d %s", a.status, a.body)
	}
	sig := r.must(http.StatusOK, "GET", "/v1/zones/@/rrsets/se./RRSIG?covers=DS", "").json(t)
	if sig["covers"] != "DS" {
		t.Errorf("%v", sig)
	}
	// Signatures are pages' cursors, too.
	next, count := "", 0
	for page := 0; page == 0 || next != ""; page++ {
		path := "/v1/zones/@/rrsets?limit=1000"
		if page > 0 {
			path += "&after=" + next
		}
		list := r.must(http.StatusOK, "GET", path, "").json(t)
		count += len(list["rrsets"].([]any))
		next, _ = list["next"].(string)
	}
	if info := r.must(http.StatusOK, "GET", "/v1/zones/@", "").json(t); float64(count) != info["rrsets"] || info["signed"] != true {
		t.Errorf("%d RRsets listed, zone %v", count, info)
	}
}

// TestExportIsCut: a client that reads too slowly is cut, and does not take what it has for the whole.
func TestExportIsCut(t *testing.T) {
	t.Parallel() // it waits most of the time
	r := newRig(t, func(o *Options) { o.Limits = Limits{StallTimeout: 8 * time.Second, MinRate: 1 << 30} })
	r.makeZone("big.example.")
	text := `"` + strings.Repeat(strings.Repeat("x", 250)+`" "`, 200) + `"`
	for i := range 5 {
		var sets []string
		for j := range 4 {
			sets = append(sets, fmt.Sprintf(`{"owner": "t%d-%d", "type": "TXT", "ttl": 1, "records": [%q]}`, i, j, text))
		}
		r.must(http.StatusOK, "PUT", "/v1/zones/big.example./rrsets", `{"rrsets": [`+strings.Join(sets, ",")+`]}`)
	}
	whole := r.must(http.StatusOK, "GET", "/v1/zones/big.example./file", "").body
	conn, err := net.Dial("tcp", r.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 16 { // in all more than sockets hold
		if _, err := io.WriteString(conn, "GET /v1/zones/big.example./file HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+secret+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the server has given up", func() bool { return strings.Contains(r.log.String(), `"cut":true`) })
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return // cut between two answers
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		if len(got) != len(whole) {
			t.Fatalf("%d of %d octets ended well", len(got), len(whole))
		}
	}
}

// TestExportHasOccludedData: row 33 of ANSWERS.md is about transfers; an export holds the same, occluded data and
// glue included (RFC 5936 §3.5).
func TestExportHasOccludedData(t *testing.T) {
	r := newRig(t, nil)
	r.must(http.StatusCreated, "PUT", "/v1/zones/cut.example./file", `$ORIGIN cut.example.
$TTL 60
@ SOA ns1 hostmaster 1 7200 900 1209600 300
@ NS ns1
ns1 A 192.0.2.1
child NS ns.child
ns.child A 192.0.2.2
www.child TXT "occluded"
`)
	export := string(r.must(http.StatusOK, "GET", "/v1/zones/cut.example./file", "").body)
	for _, want := range []string{"ns.child.cut.example.\t60\tIN\tA\t192.0.2.2\n", "www.child.cut.example.\t60\tIN\tTXT\t\"occluded\"\n"} {
		if !strings.Contains(export, want) {
			t.Errorf("missing %q in\n%s", want, export)
		}
	}
}
