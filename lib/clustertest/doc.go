// Package clustertest runs a whole cluster in one process for tests: storages
// on file systems in memory, the RPC protocols over connections in memory, a
// router and a gather. Nodes can be stopped, crashed and started again.
//
// It wires the same packages as the binaries do and adds no code of its own
// to the paths under test.
//
// Tests in chaos*_test.go have a cluster of their own, with several routers and gathers over a network with faults, in the time of a
// testing/synctest bubble: see docs/design/0032-chaos.md.
package clustertest
