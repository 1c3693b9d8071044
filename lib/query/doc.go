// Package query evaluates MetricsQL over a Source of series: it parses the text,
// settles the evaluation times, fetches samples, runs rollups (lib/query/rollup)
// and combines their results (lib/query/vector).
//
// It must not know HTTP, how a Source finds series, or how answers are encoded. The file in which a Cache outlives the process is its own
// (docs/format/result_cache.md); where that lies, others know.
//
// An Engine is safe for concurrent use. Results belong to the caller. What a
// request has reserved is given back when its evaluation returns at the latest.
//
// Invariants:
//
//  1. The same request over the same data gives the same result, points and order included.
//  2. A value of the language is a slice of series on one grid; NaN means no point.
//  3. Series pass through encoded, in batches; workers decode one at a time. Decoded samples are kept only for selectors that
//     occur more than once in a query. Simple aggregates keep a series per group, not one per input. What is large is reserved from the budget.
//  4. Every limit that is exceeded is an error of kind Unprocessable which names the limit, the figure and the flag.
//  5. With a Cache the result is the same to the last bit as without, whatever is written, late or not, and deleted meanwhile. Results for a time are
//     a function of the samples in the window and of what rollup.Facts tells: a faster rollup must not make them depend on more.
//  6. Errors in the text, its functions or arguments are of kind BadRequest when they can be seen without evaluation.
package query
