// Package transfer makes the messages of zone transfers (RFC 5936, RFC 1995): a zone's RRsets, or what has become of them since a
// serial, as a sequence of DNS messages. It does not know where zones come from, who may have them, over what the messages go, and
// what is added to them besides: it leaves room for that.
//
// What holds:
//   - A Writer has one message in memory, however large the zone is.
//   - No message is longer than the transport carries; a record is in one of them whole.
//   - Compression pointers only go backwards, and stay in their message.
//   - A Difference, applied to the zone as it was, makes the zone that it is: record by record, TTLs included.
package transfer
