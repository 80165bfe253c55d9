// Package zones holds DNS as values: names and their canonical order, RRsets, nodes, read-only views of
// a zone, change sets and what they changed. It does no I/O, reads no clock, starts no goroutine and
// writes no log; nothing in it knows of messages, disks or logs. Its sub-packages add the algorithms:
// answer, change, zonefile.
//
// Everything stored is in canonical form: names in lower case, RDATA as in RFC 4034 §6.2, RRsets sorted
// (§6.3), so that equal data are equal bytes on every replica.
package zones
