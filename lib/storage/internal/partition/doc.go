// Package partition is one month (UTC) of data: an index, a head with the samples not
// yet in parts, frozen heads on their way to parts, and parts on disk. It flushes heads
// to parts, picks and runs merges, and keeps the list of parts in the MANIFEST.
//
// The package knows neither the log nor queries, and nothing of other months. When to flush,
// merge or drop is decided by its owner, lib/storage.
//
// Locks: Partition.mu guards the lists of frozen heads and parts and is held for moments only.
// publishMu makes MANIFEST writes one at a time, mergeMu merges. The lock of usage, taken before mu, makes counts of what tenants have one at a time.
// Appending to the head and Freeze are kept apart by the owner's flush lock.
//
// Ownership: a View holds its heads and parts until Release; blocks which it handed out alias
// their mappings and are gone then. A dropped part deletes its files when the last view is released.
//
// Invariants:
//
//  1. Parts which the MANIFEST lists are complete and durable; the MANIFEST is replaced
//     atomically. Parts it does not list are deleted at open.
//  2. A part goes to the MANIFEST only after the index has made all its series durable.
//  3. At any moment each sample taken is in the head, in a frozen head or in a part.
//  4. A part that does not open, or is missing, is set aside and reported with its time range; the rest is served. It stays
//     listed, so that a good copy put in its place is served by the next open and not deleted.
//  5. Merges lose nothing but samples outside of retention and duplicates as tsblock defines them. Parts with series that are
//     not in the index any more, or with damaged columns, are not merged.
//  6. The index gives no id that a part has to another series.
package partition
