// Package metricsql turns the text of a query into a tree and back: lexer,
// parser, AST, printer, and what is known of functions before any of them runs
// (their kind, the number and types of arguments). MetricsQL is a superset of PromQL.
//
// It knows nothing of evaluation: nodes hold no run-time state, and the same tree may
// be evaluated by many goroutines at once. The syntax is described in docs/metricsql.md.
//
// Invariants:
//
//  1. The text of a tree, String(e), parses to an equal tree, and printing that gives the same text.
//  2. After Parse the tree holds no WITH templates: they are expanded.
//  3. Errors of Parse are of kind BadRequest and name line, column and what was expected.
//  4. Nesting, length and the size after the expansion of templates are bounded, so no text can exhaust the stack.
//  5. Nodes are never changed once Parse returned. Subtrees may be shared within a tree.
package metricsql
