package change

import "balefire/zones"

// MaxLevel is the highest format level that this version knows. A partition begins at level 1.
const MaxLevel = 1

// Caps of format level 1. Together they keep the data and the history of any one record inside one
// transaction of the store, and the work of any one record small. They are part of the format: a change
// to one of them is a new level.
const (
	MaxRecord        = 256 << 10       // octets of an encoded change set
	MaxOps           = 1000            // operations of a change set
	MaxPreconditions = 100             // preconditions of a change set
	MaxRRsetsTouched = 2000            // RRsets that one record may change, make or stage
	MaxTouched       = 384 << 10       // octets that one record may remove and add: owners and packed RRsets
	MaxRRsetInReply  = 65000           // octets of an RRset in a message; what is left is for header, question and OPT
	MaxNodeRRsets    = 256             // RRsets of one owner name
	MaxNode          = 256 << 10       // octets of the packed RRsets of one owner name
	MaxAuthor        = 255             // octets of ChangeSet.Author
	MaxReason        = 1024            // octets of ChangeSet.Reason
	MaxKeep          = 7 * 86400       // seconds of ChangeSet.Keep
	MaxExpression    = 1024            // octets of IfExpression.Expression
	MaxPrimaries     = 16              // primaries of a zone
	MaxNotify        = 64              // remotes of a zone that are notified
	MaxGrants        = 64              // grants of a zone
	MaxGrantTerms    = 32              // networks of a grant, and its names, and its types
	MaxGroups        = zones.MaxGroups // groups of a zone, and those that a catalog lists
	MaxTLSName       = 253             // octets of Remote.TLSName
	MaxSettings      = 64 << 10        // octets of encoded settings, which are written anew with each change of their zone
)

// MaxChunk is how many octets of RRsets, by EncodedSize, are sure to fit one chunk of a staged zone, or one
// OpReplaceZone, beside author, reason and the rest.
const MaxChunk = MaxRecord - 8<<10
