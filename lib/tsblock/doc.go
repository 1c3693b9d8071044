// Package tsblock is one series' samples: encode, decode, merge, deduplicate.
//
// A Block is an encoded, immutable run of samples of one series: one column of
// timestamps and one of values, each starting with a format byte. Encoding is
// exact: bits in = bits out, for every float64 including NaN payloads, -0 and
// infinities, and for every int64 timestamp.
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
package tsblock
