package staging

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"balefire/store"
	"balefire/store/storetest"
	"balefire/zones"
	"balefire/zones/change"
	"balefire/zones/zonefile"
)

// rig is a partition that what is published is applied to at once.
type rig struct {
	t         *testing.T
	store     *store.Store
	partition *store.Partition
	log       storetest.Log
	fail      func(cs *zones.ChangeSet) error // before it is published
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t}
	r.store, r.partition = storetest.Open(t, storetest.Options(t, t.TempDir()))
	return r
}

func (r *rig) Publish(_ context.Context, cs *zones.ChangeSet) (store.Position, error) {
	if r.fail != nil {
		if err := r.fail(cs); err != nil {
			return store.Position{}, err
		}
	}
	offset := r.log.Add(r.t, cs)
	if _, err := r.partition.Apply(r.log.From(offset)); err != nil {
		return store.Position{}, err
	}
	return store.Position{Offset: offset}, nil
}

func (r *rig) Applied(_ context.Context, at store.Position) (store.Outcome, error) {
	return r.partition.Outcome(at.Offset)
}

const apexText = "big.example."

var apex = zones.MustParseName(apexText)

func sorterOf(t *testing.T, sets []zones.RRset) *Sorter {
	s := NewSorter(apex, t.TempDir(), 64<<10)
	t.Cleanup(s.Close)
	for i, set := range slices.Backward(sets) {
		for rd := range set.RDatas() {
			if err := s.Add(zonefile.Record{Owner: set.Owner, Type: set.Type, TTL: set.TTL, RData: rd, Line: i}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func manySets(n int) []zones.RRset {
	sets := storetest.Apex(apexText, 7)
	for i := range n {
		sets = append(sets, storetest.Set(fmt.Sprintf("h%05d.%s", i, apexText), 60, zones.TypeA, "192.0.2.1", "192.0.2.2"))
	}
	return sets
}

func (r *rig) stage() *Stage {
	return &Stage{ID: NewID(), Publisher: r, New: func() *zones.ChangeSet { return &zones.ChangeSet{Zone: apex, Author: "test"} }}
}

// put brings a zone into the log, as a door does.
func (r *rig) put(stage *Stage, sets []zones.RRset) error {
	sorter := sorterOf(r.t, sets)
	content, err := Validate(context.Background(), change.NewSequence(apex), sorter.Sets(100), nil)
	if err != nil {
		return err
	}
	op, err := stage.Op(context.Background(), content, RRsets(sorter.Sets(100)), zones.ZoneSettings{}, false)
	if err != nil {
		return errors.Join(err, stage.Abort(context.Background()))
	}
	cs := stage.New()
	cs.Ops = []zones.Op{op}
	at, err := r.Publish(context.Background(), cs)
	if err != nil {
		return err
	}
	outcome, err := r.Applied(context.Background(), at)
	if err == nil && outcome.Rejection != nil {
		err = outcome.Rejection
	}
	return err
}

func (r *rig) present() []zones.RRset {
	reading, err := r.store.Read(apex)
	if err != nil {
		r.t.Fatal(err)
	}
	defer reading.Close()
	var all []zones.RRset
	for set, err := range reading.All(context.Background()) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, set)
	}
	return all
}

// TestZonesOfAnySize: a zone in any order becomes that zone, by one record or by many.
func TestZonesOfAnySize(t *testing.T) {
	for _, n := range []int{0, 10, 9000} {
		r := newRig(t)
		sets := manySets(n)
		if err := r.put(r.stage(), sets); err != nil {
			t.Fatal(err)
		}
		if many := len(r.log.Records) > 1; many != (n == 9000) {
			t.Errorf("%d names took %d records", n, len(r.log.Records))
		}
		if !slices.EqualFunc(r.present(), sets, zones.RRset.Equal) {
			t.Errorf("the zone of %d names is another one now", n)
		}
	}
}

// TestCutStageChangesNothing: what was begun, and did not come to its end, leaves the zone as it was, and nothing behind.
func TestCutStageChangesNothing(t *testing.T) {
	r := newRig(t)
	before := manySets(3)
	if err := r.put(r.stage(), before); err != nil {
		t.Fatal(err)
	}
	cut := errors.New("cut")
	for at := range 3 {
		r.fail = func(cs *zones.ChangeSet) error {
			if chunk, ok := cs.Ops[0].(zones.OpStageChunk); ok && int(chunk.Index) == at {
				return cut
			}
			return nil
		}
		if err := r.put(r.stage(), manySets(9000)); !errors.Is(err, cut) {
			t.Fatalf("cut at chunk %d: %v", at, err)
		}
		if !slices.EqualFunc(r.present(), before, zones.RRset.Equal) {
			t.Errorf("cut at chunk %d: the zone changed", at)
		}
	}
}

// TestRejectedChunk: a chunk that the log rejects ends the staging, and says which rule and where.
func TestRejectedChunk(t *testing.T) {
	r := newRig(t)
	stage := r.stage()
	r.fail = func(cs *zones.ChangeSet) error {
		if chunk, ok := cs.Ops[0].(zones.OpStageChunk); ok && chunk.Index == 1 {
			other := r.stage() // somebody stages the same zone, and ends this one
			r.fail = nil
			if err := r.put(other, manySets(9000)); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	var rejected *RejectedError
	err := r.put(stage, manySets(8000))
	if !errors.As(err, &rejected) || rejected.Reason.Rule != zones.RuleStage || rejected.Position == nil {
		t.Errorf("%v", err)
	}
	if got := len(r.present()); got != 9002 {
		t.Errorf("%d RRsets", got)
	}
}

// TestInvalidZonePublishesNothing: what breaks a rule is found before anything is in the log.
func TestInvalidZonePublishesNothing(t *testing.T) {
	r := newRig(t)
	sets := append(manySets(9000), storetest.Set("h00001."+apexText, 60, zones.TypeCNAME, "elsewhere.test."))
	var rej *zones.Rejection
	if err := r.put(r.stage(), sets); !errors.As(err, &rej) || rej.Rule != zones.RuleCNAMEAndOther {
		t.Errorf("%v", err)
	}
	if len(r.log.Records) != 0 {
		t.Errorf("%d records in the log", len(r.log.Records))
	}
}
