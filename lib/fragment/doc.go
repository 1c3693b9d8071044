// Package fragment is the part of a query which a store can evaluate by itself, an aggregate over a
// rollup over the series of a search, and what it comes to. It knows neither how fragments
// are evaluated nor how they travel.
//
// Fragments and results are plain data. Whoever makes one owns it; nobody changes it afterwards.
//
// Invariants:
//
//  1. The aggregates of disjoint sets of series, put together in any order, are the aggregate of all of them.
//  2. A series has the same fingerprint in every store. Two series may share one: then
//     both are handled as if they were the same, which costs time and changes no answer.
package fragment
