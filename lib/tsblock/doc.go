// Package tsblock is one series' samples: encode, decode, merge, deduplicate.
//
// A Block is an encoded, immutable run of samples of one series: one column of
// timestamps and one of values, each starting with a format byte. Encoding is
// exact: bits in = bits out, for every float64 including NaN payloads, -0 and
// infinities, and for every int64 timestamp.
//
// The first byte of the values also states facts about them (no NaN, never decreases, constant), so
// readers can choose a cheaper way before they decode anything; the last value is at hand.
//
// Blocks do not know which series they belong to, nor where they are stored.
// The byte page is docs/format/block.md.
//
// Invariants:
//
//  1. Timestamps within a block never decrease.
//  2. MinTimestamp and MaxTimestamp are those of the first and last sample.
//  3. A block has between 1 and MaxSamplesPerBlock samples.
//  4. Encode is deterministic: equal samples give equal bytes.
//  5. Merge and ReadRange leave one sample per timestamp or bucket, and which one depends neither on the order
//     of the sources nor on how samples are cut into blocks.
//  6. A fact that is stated holds; one that is not stated says nothing.
//  7. Decoders take arbitrary bytes: errors are of kind Corrupt, and what was appended to is then unchanged.
//
// Ownership: Encoder and Scratch keep memory between calls (up to some
// megabytes, mostly timestamps that many series share) and belong to one
// goroutine at a time: pool them. They copy what they keep.
package tsblock
