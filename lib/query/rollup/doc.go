// Package rollup holds the window functions of MetricsQL: the samples of one
// series go in, values at the evaluation times come out. It knows no series
// labels, no storage and no query tree.
//
// A Func is a prepared function, immutable and safe for concurrent use. An
// Evaluator holds the scratch memory of one goroutine. Inputs are never
// changed; outputs belong to the caller.
//
// Invariants:
//
//  1. Timestamps of a series ascend strictly and are in Unix milliseconds.
//  2. The window at t of width w is (t-w, t].
//  3. Both ends of all windows only move forward, so an evaluation is linear in
//     samples plus points plus the work inside windows.
//  4. Nothing is allocated per point, except by functions with one result series per value.
package rollup
