// Package relay asks another node of the region something, and answers the others. Questions and answers are
// octets: the package knows nothing of DNS, nor of what the calls mean that it passes on, nor where it comes
// from who the peers are. All goes over TLS 1.3 (RFC 8446), and both sides have shown a certificate.
//
// What holds at all times: nothing of a frame or a call is looked at before the other side is known to be a
// node; a client sends nothing to any node but the one that it means to ask; a question is passed on once,
// never further; whatever a peer does or fails to do, Ask ends with its context; and every connection, buffer
// and queue has a limit.
//
// docs/formats/relay.md draws the frames.
package relay
