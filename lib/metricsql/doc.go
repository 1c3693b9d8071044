// Package metricsql turns the text of a query into a tree and back: lexer,
// parser, AST, printer and optimiser. MetricsQL is a superset of PromQL.
//
// It knows nothing of evaluation: nodes hold no run-time state, and the same tree may
// be evaluated by many goroutines at once.
//
// Invariants:
//
//  1. Parse(x).String() parses to an equal tree, and printing that gives the same text.
//  2. After Parse the tree holds no WITH templates: they are expanded.
//  3. Errors are of kind BadRequest and name line, column and what was expected.
package metricsql
