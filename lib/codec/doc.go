// Package codec turns integers, floats and timestamps into few bytes and back.
// It is pure: no I/O, no state, no knowledge of series, blocks or files.
//
// Integer columns are predicted (nothing, delta, delta of delta), divided by their
// greatest common divisor and bit-packed in groups of 128 with a frame of
// reference and patched exceptions (PFOR). Float columns become integers first:
// by a power of ten if that is exact for nearly all of them, else by their bit
// patterns. Values which do not fit the power of ten are patched, never rounded.
// The bytes are described in docs/format/block.md.
//
// Ownership: encoders append to the caller's buffer and keep nothing of their
// arguments. Decoders append to the caller's slice and never alias the input.
// An Encoder keeps scratch memory and belongs to one goroutine at a time.
//
// Invariants:
//
//  1. Bits in = bits out, for every int64 and every float64: NaN payloads, -0 and infinities included.
//  2. Encoding is deterministic: equal input gives equal bytes.
//  3. Decoders take arbitrary input: they never panic, never allocate more than the caller's count asks for, and
//     return errors of kind Corrupt.
//  4. Every column starts with a format byte; unknown ones are errors.
package codec
