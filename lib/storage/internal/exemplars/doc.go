// Package exemplars keeps exemplars of series on disk and, as long as they are there, in memory.
//
// On disk they are a queue of segments (docs/format/exemplars.md): new ones go to the end of the newest segment, and the oldest segment
// leaves as a whole when there are too many bytes. In memory they lie by series, in the order of time.
//
// The package must never know samples, or who else uses the disk.
//
// Ownership: one caller at a time writes, on behalf of all who wait (Store.writing); the index has a lock of its own, which is never
// held while the disk works. What Find returns aliases memory that nobody changes.
//
// Invariants:
//
//  1. What Add and Delete have returned nil for is on the disk, and stays until its segment leaves.
//  2. The index holds nothing but what is on the disk, so that a repeated exemplar may be taken for stored.
//  3. Of a series, a time, labels and a value there is one exemplar.
//  4. What was not acknowledged is cut off, nothing is appended to a segment after that, and a segment leaves before those which are newer: a deletion is never forgotten
//     before what it deletes.
//  5. Files and memory stay within the limit, but for one segment.
package exemplars
