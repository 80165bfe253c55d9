package mutationlog

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A catalog that can't be made is a complaint; the log is the namespace's without it, and gets it when it can be made.
func TestCatalogThatCantBeMade(t *testing.T) {
	c := newCluster(t)
	opts := c.options(t, "node")
	opts.watch = time.Hour // it is looked for sooner
	c.broker.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.broker.KeepControl()
		name := req.(*kmsg.CreateTopicsRequest).Topics[0].Topic
		if !strings.HasSuffix(name, ".catalog") || c.granted.Load() {
			return nil, nil, false
		}
		answer := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		refused := kmsg.NewCreateTopicsResponseTopic()
		refused.Topic, refused.ErrorCode = name, kerr.TopicAuthorizationFailed.Code
		answer.Topics = append(answer.Topics, refused)
		return answer, nil, true
	})
	l := open(t, opts)
	about := func() bool {
		return slices.ContainsFunc(l.Status().Complaints, func(c Complaint) bool { return c.Topic == l.catalogs && c.Setting == "existence" })
	}
	await(t, l, "a complaint", about)
	publish(t, l, 0, "x")
	if _, err := l.PublishCatalog(deadline(t), []byte("k"), nil); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNoCatalog) {
		t.Fatalf("publish: %v", err)
	}
	if _, err := l.ConsumeCatalog(0); !errors.Is(err, ErrNoCatalog) {
		t.Fatalf("consume: %v", err)
	}
	if _, err := l.CatalogBounds(deadline(t)); !errors.Is(err, ErrNoCatalog) {
		t.Fatalf("bounds: %v", err)
	}
	c.granted.Store(true)
	await(t, l, "the catalog", func() bool { return l.CatalogID() != ([16]byte{}) && !about() })
	if _, err := l.PublishCatalog(deadline(t), []byte("k"), []byte("v")); err != nil {
		t.Fatal(err)
	}
}

func TestEmbeddedLogHasNoCatalog(t *testing.T) {
	l := open(t, options(t, t.TempDir()))
	if l.CatalogID() != ([16]byte{}) {
		t.Fatal("it has")
	}
	if err := l.PublishCatalogAll(deadline(t), []CatalogRecord{{Key: []byte("k")}}); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNoCatalog) {
		t.Fatalf("publish: %v", err)
	}
	if _, err := l.ConsumeCatalog(0); !errors.Is(err, ErrNoCatalog) {
		t.Fatalf("consume: %v", err)
	}
	// Groups and progress are the same as with other brokers.
	if err := l.RegisterGroup(deadline(t), "r", "g"); err != nil || groupNames(l) != "r/g" {
		t.Fatalf("%v, groups %s", err, groupNames(l))
	}
	commit(t, l, l.GroupName("r", "g"), Progress{Partition: 1, Next: 3, Catalog: -1})
	if got, err := l.FetchProgress(deadline(t), l.Groups()); err != nil || len(got[l.Groups()[0]]) != 1 {
		t.Fatalf("%v, %v", got, err)
	}
	if err := l.RetireGroup(deadline(t), "r", "g"); err != nil {
		t.Fatal(err)
	}
}
