// Package faultfs wraps a file system for tests: it counts the operations that change
// something, lets chosen ones fail, and calls a hook before each, so that a
// test can stop the world "at the Nth operation".
//
// The package must never know what it wraps. One mutex guards its state; hooks
// are called without it.
//
// Invariants:
//
//  1. A failed operation does not reach the wrapped file system, except for a
//     short write, which passes on the first half of the bytes.
//  2. Reading operations are neither counted nor failed, but for kind Read when a fault names it.
package faultfs
