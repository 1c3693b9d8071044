// Package nativehistogram is what a native histogram of Prometheus is, and how it is stored: as a payload, which is one histogram, and as a column
// of payloads.
//
// A payload is canonical: equal histograms have equal bytes. Other packages carry payloads without looking into them. The byte page is
// docs/format/histogram.md.
//
// Invariants:
//
//  1. Encoding is exact, to the bit of every float64; whole counts stay whole.
//  2. Decoders take arbitrary bytes: errors are of kind Corrupt, memory is bounded by the size of what is read.
package nativehistogram
