package mutationlog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/twmb/franz-go/pkg/kerr"
)

func TestProgressGolden(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("..", "..", "testdata", "formats", "v1", "progress.json"))
	if err != nil {
		t.Fatal(err)
	}
	when := time.UnixMilli(1790000000123).UTC()
	p := Progress{Partition: 7, Next: 4712, Epoch: 5, Time: when, Node: "ns1.example", Caught: when.Add(-1500 * time.Millisecond), Catalog: 31}
	if p.Metadata()+"\n" != string(golden) {
		t.Errorf("metadata %s, golden %s", p.Metadata(), golden)
	}
	if got := ParseProgress(7, 4712, 5, strings.TrimSpace(string(golden))); got != p {
		t.Errorf("parsed %+v, want %+v", got, p)
	}
}

func TestProgressMetadata(t *testing.T) {
	for name, node := range map[string]string{
		"escaped": strings.Repeat("<", 300), "not UTF-8": strings.Repeat("\xff", 300), "cut": strings.Repeat("é", 100) + "x",
	} {
		text := Progress{Time: time.Now(), Caught: time.Now(), Next: 1 << 62, Catalog: 1 << 62, Node: node}.Metadata()
		if len(text) > maxProgress {
			t.Errorf("%s: %d octets", name, len(text))
		}
		if got := ParseProgress(0, 1, -1, text); got.Catalog != 1<<62 || got.Node == "" || len([]rune(got.Node)) > maxProgressNode {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, text := range []string{
		"", "x", "{}", `{"v":2,"node":"n","catalog":3}`, `{"v":1,"node":7}`, `{"v":1,"node":"` + strings.Repeat("x", maxProgress) + `"}`,
	} {
		if got := ParseProgress(3, 9, 2, text); got != (Progress{Partition: 3, Next: 9, Epoch: 2, Catalog: -1}) {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if got := ParseProgress(3, 9, 2, `{"v":1,"time":-5,"caught":-7,"catalog":-9,"later":true}`); got != (Progress{Partition: 3, Next: 9, Epoch: 2, Catalog: -1}) {
		t.Errorf("negative numbers: %+v", got)
	}
}

func FuzzParseProgress(f *testing.F) {
	f.Add(Progress{Node: "n", Catalog: 3}.Metadata())
	f.Add(`{"v":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		p := ParseProgress(1, 2, 3, text)
		if p.Partition != 1 || p.Next != 2 || p.Epoch != 3 || p.Catalog < -1 {
			t.Fatalf("%+v", p)
		}
		if again := ParseProgress(1, 2, 3, p.Metadata()); len(p.Node) <= maxProgressNode && again != p {
			t.Fatalf("%+v, again %+v", p, again)
		}
	})
}

// One group that the brokers refuse to tell of hides no other.
func TestProgressErrorsStayApart(t *testing.T) {
	c := newCluster(t)
	l := open(t, c.options(t, "node"))
	good, bad := Group{Region: "r", Group: "good"}, Group{Region: "r", Group: "bad"}
	commit(t, l, l.GroupName("r", "good"), Progress{Partition: 1, Next: 5, Catalog: -1})
	c.broker.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		answer := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.(*kmsg.OffsetFetchRequest).Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			if rg.Group = g.Group; g.Group == l.GroupName("r", "bad") {
				rg.ErrorCode = kerr.GroupAuthorizationFailed.Code
			} else {
				p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				p.Partition, p.Offset = 1, 5
				top := kmsg.NewOffsetFetchResponseGroupTopic()
				top.Topic, top.TopicID, top.Partitions = l.mutations, l.TopicID(), append(top.Partitions, p)
				rg.Topics = append(rg.Topics, top)
			}
			answer.Groups = append(answer.Groups, rg)
		}
		return answer, nil, true
	})
	got, err := l.FetchProgress(deadline(t), []Group{good, bad})
	var failed *ProgressError
	if !errors.As(err, &failed) || len(failed.Groups) != 1 || !errors.Is(failed.Groups[bad], kerr.GroupAuthorizationFailed) || !strings.Contains(err.Error(), "group bad of region r") {
		t.Fatalf("error %v", err)
	}
	if len(got) != 1 || len(got[good]) != 1 || got[good][0].Next != 5 {
		t.Fatalf("got %+v", got)
	}
}

func TestProgressWithoutTheLog(t *testing.T) {
	c := newCluster(t)
	l := open(t, c.options(t, "node"))
	c.setAway(true)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	got, err := l.FetchProgress(ctx, []Group{{Region: "r", Group: "g"}})
	var failed *ProgressError
	if !errors.As(err, &failed) || len(failed.Groups) != 1 || len(got) != 0 {
		t.Fatalf("%v, %v", got, err)
	}
	l.Close()
	if _, err := l.FetchProgress(deadline(t), nil); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}
