// Package differential holds no code but a test: Balefire, NSD and Knot serve the same zones, the real root zone and
// generated tricky ones, and are asked the same tens of thousands of questions. Where NSD and Knot agree,
// Balefire has to agree with them, save for the differences that ANSWERS.md lists; each of those has a
// name, a row and a condition in exceptions_test.go.
//
// NSD and Knot are Debian's, started by the test on loopback, unprivileged, in temporary directories.
package differential
