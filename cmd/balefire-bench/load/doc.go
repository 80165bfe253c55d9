// Package load asks a DNS server questions faster than it can answer them, over UDP, TCP and TLS, or at a fixed rate, and tells
// what came back, how long it took, and what the asking itself cost.
//
// It knows nothing of zones, of what is a right answer, or of which server it talks to: questions come as whole messages, of
// which only the ID is changed. Each load is one thread that makes raw system calls on batches and allocates nothing while it runs, so
// that one core of load is enough for a server on another.
package load
