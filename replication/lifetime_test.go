package replication

import (
	"context"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
)

// ours are goroutines that run this module's code, or were started by it.
var ours = regexp.MustCompile(`(?m)^balefire/|^created by balefire/`)

// running returns the stacks of goroutines of this module, without those of tests.
func running() (stacks []string) {
	buf := make([]byte, 16<<20)
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if ours.MatchString(g) && !strings.Contains(g, "testing.tRunner") {
			stacks = append(stacks, g)
		}
	}
	return stacks
}

// Nothing goes on after Close: nodes of a region start, take partitions, hand them over, are asked, and are closed, at once and late.
func TestCloseEndsEverything(t *testing.T) {
	before := len(running())
	g := newRegion(t)
	a := ready(t, g.start(g.options("a", "main")))
	g.write(a, storetest.Create("example.", storetest.Set("www.example.", 60, zones.TypeA, "192.0.2.1")))
	b := ready(t, g.start(g.options("b", "main")))
	g.everywhere("www.example.")
	hasty := g.start(g.options("c", "main"))
	for _, n := range []*Node{hasty, b, a} {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	ctx := deadline(t)
	for len(running()) > before { // what was told to end may take a moment
		if !a.sleep(ctx, 10*time.Millisecond) {
			t.Fatalf("%d goroutines more than before:\n%s", len(running())-before, strings.Join(running(), "\n\n"))
		}
	}
}

// A node may be asked anything while it learns what its namespace is. It is for the race detector.
func TestAskedWhileItBegins(t *testing.T) {
	g := newRegion(t)
	n := g.start(g.options("a", "main"))
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing waits
		for {
			select {
			case <-stop:
				return
			default:
			}
			n.Ready()
			n.Troubles()
			_, _ = n.Reached(ctx, store.Position{})
			_, _ = n.Wait(ctx, store.Position{}, Everywhere)
			_, _ = n.BackUp(ctx, nil)
			_, _ = n.Groups(ctx)
			h := n.Find(zones.Root, zones.TypeA)
			h.Release()
		}
	})
	ready(t, n)
	close(stop)
	asking.Wait()
}
