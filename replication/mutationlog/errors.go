package mutationlog

import (
	"errors"
	"fmt"
)

var (
	// ErrRefused marks a record that was never sent, and so is certainly not in the log.
	ErrRefused = errors.New("not sent to the log")
	// ErrUnknown marks a record that may be in the log, now or later, perhaps even twice.
	ErrUnknown = errors.New("not known to be in the log or not")
	// ErrTooLarge marks a record that the log does not take, and so is certainly not in it.
	ErrTooLarge = errors.New("larger than the log takes")
	// ErrClosed is returned by what was used after it was closed.
	ErrClosed = errors.New("closed")
	// ErrNotEstablished means that the log has not been reached since the start, or not wholly.
	ErrNotEstablished = errors.New("the log has not been reached yet")
	// ErrNoCatalog means that there is no catalog topic: the log is embedded, or it could not be made yet.
	ErrNoCatalog = errors.New("there is no catalog topic")
	// ErrReplaced ends a stream of the catalog: another topic is there now, and is to be read from its beginning.
	ErrReplaced = errors.New("the topic was replaced by another")
	// ErrCorrupt marks an embedded log whose files contradict themselves.
	ErrCorrupt = errors.New("the embedded log is damaged")
)

// MismatchError says that the log is not the one that the namespace has recorded: another topic under the same name,
// or another number of partitions. Offsets mean nothing across such a change, so nothing is applied or published any more.
type MismatchError struct {
	Topic           string
	What            string // "topic id" or "partitions"
	Recorded, Found string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("topic %s has another %s than the namespace has recorded: %s, not %s. If these are the brokers of another cluster, mend the "+
		"setting brokers. If the topic was made again, or given partitions, its positions mean something else now: export the zones from a node that has them, "+
		"and import them into a namespace of another name", e.Topic, e.What, e.Found, e.Recorded)
}

// OutOfRangeError says that the log does not hold the offset that was asked for: it no longer reaches back, or does
// not reach so far.
type OutOfRangeError struct {
	Partition  int32
	Offset     int64
	Start, End int64 // the log's first offset and the one after its last; -1 when they could not be learned
}

func (e *OutOfRangeError) Error() string {
	if e.Start < 0 || e.End < e.Start {
		return fmt.Sprintf("partition %d: offset %d is not in the log", e.Partition, e.Offset)
	}
	return fmt.Sprintf("partition %d: offset %d is not in the log, which has %d to %d", e.Partition, e.Offset, e.Start, e.End-1)
}

// DivergedError says that the log was truncated below what had been read from it: what was read is another history.
type DivergedError struct {
	Partition int32
	Offset    int64 // where reading was to go on
	Lost      int64 // the first offset whose record was replaced or is gone
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("partition %d: the log has lost what it had from offset %d on; reading was at %d", e.Partition, e.Lost, e.Offset)
}
