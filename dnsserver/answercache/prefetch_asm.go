//go:build amd64 || arm64

package answercache

import "unsafe"

// prefetch has the line at p fetched into the processor's cache. It does not wait, and p may be anything.
//
//go:noescape
func prefetch(p unsafe.Pointer)
