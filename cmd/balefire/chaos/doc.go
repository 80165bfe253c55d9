// Package chaos runs whole clusters, as processes in network namespaces with a real Kafka, and does to them what
// operators fear, while clients write and ask all the time. A checker remembers what was acknowledged, and what each
// node has answered: nothing acknowledged may be missing, nothing may be answered that no prefix of the log explains,
// no node may answer with something older than it has answered before, no answer may be of two positions, and copies
// at one position are the same. The checker knows nodes by their addresses only, and is itself tested against a
// server that lies.
//
// Tests of clusters need the build tags chaos, kafka and s3, and root. -chaos-time is how long each kind of fault goes
// on: seconds in everyday testing, minutes in `make chaos`.
package chaos
