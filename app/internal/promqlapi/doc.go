// Package promqlapi evaluates PromQL exactly as Prometheus does, by its own engine, over our storage: rates that
// extrapolate, its lookback and its stale markers, its names and types of results, its warnings. It holds the handlers of
// the queries under /promql; everything else about requests is the business of selectapi.
//
// It is one of the two packages which link modules of Prometheus. Nothing of them shows in its exported names, so
// that nobody else has to.
//
// Invariants:
//
//  1. A query holds its series encoded and reserved from the memory budget (package held), and decodes a series when the
//     engine looks at it. All is given back when the answer has been sent.
//  2. The engine sees every sample that counts after deduplication, NaN and stale markers included; nothing is aligned or rounded.
//  3. The end of a request's context ends its searches.
package promqlapi
