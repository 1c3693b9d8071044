// Package memory holds the one process-wide memory budget that caches, the
// head, merges and queries reserve from.
//
// The budget is accounting, not allocation: whoever reserves promises to keep
// no more than that alive, and releases when done. Reserve never blocks; the
// caller decides whether to evict, flush early, wait or refuse.
package memory
