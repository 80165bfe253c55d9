// Package replication keeps a node's copies of the partitions in step with the log, and is all that leaves the node
// towards its peers.
//
// A Node takes each partition through the same phases: open the local copy; make sure that the log is the one that the
// copy was made from; read on from the copy's own offset; apply; tell those who wait. What goes wrong with one
// partition stops that partition only, and stops applying, not answering: the store goes on with what it holds.
//
// What it doesn't know: DNS, HTTP, and what a record means.
//
// Invariants:
//
//   - A record is applied only after the copy's last record was found in the log with the same content, or the log
//     begins right after it.
//   - The log out of reach makes nothing unready and stops no answer.
//   - The embedded log is trimmed only below a position that two snapshots have, each read back and restored.
package replication
