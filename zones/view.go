package zones

// View is one zone at one position, read-only. A nil error means that what was asked for was found, or
// that its absence is proven; any error means that the truth is unknown, and must become SERVFAIL.
// Views may be used by many goroutines at once unless their maker says otherwise.
type View interface {
	// Apex returns the apex node. It has SOA and NS.
	Apex() Node
	// Find fills at with what the zone has at and around n, which is the apex or below it.
	Find(n Name, at *Location) error
	// FindNSEC returns the node whose NSEC matches n or covers it, with Owner ≤ n < next in canonical
	// order (RFC 4034 §4): the zero Node when the zone has no NSEC at or before n. Nodes that have no
	// NSEC (empty non-terminals, occluded names, glue) are passed over.
	FindNSEC(n Name) (Node, error)
	// FindNSEC3 returns the node whose NSEC3 matches the hashed owner name n (a label of base32hex below
	// the apex), or the one before it in hash order, wrapping around from the first to the last: the zero
	// Node when the zone has no NSEC3. Equal owners tell a match from a cover.
	FindNSEC3(n Name) (Node, error)
}

// Location is what View.Find found. Its nodes share the view's memory, and live as long as it does.
type Location struct {
	// Exact says that the name exists: it owns RRsets, or is an empty non-terminal (RFC 4592 §2.2).
	Exact bool
	// Node is the name's node when Exact; otherwise zero.
	Node Node
	// Encloser is the closest encloser (RFC 4592 §3.3.1): the longest existing ancestor of the name,
	// or the name itself when Exact. It may be an empty non-terminal, or glue.
	Encloser Node
	// Cut is the topmost node below the apex, at or above the name, that has NS: a delegation. Zero when
	// there is none, and the zone is authoritative for the name.
	Cut Node
}
