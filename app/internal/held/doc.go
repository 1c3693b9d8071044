// Package held keeps copies of the series which a search has found: their keys
// and their samples as they are encoded, a byte or two per sample. Who reads a series more
// than once, or in another order than it was found, decodes it from there each time.
//
// It knows no HTTP, no query language and no protocol.
//
// Invariants:
//
//  1. What a Set holds is reserved from the memory budget before it is copied, and given back by Release, which may be called again.
//  2. A Set does not change once it has been collected, except for the order of its series, so any number of goroutines
//     may read it; each has a Decoder of its own.
//  3. Nothing in a Set aliases the memory of the search it came from.
package held
