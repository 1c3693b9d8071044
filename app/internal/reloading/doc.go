// Package reloading keeps a configuration in use which a file or a URL holds: it reads it at start, and again on SIGHUP, when asked to, and in
// intervals if that is wanted.
//
// It knows where the text comes from; what it says is the business of those who use it.
//
// Invariants:
//
//  1. A text which cannot be used keeps a process from starting, and changes nothing in one which runs.
//  2. A text which has not changed is not handed on again.
package reloading
