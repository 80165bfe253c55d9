// Package update is what an UPDATE message (RFC 2136) asks of a zone: Parse reads the message, and Evaluate makes of it, over the zone as it
// is, either the change set that does it or the RCODE that says why not.
//
// The order in which things are looked at is the RFC's: prerequisites one after the other, then who may do that, then a look over the updates,
// then the updates one after the other, each on what the ones before have made. Evaluate changes nothing; others may have changed the zone
// before its change set is applied. So the change set has preconditions for all that decided something and that applying does not
// look at again by itself: either it does what the message asks of the zone that it meets, or it is rejected, and the message has to be evaluated
// anew.
//
// It knows nothing of who asks and how, nor of keys; nor when a zone is valid beyond what the RFC says of updates: applying
// does.
package update
