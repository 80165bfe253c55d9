package replication

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"balefire/replication/mutationlog"
)

// Ready reports whether the node can be sent queries, and why not: every partition is open, and was once near the end
// of the log, in this process or before. The log out of reach, or a partition that has stopped applying, is no
// reason: what is held is still better than nothing.
func (n *Node) Ready() (ready bool, reasons []string) {
	if n.count() == 0 {
		reason := "the namespace is not known yet: its log has never been reached"
		if s := n.log.Status(); s.Fault != nil {
			reason += ": " + s.Fault.Error()
		} else if s.Trying != nil {
			reason += ": " + s.Trying.Error()
		}
		return false, []string{reason}
	}
	if n.group.Load() != nil {
		given, fresh := n.group.Load().Current()
		for _, partition := range given {
			// A topic with more partitions than the namespace has is the log's trouble, and nothing to wait for.
			if partition < n.count() && n.replica(partition) == nil && !n.wasReady.Load() {
				reasons = append(reasons, fmt.Sprintf("partition %d is about to be opened", partition))
			}
		}
		if len(given) == 0 && !fresh && !n.wasReady.Load() {
			reason := "the replica group has not said yet which partitions are this node's"
			if s := n.group.Load().Status(); s.Fault != nil {
				reason += ": " + s.Fault.Error()
			} else if s.Trying != nil {
				reason += ": " + s.Trying.Error()
			}
			reasons = append(reasons, reason)
		}
	}
	was := n.wasReady.Load()
	for r := range n.replicas() {
		// A node that was ready stays it while a partition that it was given since is on its way, or one that others hold is
		// built anew: were it otherwise, one node's death would take its whole group out of service.
		if was && (r.late || len(n.holders(r.number)) > 0) {
			continue
		}
		if reason := r.unready(); reason != "" {
			reasons = append(reasons, reason)
		}
	}
	if len(reasons) == 0 && !was {
		reasons = n.uncovered()
	}
	if len(reasons) == 0 && !n.indexWhole() {
		reasons = append(reasons, "the catalog of the zones in other partitions has not been read to its end yet")
	}
	if len(reasons) == 0 {
		n.wasReady.Store(true)
	}
	return len(reasons) == 0, reasons
}

// othersPatience is how long a node that has its own partitions waits at most for others of its region to have theirs. What is held is better than
// nothing, and who is missing may be missing for long.
const othersPatience = time.Minute

// uncovered says which partitions nobody of the region has yet, for a node that could pass questions on.
func (n *Node) uncovered() (reasons []string) {
	if n.region == nil || n.region.relay == nil {
		return nil
	}
	began := time.Now()
	if !n.ownReady.CompareAndSwap(nil, &began) {
		began = *n.ownReady.Load()
	}
	if time.Since(began) > othersPatience {
		return nil
	}
	for partition := range n.count() {
		if _, living := n.whoHolds(partition); living == 0 && !n.Holds(partition) {
			reasons = append(reasons, fmt.Sprintf("partition %d is another node's, and nobody in the region has it yet", partition))
		}
	}
	return reasons
}

// forgetMark forgets, also for after a crash, that a partition was near the log's end that is being let go, before others are asked
// for later answers.
func (n *Node) forgetMark(partition int32) {
	n.marking.Lock()
	n.marks.forget(partition)
	n.marking.Unlock()
	n.mark()
}

func (r *replica) unready() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := ""
	if !r.assigned {
		return "" // it is another node's, and this one is only still there
	}
	switch {
	case r.partition == nil:
		what = "is not open"
	case !r.caughtUp && r.target < -1:
		what = "has not seen how far the log goes"
	case !r.caughtUp:
		what = fmt.Sprintf("is at offset %d of %d", r.partition.Applied().Offset, r.goal())
	default:
		return ""
	}
	if r.trouble != nil {
		return fmt.Sprintf("partition %d %s: %v", r.number, what, r.trouble)
	}
	return fmt.Sprintf("partition %d %s", r.number, what)
}

// mark remembers how far the partitions are that have caught up, and which positions of others answers were from.
func (n *Node) mark() {
	n.marking.Lock()
	defer n.marking.Unlock()
	at := make(map[int32]int64)
	seen := make(map[int32]int64)
	for partition := range n.count() {
		if offset := n.leastOf(partition); offset >= 0 {
			seen[partition] = offset
		}
	}
	for r := range n.replicas() {
		r.mu.Lock()
		if r.partition != nil && r.caughtUp && !r.letGo {
			at[r.number] = r.partition.Applied().Offset
		}
		r.mu.Unlock()
	}
	if err := n.marks.set(n.log.TopicID(), at, seen); err != nil { // costs readiness without the log at the next start, no more
		n.logger.Warn().Err(err).Msg("how far the partitions have come can't be remembered")
	}
}

// marks remember, across starts, which partitions have been near the end of the log, and where they were since. A copy
// that is not as far as its mark is another copy, or has lost something.
type marks struct {
	file string

	mu    sync.Mutex
	state marksFile
	dirty bool // state is not what the file says
}

type marksFile struct {
	V          int             `json:"v"`
	Topic      string          `json:"topic_id"`
	Partitions map[int32]int64 `json:"partitions"`
	// Seen are offsets that answers of other nodes were from. After a crash they may be some seconds old.
	Seen map[int32]int64 `json:"seen,omitempty"`
}

// loadMarks reads the marks; after an error there are none, but they can be set.
func loadMarks(file string) (*marks, error) {
	m := &marks{file: file}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	var state marksFile
	if err == nil {
		err = json.Unmarshal(data, &state)
	}
	if err == nil && state.V != 1 {
		err = fmt.Errorf("version %d", state.V)
	}
	if err != nil {
		return m, fmt.Errorf("%s can't be used: %w", file, err)
	}
	m.state = state
	return m, nil
}

// reached reports whether a copy at an offset has been near the end of the log.
func (m *marks) reached(topic [16]byte, partition int32, applied int64) bool {
	mark, ok := m.at(topic, partition)
	return ok && applied >= mark
}

// at returns where the partition was at least, when last up; ok is false when nothing is known.
func (m *marks) at(topic [16]byte, partition int32) (offset int64, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	offset, ok = m.state.Partitions[partition]
	return offset, ok && m.state.Topic == hex.EncodeToString(topic[:])
}

// forget forgets where a partition is that went to another node: when it comes back, it is behind until it has caught up. It
// is written with the next set.
func (m *marks) forget(partition int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := maps.Clone(m.state.Partitions)
	delete(next, partition)
	m.state.Partitions, m.dirty = next, true
}

// seen returns the offsets that answers of other nodes were from.
func (m *marks) seen(topic [16]byte) map[int32]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Topic != hex.EncodeToString(topic[:]) {
		return nil
	}
	return m.state.Seen
}

// set remembers where partitions are, and what was seen; partitions that are not mentioned keep their marks.
func (m *marks) set(topic [16]byte, at, seen map[int32]int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := marksFile{V: 1, Topic: hex.EncodeToString(topic[:]), Partitions: make(map[int32]int64), Seen: seen}
	if m.state.Topic == next.Topic {
		maps.Copy(next.Partitions, m.state.Partitions)
	}
	maps.Copy(next.Partitions, at)
	if !m.dirty && m.state.Topic == next.Topic && maps.Equal(next.Partitions, m.state.Partitions) && maps.Equal(next.Seen, m.state.Seen) {
		return nil
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := mutationlog.ReplaceFile(m.file, text); err != nil {
		return err
	}
	m.state, m.dirty = next, false
	return nil
}
