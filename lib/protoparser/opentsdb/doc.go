// Package opentsdb reads the put lines of OpenTSDB's telnet protocol and turns them into row batches.
//
//	put <metric> <timestamp> <value> [<tag>=<value> ...]
//
// Timestamps are seconds or milliseconds, told by their size. A tag with an empty value is left out.
//
// Invariants:
//
//  1. A line which cannot be parsed, or is another command, is counted, and all other lines are stored.
//  2. Memory is bounded by the longest line allowed.
package opentsdb
