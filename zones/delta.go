package zones

// Delta is what a change set changed in a zone, RRset by RRset, in canonical order: what is written, kept
// as history, and patched into memory.
type Delta struct {
	From, To Serial // equal when the zone's content did not change
	Changes  []RRsetChange
}

// RRsetChange is one RRset's passage. Before is zero when it is new, After when it is gone.
type RRsetChange struct {
	Owner         Name
	Key           Key
	Before, After RRset
}
