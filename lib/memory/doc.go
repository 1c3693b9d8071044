// Package memory holds the one process-wide memory budget that caches, the
// head, merges and queries reserve from, and the pacer, which keeps the garbage of Go small.
//
// The budget is accounting, not allocation: whoever reserves promises to keep
// no more than that alive, and releases when done. Reserve never blocks; the
// caller decides whether to evict, flush early, wait or refuse.
//
// Invariants:
//
//  1. What is reserved is never negative; Reserve never takes it over the limit.
//  2. Only the pacer changes settings of the Go runtime, and the owner of the process starts it; Stop restores them.
//  3. The heap never gets more room than Go gives by itself, but for leastHeadroom.
package memory
