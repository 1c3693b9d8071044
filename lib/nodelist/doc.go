// Package nodelist knows the storage nodes of a cluster: those given one by one with -storageNode, and those which files, URLs and DNS
// name, which come and go while the process runs.
//
// It knows addresses only, and neither connects to nodes nor knows what they are for.
//
// A List is used by the goroutine that starts it; what it hands out belongs to whoever gets it.
//
// Invariants:
//
//  1. A list never becomes empty: what a source has told last holds until it tells something else. A source which cannot be
//     read, or which names no node, changes nothing.
//  2. An address occurs once. What is given one by one comes first, then the sources in their order, each sorted.
//  3. A node is told by its address as given: a node which keeps it is the same node.
package nodelist
