// Package graphite is the language of Graphite's render API: it parses targets, evaluates their functions over
// series with a fixed step, and knows the time and tag expressions and path patterns that go with them.
//
// It reads series through a Source and knows neither storage nor HTTP. Everything is built by New; there is no other state.
//
// Invariants:
//
//  1. Functions never change the values, tags or names of series they were given: fetched series are shared between
//     the targets of a run. They copy what they change.
//  2. All times are Unix milliseconds, all steps are positive, and a series starts at a multiple of its step unless a
//     function has moved it on purpose.
//  3. NaN is "no value". No function puts an infinite or NaN value where Graphite has a number or None, respectively.
//  4. Parse(Print(e)) prints as Print(e).
//  5. Every series that is made is counted against the limits of the request before its values are allocated or, where
//     a function does not change the number of points, right after.
package graphite
