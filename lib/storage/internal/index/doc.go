// Package index maps series to dense ids, and label filters to sets of ids, for one partition.
//
// An index is a mutable head in memory plus immutable segments on disk, written by
// Flush and combined by Merge, plus one bitmap per day of the series active in
// it. A search evaluates the filters in each source on its own, joins the
// results and keeps the ids that are active in the days asked for. The byte
// layout is in docs/format/index.md, the reasons in docs/design/0005-index.md.
//
// The package knows neither samples nor the write-ahead log: what was
// registered since the last Flush has to be restored by its user after a crash.
//
// Ownership: the index owns all goroutine-shared state; bitmaps and strings it returns
// belong to the caller. Keys passed in are copied. Mapped segments live until the
// last reader that saw them has finished.
//
// Locks, in the order they are taken: mergeMu and flushMu (one merge, one flush at a time), commitMu (a
// change of the manifest), reg (one registration at a time), mu (the state pointer, held for
// nanoseconds), the lock of a head, the lock of the days.
//
// Invariants:
//
//  1. An id means one key for ever, and a key has at most one id that is not deleted.
//  2. Ids given by Add grow; they lie above every id the index has seen, on disk or restored.
//  3. A series lives in exactly one source of a state: the head, a frozen head or one segment. After the loss of
//     a manifest it may be in several segments, with the same id, until they are merged.
//  4. The manifest on disk lists only segments that are durable and whole. Files it does not list are deleted by Open,
//     but for those of days, which are used before they are listed.
//  5. Day files on disk name only ids that are in listed segments, or were in one that was lost, or are deleted.
//  6. Open sets damaged files aside, never deletes them, and serves the rest. Ids in use elsewhere are kept from being
//     given again by Reserve.
//  7. A deleted id stays deleted, and a series which comes back gets a larger one. What is deleted is durable before it is hidden.
//  8. A page of a segment that cannot be read any more is an error of the call that reads it, and names the segment.
//  9. Nothing of one tenant is reachable through another: dictionaries and postings are kept by tenant.
package index
