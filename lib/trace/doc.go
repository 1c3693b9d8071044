// Package trace holds the steps of a request with how long each took, as a tree which people read.
//
// A step travels in the context, so that a layer notes its own steps below that of its caller and no contract has to name
// traces. It knows neither texts on the wire nor JSON.
//
// Invariants:
//
//  1. Everything may be called on a nil *Span, which traces nothing. Who is not asked for a trace pays for a look into the context
//     per search, and for nothing per series or sample.
//  2. A span is safe for concurrent use. It has at most MaxChildren children; more are not noted.
package trace
