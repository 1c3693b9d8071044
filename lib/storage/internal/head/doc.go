// Package head holds the recent samples of one partition in memory, by series.
//
// A series is a cache line in a table indexed by series id. Its newest samples are a run: values in a stream
// (lib/codec), which costs nothing while they are all equal, and as timestamps a window of those of a group. A group is a
// list of timestamps which the series that are scraped together share. A series that leaves
// the rhythm of its group starts another run: in the same group after a gap, in one that others have
// gone to, or in its own. Samples at or before the newest one of their series go to a short list of late samples,
// which is sealed into an encoded block when it is full.
//
// Native histograms, which few series have, are lists of their own beside that: a buffer of payloads, which is sealed into a block when it is full.
//
// A head is filled, frozen, written to a part and dropped as a whole; it never removes single samples.
// The package knows neither keys nor the log nor files. Who appends has made sure that the samples are in the log.
//
// Memory: tables, streams and groups are mapped from the system, outside of the Go heap, and given back when
// the last reference is released. Nothing that is handed out points there: blocks are copied.
//
// Locks, in this order: a page of 64 series has one; groups share 64; each of the 16 shards of native histograms has one; each arena has one, and the
// tables of pages and groups another. Tables are read without. The latest timestamps of a group are read
// without a lock as well. Counters are added once per run of appends, by Add of a Delta, which also remembers where the
// last sample went: the next one most often goes to the same place of the same group.
//
// Invariants:
//
//  1. Timestamps of a group strictly ascend and never change; so do those of a run.
//  2. Runs of a series do not overlap and come in the order of time.
//  3. Every sample appended is handed out, but for one which repeats the newest sample
//     of its series bit by bit, which may be left out.
//  4. A reader sees of each series all samples whose Append has returned.
//  5. Delta.Bytes add up to the memory which the head has taken; after the last Release it has none.
package head
