// Package interop has tests of Balefire among other servers: NSD, Knot DNS and BIND, as they are installed, fetch zones from a server in this
// process, follow its changes, and are asked what they have come to. It has nothing but tests, and knows no server's insides.
package interop
