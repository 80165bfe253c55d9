package differential

import (
	"bytes"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

var (
	seedFlag      = flag.Uint64("seed", 0, "seed of zones and questions; 0 takes one from the clock")
	onlyFlag      = flag.String("only", "", "ask about the zone with this apex alone")
	questionsFlag = flag.Int("questions", 40000, "how many questions to ask")
)

// fromDisk is how many questions there are for each that is asked of the zones on disk too, which are slower.
const fromDisk = 5

// shown is how many differences are printed whole.
const shown = 10

// testZone is a zone that all three serve.
type testZone struct {
	apex zones.Name
	sets []zones.RRset
	file string // what NSD and Knot read
}

func TestDifferential(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d: to do it again, go test ./dnsserver/differential -seed %d -questions %d", seed, seed, *questionsFlag)

	used := make([]atomic.Int64, len(exceptions))
	t.Run("root", func(t *testing.T) {
		file, err := filepath.Abs("../../testdata/zones/root.zone")
		if err != nil {
			t.Fatal(err)
		}
		compareServers(t, seed, []testZone{readZone(t, zones.Root, file)}, *questionsFlag/4, used)
	})
	t.Run("generated", func(t *testing.T) {
		compareServers(t, seed, generatedZones(t, seed), *questionsFlag*3/4, used)
	})
	for i, e := range exceptions {
		t.Logf("%6d times: %s (row %d)", used[i].Load(), e.name, e.row)
	}
}

// generatedZones makes the zones. Each depends on the seed and its name alone.
func generatedZones(t *testing.T, seed uint64) []testZone {
	dir := t.TempDir()
	var all []testZone
	add := func(apex, text string, c chain) {
		name := zones.MustParseName(apex)
		contents, err := zonefile.Read(strings.NewReader(text), zonefile.Options{File: apex, Origin: name})
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		sets := contents.RRsets
		if c != unsigned {
			sets = sign(t, rngFor(seed, apex+"signatures"), name, sets, c)
			text = zoneText(t, name, sets)
		}
		requireValid(t, name, sets)
		file := filepath.Join(dir, fmt.Sprintf("%d.zone", len(all)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, testZone{name, sets, file})
	}
	for _, c := range []chain{unsigned, nsec, nsec3, optOut} {
		longest := zones.MaxNameLen
		if c == nsec3 || c == optOut {
			// NSD 4.6.1 crashes when it hashes the wildcard below a longer name.
			longest -= len("\x01*")
		}
		for i := range 3 {
			apex := fmt.Sprintf("tricky%d.%s.", i, c)
			text := generate(rngFor(seed, apex), apex, 120, longest)
			for try := 0; redirectsIn(text, "a."+apex); try++ {
				text = generate(rngFor(seed, fmt.Sprint(apex, try)), apex, 120, longest)
			}
			add(apex, text, c)
		}
		apex := fmt.Sprintf("glue.%s.", c)
		add(apex, generateGlue(apex), c)
		apex = fmt.Sprintf("mail.%s.", c)
		add(apex, generateMail(apex), c)
		apex = fmt.Sprintf("wild.%s.", c)
		add(apex, generateWild(apex), c)
		apex = fmt.Sprintf("chains.%s.", c)
		add(apex, generateChains(apex), c)
		apex = fmt.Sprintf("a.tricky0.%s.", c) // inside another zone, delegated there or not
		// NSD refuses a zone for what another one has below its DNAMEs: this one has none, nor has its parent any in it.
		text := "\tDNAME\t"
		for try := 0; strings.Contains(text, "\tDNAME\t"); try++ {
			text = generate(rngFor(seed, fmt.Sprint(apex, try)), apex, 30, zones.MaxNameLen)
		}
		add(apex, text, unsigned)
		apex = fmt.Sprintf("dname.%s.", c)
		add(apex, generateApexDNAME(apex, "tricky1."+c.String()+"."), c)
	}
	return all
}

// redirectsIn reports whether the text of a zone has a DNAME at a name or below it.
func redirectsIn(text, name string) bool {
	for line := range strings.Lines(text) {
		owner, _, _ := strings.Cut(line, "\t")
		if strings.Contains(line, "\tDNAME\t") && zones.MustParseName(owner).IsAtOrBelow(zones.MustParseName(name)) {
			return true
		}
	}
	return false
}

// requireValid fails the test for a zone that Balefire would not take.
func requireValid(t *testing.T, apex zones.Name, sets []zones.RRset) {
	seq := change.NewSequence(apex)
	for _, set := range sortedSets(sets) {
		if r := seq.Add(set); r != nil {
			t.Fatalf("generated zone %s: %v", apex, r)
		}
	}
	if r := seq.Finish(); r != nil {
		t.Fatalf("generated zone %s: %v", apex, r)
	}
}

// rngFor returns the random numbers that belong to a seed and a purpose.
func rngFor(seed uint64, purpose string) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(purpose)) // never fails
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

func readZone(t *testing.T, apex zones.Name, file string) testZone {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	contents, err := zonefile.Read(f, zonefile.Options{File: file, Origin: apex})
	if err != nil {
		t.Fatal(err)
	}
	return testZone{apex, contents.RRsets, file}
}

func zoneText(t *testing.T, apex zones.Name, sets []zones.RRset) string {
	var b bytes.Buffer
	sorted := func(yield func(zones.RRset, error) bool) {
		for _, s := range sortedSets(sets) {
			if !yield(s, nil) {
				return
			}
		}
	}
	if err := zonefile.Write(&b, apex, sorted); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// compareServers asks the three servers n questions about zones.
func compareServers(t *testing.T, seed uint64, all []testZone, n int, used []atomic.Int64) {
	files := map[string]string{}
	owners := map[zones.Name]bool{}
	for _, z := range all {
		files[z.apex.String()] = z.file
		for _, set := range z.sets {
			owners[set.Owner] = true
		}
	}
	servers := [...]struct{ name, addr string }{
		{"NSD", startNSD(t, files)},
		{"Knot", startKnot(t, files)},
		{"Balefire", startBalefire(t, all, hotBytes)},
		{"Balefire from disk", startBalefire(t, all, coldBytes)},
	}

	const workers = 4
	var agreed, differed, asked atomic.Int64
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			rng := rngFor(seed, fmt.Sprintf("questions %d", worker))
			var askers []*asker
			for _, z := range all {
				if *onlyFlag != "" && *onlyFlag != z.apex.String() {
					continue
				}
				askers = append(askers, newAsker(rng, z.apex, z.sets))
			}
			var clients [len(servers)]client
			for i, s := range servers {
				clients[i].server, clients[i].addr = s.name, s.addr
				defer clients[i].close()
			}
			for i := range n / workers {
				c, err := askAll(&clients, pick(rng, askers).next())
				if err == nil && i%fromDisk == 0 {
					err = askDisk(&clients, c.q)
				}
				if err != nil {
					t.Error(err)
					return
				}
				asked.Add(1)
				if c.agreed {
					agreed.Add(1)
				}
				if len(c.differing) == 0 {
					continue
				}
				c.exists = func(owner zones.Name) bool { return owners[owner] }
				c.again = func(q question) (comparison, error) {
					other, err := askAll(&clients, q)
					if err == nil && other.unread {
						err = fmt.Errorf("%s: an answer that can't be read", q)
					}
					other.exists, other.again = c.exists, c.again
					return other, err
				}
				if i, ok := c.excused(); ok {
					used[i].Add(1)
				} else if differed.Add(1) <= shown {
					t.Error(c.describe())
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d zones, %d questions; NSD and Knot agree in everything on %d; Balefire differs on %d",
		len(all), asked.Load(), agreed.Load(), differed.Load())
	if asked.Load() > 0 && agreed.Load()*100 < asked.Load()*60 {
		t.Errorf("NSD and Knot agree on too few questions for this to mean anything")
	}
}

// askAll asks NSD, Knot and Balefire, and compares.
func askAll(clients *[4]client, q question) (c comparison, err error) {
	c.q = q
	for i, to := range []**reply{&c.nsd, &c.knot, &c.balefire} {
		message, err := clients[i].ask(q)
		if err != nil {
			return c, fmt.Errorf("%s: %w", q, err)
		}
		if *to, err = readReply(message); err != nil {
			if to == &c.balefire {
				return c, fmt.Errorf("%s: %s: %w", q, clients[i].server, err)
			}
			// The library takes no names through more than 126 pointers, which Knot makes of many short labels.
			c.unread = true
		}
	}
	if c.unread {
		return c, nil
	}
	c.differing, c.agreed = compare(c.nsd, c.knot, c.balefire)
	return c, nil
}

// askDisk requires that Balefire's answer from disk is the same message as from memory.
func askDisk(clients *[4]client, q question) error {
	hot, err := clients[2].ask(q)
	if err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	cold, err := clients[3].ask(q)
	if err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	if !bytes.Equal(hot[2:], cold[2:]) { // but for the ID
		return fmt.Errorf("%s: from memory and from disk:\n%x\n%x", q, hot, cold)
	}
	return nil
}
