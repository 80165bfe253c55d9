// Package anycasttest runs two sites that announce one address, each in a network namespace with BIRD and the check from
// deploy, and a router that hears both: a site that can't answer is withdrawn, one that has lost the log is not. Its test
// needs the build tag kafka, root, and the packages bird2, nftables and iproute2.
package anycasttest
