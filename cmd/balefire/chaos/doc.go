// Package chaos runs whole clusters, as processes on loopback with a real Kafka, and does to them what operators fear,
// while clients write and ask all the time. A checker remembers what was acknowledged, and what each node has
// answered: nothing acknowledged may be missing, nothing may be answered that no prefix of the log explains, and no
// node may answer with something older than it has answered before.
//
// Its tests need the build tag kafka. -chaos-time is how long each kind of fault goes on: seconds in everyday
// testing, minutes in `make chaos`.
package chaos
