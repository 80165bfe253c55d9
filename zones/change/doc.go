// Package change turns change sets into bytes and back, says what is wrong with them, and applies them.
// It is pure: what it does depends on its arguments alone, never on a clock, a random number, the node's
// configuration or the order of a map, so that every replica that applies the same records to the same
// state comes to the same state. It knows nothing of offsets, disks or logs.
//
// The rules of a valid zone, the caps and the dialect of conditions are those of a format level. This
// package knows the levels up to MaxLevel; only level 1 exists.
package change
