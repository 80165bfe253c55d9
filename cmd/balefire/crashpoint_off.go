//go:build !crashpoints

package main

// crashPoint is nothing in a server for use; crashpoint_on.go has the one of the tests.
func crashPoint() func(point string) { return nil }
