// Package part is one immutable set of blocks on disk: write, read, k-way merge.
//
// A part is a directory of four files: timestamps and values hold encoded
// columns, blocks says where the blocks of each series are, meta.json
// counts and checks it all. The byte page is docs/format/part.md. Series are known
// by dense ids; what they mean, and the order they have in a part, is the caller's.
//
// Equal timestamp columns are stored once per part, so targets which are scraped at the same
// moments share them, and a block needs but a reference to its column. So are most columns of values
// which repeat an earlier one byte for byte. Blocks which share a column of timestamps alias the same bytes.
//
// Nothing of a part is kept in memory: lookups read the mapped file. Column
// data carries one checksum per 64 KiB, which is verified when a chunk is read
// for the first time since the part was opened.
//
// Ownership: blocks handed out alias the mapping and are valid as long as the
// caller holds a reference (Acquire, Release). A Part is safe for concurrent use; a Writer belongs to one goroutine.
//
// Invariants:
//
//  1. Finish returns only after every file and the directory are synced; the caller renames the directory afterwards.
//  2. Blocks of a series are together and sorted by MinTimestamp; a series occurs once.
//  3. Open reads no column data; a damaged index or meta.json is an error of kind Corrupt at Open, a
//     damaged column one at the first read of it.
//  4. A merge leaves one sample per timestamp in what it re-encodes, and loses no sample inside the range to keep but to that rule.
package part
