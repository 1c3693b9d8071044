// Package head holds the recent samples of one partition in memory, by series.
//
// Per series there is an open chunk of raw samples in time order, a short list of
// late samples (at or before the newest one), and sealed chunks: encoded blocks
// of former open chunks and lists. A head is filled, frozen, written to a part
// and dropped as a whole; it never removes single samples.
//
// The package knows neither keys nor the log nor files. Who appends has made sure
// that the samples are in the log.
//
// Locks: each series has its own; the table of series grows under one lock and
// is read without. Counters are added once per batch, by Add of a Delta.
//
// Invariants:
//
//  1. Timestamps in an open chunk are strictly ascending and newer than all
//     sealed chunks which came from open chunks.
//  2. Sealed bytes are never changed, so that blocks handed out stay valid as
//     long as anybody holds them.
//  3. Every sample appended is handed out, but for one which repeats the newest sample
//     of its series bit by bit.
package head
