package change

import "balefire/zones"

// Check says what is wrong with cs as far as that can be known without the zone: nil when nothing is. It is
// asked at the door, before publishing, and again by Apply.
func Check(cs *zones.ChangeSet) *zones.Rejection { return nil }
