// Package histogramtest makes random native histograms for tests: series of them, as instrumented programs expose them.
//
// Invariants:
//
//  1. All histograms pass Check.
//  2. Equal seeds give equal histograms.
package histogramtest
