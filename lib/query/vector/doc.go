// Package vector holds what happens to evaluated series at equal times:
// transforms, label functions, aggregates and binary operators of MetricsQL.
// All functions are pure: values in, values out, no I/O, no clock.
//
// A value of the language is a slice of Series on one grid of evaluation
// times. A missing point is NaN. A scalar is one series without name and
// labels. Inputs are owned by the callee: it may change and return them.
package vector
