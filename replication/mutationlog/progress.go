package mutationlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A replica group's committed offsets say how far its nodes have applied the log: for people, for ordinary tools, and for nodes
// that wait until a change is everywhere. Nobody begins to read at one. With each goes metadata (docs/formats/progress.md).
const (
	progressVersion = 1
	// maxProgress bounds the metadata, in octets; brokers take 4,096 unless told otherwise.
	maxProgress = 1024
	// maxProgressNode bounds the node's name in it: even if all of it is escaped, the rest has room.
	maxProgressNode = 128
)

// Progress is what a replica group has committed for a partition. All but the first three is zero when it is not known, and
// Catalog is -1.
type Progress struct {
	Partition int32
	Next      int64     // the offset after the last applied one
	Epoch     int32     // the leader epoch of the last applied record, or -1
	Time      time.Time // when this was committed, by the node's clock
	Node      string    // who committed it
	Caught    time.Time // when the partition was last applied to the log's end
	Catalog   int64     // the offset of the catalog topic that the node will read next
}

// progressMetadata is what goes with a committed offset.
type progressMetadata struct {
	V       int    `json:"v"`
	Time    int64  `json:"time"` // milliseconds since 1970
	Node    string `json:"node"`
	Caught  int64  `json:"caught,omitempty"`
	Catalog *int64 `json:"catalog,omitempty"`
}

// Metadata returns what is to be committed with the offset: at most 1,024 octets of JSON. A node's name that is longer than 128
// octets is cut.
func (p Progress) Metadata() string {
	m := progressMetadata{V: progressVersion, Time: milliseconds(p.Time), Node: p.Node, Caught: milliseconds(p.Caught)}
	if p.Catalog >= 0 {
		m.Catalog = &p.Catalog
	}
	if len(m.Node) > maxProgressNode {
		cut := maxProgressNode
		for cut > 0 && !utf8.RuneStart(m.Node[cut]) {
			cut--
		}
		m.Node = m.Node[:cut]
	}
	text, err := json.Marshal(m)
	if err != nil { // a struct of numbers and a string always has a text
		return ""
	}
	return string(text)
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// ParseProgress returns what a group has committed. Of metadata that is not ours, or of a version that is not known here, nothing
// is taken: then only the offset is known.
func ParseProgress(partition int32, next int64, epoch int32, metadata string) Progress {
	p := Progress{Partition: partition, Next: next, Epoch: epoch, Catalog: -1}
	var m progressMetadata
	if len(metadata) > maxProgress || json.Unmarshal([]byte(metadata), &m) != nil || m.V != progressVersion {
		return p
	}
	p.Node = m.Node
	if m.Time > 0 {
		p.Time = time.UnixMilli(m.Time).UTC()
	}
	if m.Caught > 0 {
		p.Caught = time.UnixMilli(m.Caught).UTC()
	}
	if m.Catalog != nil && *m.Catalog >= 0 {
		p.Catalog = *m.Catalog
	}
	return p
}

// ProgressError says which groups the brokers did not tell of, and why.
type ProgressError struct {
	Groups map[Group]error
}

func (e *ProgressError) Error() string {
	var text []string
	for group, err := range e.Groups {
		text = append(text, fmt.Sprintf("group %s of region %s: %v", group.Group, group.Region, err))
	}
	slices.Sort(text)
	return "progress of replica groups: " + strings.Join(text, "; ")
}

// Unwrap returns what went wrong with each group.
func (e *ProgressError) Unwrap() []error { return slices.Collect(maps.Values(e.Groups)) }

// FetchProgress asks the brokers what groups have committed, all at once, and returns it by partition. A group that has committed
// nothing has an empty entry. A *ProgressError names the groups that have none because the brokers did not tell; the others
// are returned with it.
func (l *Log) FetchProgress(ctx context.Context, groups []Group) (map[Group][]Progress, error) {
	if err := l.usable(); err != nil {
		return nil, fmt.Errorf("progress of replica groups: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = l.GroupName(g.Region, g.Group)
	}
	fetched := l.admin.FetchManyOffsets(ctx, names...)
	all := make(map[Group][]Progress, len(groups))
	failed := make(map[Group]error)
	for i, g := range groups {
		answer, ok := fetched[names[i]]
		err := answer.Err
		if !ok {
			err = errors.New("no broker answered")
		}
		if errors.Is(err, kerr.GroupIDNotFound) {
			err = nil // which most brokers say by an empty answer
		}
		committed := make([]Progress, 0, len(answer.Fetched[l.mutations]))
		for _, o := range answer.Fetched[l.mutations] {
			if o.Err != nil {
				err = errors.Join(err, fmt.Errorf("partition %d: %w", o.Partition, o.Err))
			} else if o.At >= 0 {
				committed = append(committed, ParseProgress(o.Partition, o.At, o.LeaderEpoch, o.Metadata))
			}
		}
		if err != nil {
			failed[g] = explain(err)
			continue
		}
		slices.SortFunc(committed, func(a, b Progress) int { return int(a.Partition - b.Partition) })
		all[g] = committed
	}
	if len(failed) > 0 {
		return all, &ProgressError{Groups: failed}
	}
	return all, nil
}
