// Package vector holds what happens to evaluated series at equal times:
// transforms, label functions, aggregates and binary operators of MetricsQL.
// All functions are pure: values in, values out, no I/O, no clock. The one
// exception are the functions rand*, if they get no seed.
//
// A value of the language is a slice of Series on one grid of evaluation
// times. A missing point is NaN. A scalar is one series without name and
// labels.
//
// Invariants:
//
//  1. Inputs are owned by the callee: it may change and return the series and their values. A series stands in one
//     argument only. Slices of labels are shared, and never changed in place.
//  2. All series of a call have as many values as the grid has points, results too.
//  3. Labels are ascending by name, and none has an empty value, but for those which absent() takes from filters.
//  4. Errors are of kind Unprocessable, or those of the Guard.
package vector
