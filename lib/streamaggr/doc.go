// Package streamaggr aggregates samples as they come, by time and by labels, and hands the aggregates on as samples of other series. It is an Ingester before
// another one.
//
// Rules say what is aggregated (config.go, docs/stream-aggregation.md). Each rule keeps groups, one for each series it makes, and, where an output needs it, the
// series of each group. Groups are spread over shards by the hash of their keys; a shard has one lock, which a batch takes once. Where a series goes is
// found out once, and remembered by its number in the space of its batch (table.go), so that a sample costs a look at a table and at what it is added to.
// Counters leave their growth with their series, and groups add it up when they are flushed.
//
// A rule has one goroutine, which flushes it when its interval ends, with several workers; the package starts no others. It knows no flags, no files and no
// HTTP. Batches belong to the caller; nothing of them is kept.
//
// Invariants:
//
//  1. Aggregates live in memory. A sample which a rule has taken and which is not stored besides is acknowledged with the batch, and gone with the process.
//  2. What is stored as it came is stored before rules take anything of the batch: when that fails, the sender's repetition counts nothing twice.
//  3. Series of different tenants never meet.
//  4. Memory is taken from the budget before it is used. A series for which there is none is treated as if the rule did not match it, and counted.
//  5. Rules which say the same after a change of the configuration keep what they know.
//  6. With windows a sample is in the window that its time says, or counted as too old; without, in the one that is open when it comes.
//  7. Of two samples of a series with deduplication, the one which storage would keep is kept.
//
// Locks, in the order they are taken: that of batches under way, that of a table, that of a shard. None is held while the next Ingester stores aggregates; the first is
// while it stores what came.
package streamaggr
