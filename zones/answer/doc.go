// Package answer is the algorithm of an authoritative server (RFC 1034 §4.3.2, with RFC 2308, 4035, 4592,
// 5155, 6604, 6672, 8482, 9077 and 9471) over a read-only view of one zone. Resolve says which RRsets go
// into which section, in which order, and which of them a short message may leave out; it knows nothing
// of messages, their sizes, EDNS, classes, or the zones next door.
//
// Everything in an answer comes from the one view, so from one position. What the view can't tell ends in
// an error, never in a denial. The work for a question is bounded by the constants of this package, and
// in the common cases nothing is allocated once an Answer has been used a few times.
package answer
