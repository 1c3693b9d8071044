// Package consistenthash maps the hash of a key to an order of preference
// among nodes.
//
// It uses highest random weight hashing (Thaler and Ravishankar, "A Name-Based
// Mapping Scheme for Rendezvous", 1996): each pair of key and node has a
// pseudo-random score and a key prefers nodes by falling score. There is no table to build or to
// balance, and every key has its own order of all nodes, so the keys of a lost node
// spread evenly over the rest.
//
// The package is pure: it knows no health, no I/O and no series.
//
// Invariants:
//
//  1. The score depends on the key's hash and the node's name only, so the order
//     in which nodes are listed has no influence, and neither has a restart. (Two nodes
//     whose scores agree in 52 bits are ordered by their place in the list.)
//  2. Adding or removing a node leaves the relative order of all others unchanged.
//  3. The scores never change once released: data on disk was placed by them.
package consistenthash
