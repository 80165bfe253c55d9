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
	for r := range n.replicas() {
		if reason := r.unready(); reason != "" {
			reasons = append(reasons, reason)
		}
	}
	return len(reasons) == 0, reasons
}

func (r *replica) unready() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := ""
	switch {
	case r.partition == nil:
		what = "is not open"
	case !r.caughtUp && r.target < -1:
		what = "has not seen how far the log goes"
	case !r.caughtUp:
		what = fmt.Sprintf("is at offset %d of %d", r.partition.Applied().Offset, r.target)
	default:
		return ""
	}
	if r.trouble != nil {
		return fmt.Sprintf("partition %d %s: %v", r.number, what, r.trouble)
	}
	return fmt.Sprintf("partition %d %s", r.number, what)
}

// mark remembers how far the partitions are that have caught up.
func (n *Node) mark() {
	at := make(map[int32]int64)
	for r := range n.replicas() {
		r.mu.Lock()
		if r.partition != nil && r.caughtUp {
			at[r.number] = r.partition.Applied().Offset
		}
		r.mu.Unlock()
	}
	if err := n.marks.set(n.log.TopicID(), at); err != nil { // costs readiness without the log at the next start, no more
		n.logger.Warn().Err(err).Msg("how far the partitions have come can't be remembered")
	}
}

// marks remember, across starts, which partitions have been near the end of the log, and where they were since. A copy
// that is not as far as its mark is another copy, or has lost something.
type marks struct {
	file string

	mu    sync.Mutex
	state marksFile
}

type marksFile struct {
	V          int             `json:"v"`
	Topic      string          `json:"topic_id"`
	Partitions map[int32]int64 `json:"partitions"`
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

// set remembers where partitions are; those that are not mentioned keep their marks.
func (m *marks) set(topic [16]byte, at map[int32]int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := marksFile{V: 1, Topic: hex.EncodeToString(topic[:]), Partitions: make(map[int32]int64)}
	if m.state.Topic == next.Topic {
		maps.Copy(next.Partitions, m.state.Partitions)
	}
	maps.Copy(next.Partitions, at)
	if m.state.Topic == next.Topic && maps.Equal(next.Partitions, m.state.Partitions) {
		return nil
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := mutationlog.ReplaceFile(m.file, text); err != nil {
		return err
	}
	m.state = next
	return nil
}
