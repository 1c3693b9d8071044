// Package relabel changes, adds and removes labels of series by rules which an operator writes in YAML, and drops series.
//
// The rules are those of Prometheus with the extensions of the system we replace; docs/relabeling.md is their reference. The
// package knows no files, no flags and no cache: it is called once for a series which nobody knows yet.
//
// A rule is compiled once. Most regular expressions never run: a matcher of lib/model decides by literal, prefix or suffix
// whether a value matches, and an expression runs only when parts of the value are wanted.
//
// Invariants:
//
//  1. Rules are immutable and safe for concurrent use. The same labels in any order give the same result.
//  2. A label with the empty value is a label that is not there. Labels whose names begin with two underscores are gone after the
//     last rule, except for the metric name.
//  3. A text which has a fault anywhere gives no rules at all, and the error names the rule, the line, the field and what to do.
//  4. Apply never changes strings it was given; labels which it returns may share them.
package relabel
