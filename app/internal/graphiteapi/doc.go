// Package graphiteapi serves the read API of Graphite: metrics/find, metrics/expand, metrics/index.json, render, tags and functions,
// at /select/<tenant>/graphite/ in a cluster, and at / and /graphite/ in the single node.
//
// It knows HTTP, limits and how Graphite's paths and tags are stored; targets are evaluated by lib/graphite. It shares the queue of
// running requests and some limits with selectapi, whose caller it is.
//
// Invariants:
//
//  1. No answer is made of all metric names at once: they are read in pages of at most maxPage, and find skips the rest of a branch
//     as soon as it knows that the branch is there.
//  2. Errors are plain text. What a client can avoid, limits included, is answered 400.
//  3. A request sees and deletes series of its tenant only.
package graphiteapi
