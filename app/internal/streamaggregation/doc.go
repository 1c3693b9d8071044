// Package streamaggregation puts stream aggregation before the storage as the -streamAggr.* flags ask for it, and reads its rules again on SIGHUP, at
// /-/reload and, when asked to, in intervals.
//
// It knows flags and files; what rules do is the business of lib/streamaggr.
//
// Invariants:
//
//  1. Rules which cannot be used keep a process from starting, and change nothing in one which runs.
//  2. Without rules and without deduplication batches go to the storage as if this package were not there.
package streamaggregation
