// Package memfs is a file system in memory for tests. It knows what a disk would
// have kept: Crash returns a new file system with everything that was synced
// and a random share of the rest.
//
// The package must never know who uses it. One mutex guards the whole tree.
//
// Invariants of Crash:
//
//  1. Bytes of a file present at its last Sync, and not truncated since, survive.
//  2. Of bytes appended since, a random prefix survives; behind it may be zeros up to the
//     size the file had, and one page among them may be zeroed or garbage.
//  3. Of changes to a directory since its last SyncDir a random prefix
//     survives, in the order they were made, each directory for itself. A
//     rename is one change, also when it involves two directories.
//  4. A file whose name survives need not have any of its bytes: contents and names are synced apart.
//  5. The same seed and the same history give the same result.
package memfs
