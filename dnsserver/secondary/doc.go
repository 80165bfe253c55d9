// Package secondary keeps secondary zones as their primaries have them: it asks for their serials when it is time or when it is told of a
// change, fetches what is new (AXFR, RFC 5936; IXFR, RFC 1995; over TLS, RFC 9103), verifies it, and publishes it as change sets.
//
// It does not know how change sets travel, who tells it of changes, or which node of a region does the work: those are asked through
// interfaces. Its state is in memory; what must outlive it (that a zone was confirmed, that it has expired) is in the log.
//
// What holds:
//   - Nothing is published of a transfer before its end was seen and all of it was verified: what is cut, lies, or breaks the rules of a zone
//     changes nothing, and Status says why.
//   - What is published has the serial that it was made for as its precondition: two that do the same do it once.
//   - Memory is bounded, whatever a primary sends; so are connections, to all primaries and to each.
//   - A primary that is away holds up its own zones only.
package secondary
