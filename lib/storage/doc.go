// Package storage is the database of one node: open, recover, ingest, search,
// flush, merge, retention. It implements the contracts of lib/storageapi on local disk.
//
// It keeps one write-ahead log and one partition per month (UTC). How the pieces
// meet is told in docs/design/0002-storage-engine.md; the files are described in docs/format.
// The package knows neither protocols nor other nodes.
//
// Locks, in the order they are taken: gate (shared by every call, exclusive once by Close), deleting (one deletion of series at a
// time), flushing (one flush, snapshot, or change of the set of partitions by retention, at a time), flushLock (shared by writers, exclusive for the instant of a
// freeze), register (one registration of new series at a time), tableMu (changes of the set of partitions). The set of
// partitions itself is immutable and replaced as a whole.
//
// Goroutines: watch (disk space, retention, memory), flusher (also of new series apart from samples) and merger, started by Open; and a count of what tenants have,
// one at a time, started by who reads metrics. Close ends them.
//
// Ownership: batches belong to their caller. Series handed out by an iterator alias
// the iterator's memory, until its next step; never mapped files, whose pages may turn out to be unreadable.
//
// Invariants:
//
//  1. Ingest returns nil only after the log is durable up to the batch, and after its samples are in the heads.
//  2. The log record of a new series precedes the records of its samples, unless the series is durable in an index.
//  3. A log segment is deleted only after all samples and series in it are in durable parts and indexes.
//  4. Value bits and milliseconds out = in.
//  5. A series is found by 128 bits of hash, half of them with a secret of the process, that were
//     entered after comparing whole keys; so two series are never mixed.
//  6. An id that occurs in the log or in a part is never given to another series, also when an index was lost.
//  7. Retention removes nothing younger than the limit, and no answer has a sample older than it.
//  8. A snapshot which is listed is durable and whole: it has everything acknowledged before the call that made it, as of one
//     instant, and nothing changes it but its deletion.
//  9. What the log has lost is told with the time it may have had, at each start until the operator accepts it, and answers over that time are partial.
//  10. A series that was deleted before a call began is not in its answer, whatever the log, the heads and the parts still hold. A
//     sample ingested afterwards is in it.
//  10. While more than the memory budget is reserved, samples are taken only into heads of less than headLeast.
//  11. The log forgets samples only after the file of limits has their series, unless that cannot be written.
package storage
