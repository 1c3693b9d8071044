// Package codec turns integers, floats and timestamps into few bytes and back.
// It is pure: no I/O, no state, no knowledge of series, blocks or files.
//
// Integer columns are predicted (nothing, delta, delta of delta) and divided by their
// greatest common divisor. What is left is packed either in groups of 128 with a frame of
// reference and patched exceptions (PFOR), or as tokens: some low bits, and a Huffman code from a
// built-in table for the rest. Float columns become integers first: by a power of ten if that is
// exact for nearly all of them; as decimals and units in the last place if they are sums
// of decimals; else by their bit patterns. Values which do not fit are patched, never rounded.
// Columns are written from their end to their start, so that the latest values are read without
// the others. The bytes are described in docs/format/block.md.
//
// The tables of tokens are made from scrapes of real exporters by a test of this package:
//
//	go test ./lib/codec -run TestTokenTables -update -corpus FILE,FILE
//
// A file holds scrapes of one target in the text format, each ended by a line "# EOF".
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
//  5. Facts which a column of values states about itself hold for all of its values.
package codec
