// Package gossip knows who is in the region, and what each node says that it holds.
//
// Every node has a record of its own: who it is, how it is, and its claims, one for each partition that it has or is
// getting. Records are cut into sections, each with a sequence number, and spread by hashicorp/memberlist: what matters at once as
// rumours in its packets, everything from time to time by whole exchanges between two nodes. A Map is what has been heard, ready to be
// read by those who answer queries.
//
// What it doesn't know: Kafka, partitions' contents, DNS. It does not assign, and it decides nothing.
//
// Invariants:
//
//   - Everything in a Map is a hint. What is wrong, old or forged costs time, and never makes an answer wrong: a holder that is
//     asked decides by itself whether it can answer.
//   - Of a node's record the higher incarnation wins, whole; within an incarnation the higher sequence, section by section. Nothing
//     older ever replaces what is newer.
//   - Only a node itself changes its record. The others pass on its octets as they came.
//   - What is kept is bounded in members, claims and octets, whoever sends it; nothing of one node's can push out another's.
//   - Nothing that memberlist calls blocks, and nothing calls memberlist while it holds the lock.
//   - Losing gossip makes nothing unready and stops no answer from what this node holds.
package gossip
