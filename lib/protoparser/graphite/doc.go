// Package graphite reads the plaintext protocol of Graphite and turns its lines into row batches.
//
//	name[;tag=value...] value [timestamp]
//
// Timestamps are seconds, also with a fraction. A line without one, or with 0 or less as relays send it for "now", has the time at which it came.
// A tag with an empty value is left out.
//
// Invariants:
//
//  1. A line which cannot be parsed is counted, and all other lines are stored.
//  2. Memory is bounded by the longest line allowed.
package graphite
