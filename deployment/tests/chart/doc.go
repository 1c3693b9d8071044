// Package chart renders the Helm charts under deployment/helm with Helm's own engine, for tests. It knows no cluster: what the API server or
// other charts would answer is not there, as with `helm template`.
//
// Invariants:
//
//  1. Values are checked by the chart's schema before anything is rendered, as Helm does.
//  2. The same chart, release and values give the same bytes.
package chart
