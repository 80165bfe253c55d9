package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"balefire/replication"
	"balefire/store"
	"balefire/zones"
)

// groupsOf is two groups, one of which is behind for as long as a test wants.
type groupsOf struct {
	retired []string
	err     error
}

var behind = replication.Reach{Region: "far", Group: "b", Lag: 3, Behind: 1500 * time.Millisecond}

func (g *groupsOf) Reached(context.Context, store.Position) ([]replication.Reach, error) {
	return []replication.Reach{{Region: "near", Group: "a", Applied: true, Since: time.Unix(1000, 0).UTC()}, behind}, g.err
}

func (g *groupsOf) Groups(context.Context) ([]replication.GroupInfo, error) {
	return []replication.GroupInfo{{Region: "near", Group: "a", Members: 2, Registered: time.Unix(1000, 0)}, {Region: "far", Group: "b", Members: -1}}, g.err
}

func (g *groupsOf) RetireGroup(_ context.Context, region, group string) error {
	g.retired = append(g.retired, region+"/"+group)
	return g.err
}

func TestClusterAsItIsKnown(t *testing.T) {
	status := replication.ClusterStatus{
		Namespace: "ns", Partitions: 2, Node: "n1", Region: "near", Group: "a",
		Log: replication.LogStatus{Established: true, Trying: "no route", Complaints: []string{"retention.ms"}, Frozen: "elsewhere"},
		Groups: []replication.GroupStatus{{Region: "near", Group: "a", Partitions: []replication.GroupPartition{
			{Partition: 1, Applied: 41, Lag: 2, Behind: 2500 * time.Millisecond, Committed: time.Unix(2000, 0), Node: "n1"},
		}}, {Region: "far", Group: "b", Err: "no answer"}},
		Nodes: []replication.NodeStatus{{
			ID: "n1", Region: "near", Group: "a", Alive: true, Reasons: []string{"partition 1 is not open"},
			Partitions: []replication.NodePartition{{Partition: 1, State: "catching-up", Position: 41, Assigned: true}},
		}},
		Troubles: []string{"two nodes are n1"},
		Alarms: []replication.Alarm{
			{Partition: -1, Err: errors.New("clocks differ"), Time: time.Unix(3000, 0)},
			{Partition: 0, Zone: zones.MustParseName("example.com."), Err: errors.New("digest"), Time: time.Unix(3000, 0)},
		},
	}
	r := newRig(t, func(o *Options) {
		o.Status = func(context.Context) (replication.ClusterStatus, error) { return status, nil }
	})
	got := string(r.must(http.StatusOK, "GET", "/v1/cluster", "").body)
	for _, want := range []string{
		`"namespace":"ns"`, `"trying":"no route"`, `"behind_seconds":2.5`, `"error":"no answer"`, `"state":"catching-up"`,
		`"reasons":["partition 1 is not open"]`, `"frozen":"elsewhere"`, `"troubles":["two nodes are n1"]`, `{"error":"clocks differ"`, `{"partition":0,"zone":"example.com.","error":"digest"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
	r.must(http.StatusBadRequest, "GET", "/v1/cluster?all", "")
}

func TestWithoutGroupsNothingIsPromised(t *testing.T) {
	r := newRig(t, nil)
	r.makeZone("example.com.")
	r.must(http.StatusNotImplemented, "GET", "/v1/cluster", "")
	r.must(http.StatusNotImplemented, "GET", "/v1/groups", "")
	r.must(http.StatusNotImplemented, "GET", "/v1/changes/0@0?groups=true", "")
	before, published := r.state(), r.faults.published()
	for _, wait := range []string{"region", "everywhere"} {
		r.must(http.StatusBadRequest, "PUT", "/v1/zones/example.com./rrsets/www/A?wait="+wait, `{"ttl": 60, "records": ["192.0.2.1"]}`)
	}
	if r.state() != before || r.faults.published() != published {
		t.Error("it was refused, and done")
	}
	r.must(http.StatusOK, "PUT", "/v1/zones/example.com./rrsets/www/A?wait=node&timeout=60s", `{"ttl": 60, "records": ["192.0.2.1"]}`)
}

func TestWaitingForOthers(t *testing.T) {
	groups := &groupsOf{}
	r := newRig(t, func(o *Options) { o.Groups = groups })
	r.makeZone("example.com.")
	put := func(query string) reply {
		return r.call("PUT", "/v1/zones/example.com./rrsets/www/A?"+query, `{"ttl": 60, "records": ["192.0.2.1"]}`)
	}
	var scope replication.Scope
	wait := func(here bool) {
		r.faults.setScoped(func(ctx context.Context, at store.Position, s replication.Scope) (store.Outcome, error) {
			scope = s
			var outcome store.Outcome
			if here {
				var err error
				if outcome, err = r.node.Wait(context.WithoutCancel(ctx), at, replication.ThisNode); err != nil {
					return outcome, err
				}
			}
			<-ctx.Done()
			return outcome, fmt.Errorf("wait: %w", &replication.MissingError{Position: at, Missing: []replication.Reach{behind}})
		})
	}
	wait(true)
	for name, want := range map[string]replication.Scope{"region": replication.Region, "everywhere": replication.Everywhere} {
		a := put("wait=" + name + "&timeout=500ms")
		got := a.json(t)
		if a.status != http.StatusAccepted || got["status"] != "applied" || scope != want || a.header.Get("Location") != fmt.Sprint("/v1/changes/", got["id"]) {
			t.Errorf("%s: %d %s, scope %d", name, a.status, a.body, scope)
		}
		if !strings.Contains(string(a.body), `"missing":[{"region":"far","group":"b","applied":false,"lag":3,"behind_seconds":1.5}]`) {
			t.Errorf("%s", a.body)
		}
	}
	wait(false)
	if a := put("wait=everywhere&timeout=10ms"); a.status != http.StatusAccepted || a.json(t)["status"] != "pending" || a.json(t)["missing"] == nil {
		t.Errorf("applied nowhere: %d %s", a.status, a.body)
	}
	r.faults.setScoped(nil)
	for _, query := range []string{"wait=all", "timeout=5s", "wait=5s&timeout=5s", "wait=region&timeout=-1s", "wait=region&timeout=soon"} {
		if a := put(query); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}

	id := fmt.Sprint(put("wait=60s").json(t)["id"])
	got := string(r.must(http.StatusOK, "GET", "/v1/changes/"+id+"?groups=true", "").body)
	if !strings.Contains(got, `{"region":"near","group":"a","applied":true,"since":"1970-01-01T00:16:40Z"}`) {
		t.Errorf("%s", got)
	}
	if a := r.must(http.StatusOK, "GET", "/v1/changes/"+id, ""); a.json(t)["groups"] != nil {
		t.Errorf("not asked for: %s", a.body)
	}
	got = string(r.must(http.StatusOK, "GET", "/v1/groups", "").body)
	if !strings.Contains(got, `"members":2`) || !strings.Contains(got, `{"region":"far","group":"b"}`) {
		t.Errorf("%s", got)
	}
	r.must(http.StatusNoContent, "DELETE", "/v1/groups/far/b", "")
	if len(groups.retired) != 1 || groups.retired[0] != "far/b" {
		t.Errorf("retired %q", groups.retired)
	}
	groups.err = fmt.Errorf("near/a: %w", replication.ErrGroupInUse)
	r.must(http.StatusConflict, "DELETE", "/v1/groups/near/a", "")
	groups.err = errors.New("no broker answers")
	for _, path := range []string{"/v1/groups", "/v1/changes/" + id + "?groups=true"} {
		if a := r.must(http.StatusServiceUnavailable, "GET", path, ""); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
}

func TestAPositionBeyondTheLogIsNotPending(t *testing.T) {
	end, known := int64(100), true
	r := newRig(t, func(o *Options) {
		o.LogEnd = func(context.Context, int32) (int64, error) {
			if !known {
				return 0, errors.New("the log is away")
			}
			return end, nil
		}
	})
	r.must(http.StatusNotFound, "GET", "/v1/changes/0@100", "")
	if a := r.must(http.StatusOK, "GET", "/v1/changes/0@99", ""); a.json(t)["status"] != "pending" {
		t.Errorf("in the log: %s", a.body)
	}
	known = false
	if a := r.must(http.StatusOK, "GET", "/v1/changes/0@100", ""); a.json(t)["status"] != "pending" {
		t.Errorf("with the log away: %s", a.body)
	}
}

func TestDrainedIsNotReadyAndServes(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Node = "n1" })
	r.must(http.StatusOK, "GET", "/readyz", "")
	if got := r.must(http.StatusOK, "POST", "/v1/node/drain", "").json(t); got["draining"] != true || got["ready"] != false || got["node"] != "n1" {
		t.Errorf("%v", got)
	}
	r.must(http.StatusOK, "POST", "/v1/node/drain", "")
	if a := r.must(http.StatusServiceUnavailable, "GET", "/readyz", ""); !strings.Contains(string(a.body), "drained") {
		t.Errorf("%s", a.body)
	}
	r.makeZone("example.com.")
	if got := r.must(http.StatusOK, "DELETE", "/v1/node/drain", "").json(t); got["draining"] != false || got["ready"] != true {
		t.Errorf("%v", got)
	}
	r.must(http.StatusOK, "GET", "/readyz", "")
	r.must(http.StatusUnauthorized, "POST", "/v1/node/drain", "", "Authorization: none")
}
