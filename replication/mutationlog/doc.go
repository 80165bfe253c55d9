// Package mutationlog is the log that all nodes of a namespace share: one client for Kafka, for Redpanda, and for
// the broker that is embedded when no others are named.
//
// It deals in bytes: a record is a key, a value and the offset that the log gave it. What the bytes mean, and what
// becomes of them, is not known here, but for the small records of the control topic and what replica groups commit.
//
// Invariants:
//
//   - An offset means something in one topic only. The topic's id and partition count are recorded once in the
//     control topic; a topic that contradicts the record is neither read nor written (MismatchError).
//   - A consumer gets every record from the offset that it asked for, in order, or an error. Nothing is skipped and
//     nothing is reset.
//   - A nil error from Publish means that the record is in the log. ErrRefused means that it is not. All else is
//     ErrUnknown.
//   - The catalog topic alone may be lost or replaced: its streams end with ErrReplaced, and nothing else stops.
//   - Opening the log waits for no broker. What the control topic said last is kept in a file.
package mutationlog
