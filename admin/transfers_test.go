package admin

import (
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"balefire/zones"
)

// knownTransfers is what a node knows of zones among other servers.
type knownTransfers struct {
	mu       sync.Mutex
	kept     map[zones.Name]SecondaryStatus
	notified map[zones.Name][]NotifiedServer
	asked    []string
}

func (k *knownTransfers) Secondary(apex zones.Name) (SecondaryStatus, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	st, ok := k.kept[apex]
	return st, ok
}

func (k *knownTransfers) Refresh(apex zones.Name, whole bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	how := "refresh "
	if whole {
		how = "retransfer "
	}
	k.asked = append(k.asked, how+apex.String())
	_, ok := k.kept[apex]
	return ok
}

func (k *knownTransfers) Notified(apex zones.Name) []NotifiedServer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.notified[apex]
}

// TestZonesAmongOthers: how a zone stands to other servers is told by the node on duty for it, wherever it is asked for, and its
// refresh is done there.
func TestZonesAmongOthers(t *testing.T) {
	apex, own := zones.MustParseName("second.example."), zones.MustParseName("own.example.")
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	from := zones.Remote{Addr: netip.MustParseAddrPort("192.0.2.1:53"), Key: zones.MustParseName("key.")}
	duty := &knownTransfers{
		kept: map[zones.Name]SecondaryStatus{apex: {
			OnDuty: true, Primary: 7, Checked: at, Next: at.Add(time.Hour), Error: "no", Failures: 2, FailedAt: at,
			Last: &TransferMade{At: at, Duration: time.Second, From: from, Form: "AXFR", Serial: 7, Records: 3, Octets: 100, Messages: 1},
		}},
		notified: map[zones.Name][]NotifiedServer{own: {{Remote: from, Serial: 1, Told: at}, {Remote: from, Pending: true, Attempts: 2, Error: "silent"}}},
	}
	others := &knownTransfers{kept: map[zones.Name]SecondaryStatus{apex: {}}}
	g := newRegion(t, func(m *member, o *Options) {
		o.Transfers = others
		if m.id == "n2" {
			o.Transfers = duty
		}
	}, nil, []int32{0, 1, 2}, []int32{0, 1, 2})
	none, holder, onDuty := g.members[0], g.members[1], g.members[2]
	for _, m := range []*member{none, holder} {
		m.mu.Lock()
		for p := range int32(3) {
			m.duty[p] = onDuty.id
		}
		m.mu.Unlock()
	}
	none.must(http.StatusCreated, "POST", "/v1/zones", `{"name": "second.example.", "primaries": [{"address": "192.0.2.1"}]}`)
	none.makeZone("own.example.")
	for _, m := range g.members {
		got := m.must(http.StatusOK, "GET", "/v1/zones/second.example./transfers", "").json(t)
		sec, _ := got["secondary"].(map[string]any)
		if got["node"] != "n2" || sec["standing"] != "awaiting" || sec["on_duty"] != true || sec["failures"] != 2.0 || sec["last_transfer"] == nil {
			t.Errorf("%s: %v", m.id, got)
		}
		got = m.must(http.StatusOK, "GET", "/v1/zones/own.example./transfers", "").json(t)
		if told, _ := got["notified"].([]any); len(told) != 2 || got["secondary"] != nil {
			t.Errorf("%s: %v", m.id, got)
		}
		m.must(http.StatusAccepted, "POST", "/v1/zones/second.example./refresh", "")
		m.must(http.StatusAccepted, "POST", "/v1/zones/second.example./retransfer", "")
		m.must(http.StatusConflict, "POST", "/v1/zones/own.example./refresh", "")
		m.must(http.StatusNotFound, "GET", "/v1/zones/none.example./transfers", "")
		m.must(http.StatusBadRequest, "POST", "/v1/zones/second.example./refresh?what=1", "")
	}
	if want := []string{"refresh second.example.", "retransfer second.example."}; len(duty.asked) != 6 || !slices.Equal(duty.asked[:2], want) || len(others.asked) > 0 {
		t.Errorf("done on duty: %q; by others: %q", duty.asked, others.asked)
	}

	// When it is lost, whoever holds the zone answers what it knows.
	onDuty.setSpoil(func(http.RoundTripper, *http.Request) (*http.Response, error) { return nil, errWire })
	got := holder.must(http.StatusOK, "GET", "/v1/zones/second.example./transfers", "").json(t)
	if sec, _ := got["secondary"].(map[string]any); got["node"] != "n1" || sec["on_duty"] != false {
		t.Errorf("%v", got)
	}
}
