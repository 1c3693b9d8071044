// Package clustertest runs a whole cluster in one process for tests: storages
// on file systems in memory, the RPC protocols over connections in memory, a
// router and a gather. Nodes can be stopped, crashed and started again.
//
// It wires the same packages as the binaries do and adds no code of its own
// to the paths under test.
package clustertest
