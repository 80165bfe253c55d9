package contract

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"balefire/cmd/balefire/balefiretest"
)

// TestFirstDay is what a user does and sees: start, ask, change, import, export, kill -9, start again.
func TestFirstDay(t *testing.T) {
	t.Parallel()
	n := start(t, "--sample", sampleZones)
	awaitSamples(n)

	if got := n.short("www.example.com", "A"); got != "192.0.2.80\n" {
		t.Errorf("www.example.com: %q", got)
	}
	before := n.serial("example.com")
	n.cli("record", "set", "example.com.", "www", "A", "300", "192.0.2.7", "192.0.2.8")
	if got := n.short("www.example.com", "A"); got != "192.0.2.7\n192.0.2.8\n" {
		t.Errorf("after the change, at once: %q", got)
	}
	if got := n.serial("example.com"); got != before+1 {
		t.Errorf("serial %d, want one more than %d", got, before)
	}

	contains(t, "import", n.importRoot(), "created", "22772 records")
	questions := [][]string{
		{"+norec", "se.", "NS"},
		{"www.example.com", "A"},
		{"example.com", "SOA"},
		{"se.", "DS", "+dnssec"},
		{".", "DNSKEY", "+dnssec", "+tcp"},
		{"nothing.invalid.", "A", "+dnssec"},
		{"host.old.example.org", "A"},
		{"-x", "192.0.2.150"},
	}
	referral := n.dig(questions[0]...)
	contains(t, "se. NS", referral, "status: NOERROR", "ANSWER: 0, AUTHORITY: 10, ADDITIONAL: 19")
	if !regexp.MustCompile(`(?m)^a\.ns\.se\.\s+172800\s+IN\s+A\s+192\.36\.144\.107$`).MatchString(referral) {
		t.Errorf("a referral without glue:\n%s", referral)
	}
	if flags := regexp.MustCompile(`flags: [^;]*`).FindString(referral); flags != "flags: qr" {
		t.Errorf("a referral with %q", flags)
	}

	exported := filepath.Join(t.TempDir(), "exported.zone")
	write(t, filepath.Dir(exported), "exported.zone", n.cli("zone", "export", "."))
	if got, want := canonical(t, exported), canonical(t, rootZone); got != want {
		t.Errorf("the exported root zone is not the imported one: %s", difference(got, want))
	}
	if got, want := compiled(t, ".", exported), compiled(t, ".", rootZone); got != want {
		t.Errorf("the exported root zone is not the imported one to BIND: %s", difference(got, want))
	}

	answers := func() (all []string) {
		for _, q := range questions {
			all = append(all, sorted(n.dig(append([]string{"+noall", "+answer", "+authority", "+additional"}, q...)...)))
		}
		return all
	}
	was := answers()
	n = n.again()
	if is := answers(); !slices.Equal(is, was) {
		t.Errorf("after kill -9:\n%s\nbefore:\n%s", strings.Join(is, "\n"), strings.Join(was, "\n"))
	}
	if got := n.short("www.example.com", "A"); got != "192.0.2.7\n192.0.2.8\n" {
		t.Errorf("the sample zone was written over the change: %q", got)
	}
}

// importRoot imports the root zone, and returns what was said. The log of a machine that is very busy may not take its parts in time: then nothing was changed,
// and it is asked for again.
func (n node) importRoot() string {
	n.t.Helper()
	var r ran
	for range busy {
		if r = run(n.t, n.env(), "", "zone", "import", rootZone, "--origin", "."); r.code == 0 {
			return r.out
		}
		if !strings.Contains(r.err, "nothing was changed: the log ") {
			break
		}
	}
	n.t.Fatal(r)
	return ""
}

// awaitSamples waits for the zones of --sample, which are imported when the node is ready.
func awaitSamples(n node) {
	n.t.Helper()
	if err := n.Await(time.Minute, "loaded", func() bool { return strings.Contains(n.Said(), "zone list") }); err != nil {
		n.t.Fatalf("%v\n%s%s", err, n.Said(), n.Log())
	}
}

// canonical puts a zone file into canonical form and order (RFC 4034 §6).
func canonical(t *testing.T, file string) string {
	t.Helper()
	return sorted(tool(t, "ldns-read-zone", "-c", "-z", file))
}

// compiled is a zone file as BIND understands it, one record a line, in lower case.
func compiled(t *testing.T, apex, file string) string {
	t.Helper()
	out := tool(t, "named-compilezone", "-q", "-i", "none", "-k", "ignore", "-n", "ignore", "-m", "ignore", "-r", "ignore", "-s", "full", "-o", "-", apex, file)
	return sorted(strings.ToLower(out))
}

// TestServeSaysWhatToTypeNext runs what the server prints for people, as it is printed.
func TestServeSaysWhatToTypeNext(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"with samples": {"--sample", sampleZones}, "empty": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startWith(t, balefiretest.How{Args: args, NoToken: true})
			awaitSamples(n)
			said := n.Said()
			contains(t, "what serve says", said, "is ready", n.DNS+" (UDP and TCP)", "http://"+n.Admin, n.Dir+"\n", filepath.Join(n.Dir, "admin.token"))
			_, next, found := strings.Cut(said, "To try")
			commands := strings.Split(strings.TrimSpace(next), "\n")
			if !found || len(commands) < 3 {
				t.Fatalf("no commands to try:\n%s", said)
			}
			for _, command := range commands[1:] {
				out := tool(t, "env", "-u", "BALEFIRE_TOKEN", "-u", "BALEFIRE_SERVER", "sh", "-ec", command)
				if strings.HasPrefix(strings.TrimSpace(command), "dig ") {
					contains(t, command, out, "flags: qr aa rd")
				}
			}
			if got := n.short("www.example.com", "A"); got != "192.0.2.7\n192.0.2.8\n" {
				t.Errorf("after all of it, www.example.com is %q", got)
			}
		})
	}
}

// TestAnswersWithinASecond logs the time from a process's start to its first answers; the limit is for busy machines.
func TestAnswersWithinASecond(t *testing.T) {
	n := start(t, "--sample", sampleZones)
	awaitSamples(n)
	n.importRoot()
	for _, how := range []string{"killed", "stopped"} {
		if how == "stopped" {
			if err := n.Stop(time.Minute); err != nil {
				t.Fatalf("SIGTERM: %v\n%s", err, n.Log())
			}
		}
		n.Kill()
		again := n.How
		n = launchWith(t, again)
		var first time.Duration
		if err := n.Await(time.Minute, "answering", func() bool {
			out, err := tryTool(t, "dig", append(at(n.DNS), "+short", "+tries=1", "+time=1", "se.", "DS")...)
			first = time.Since(n.Began)
			return err == nil && strings.Contains(out, "59747 5 2")
		}); err != nil {
			t.Fatalf("%v\n%s", err, n.Log())
		}
		if err := n.AwaitReady(time.Minute); err != nil {
			t.Fatal(err)
		}
		t.Logf("after it was %s, the first answer came %s after the start, ready was said at %s", how, first.Round(time.Millisecond), time.Since(n.Began).Round(time.Millisecond))
		if first > time.Minute/2 {
			t.Errorf("after it was %s, the first answer came only %s after the start", how, first)
		}
	}
}
