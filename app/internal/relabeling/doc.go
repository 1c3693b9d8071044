// Package relabeling keeps the rules of -relabelConfig in use: it reads them from a file or a URL, and again on SIGHUP, at /-/reload and,
// when asked to, in intervals.
//
// It knows where rules come from; what they do is the business of lib/relabel, and when they are applied that of the intake.
//
// Invariants:
//
//  1. Rules which cannot be used keep a process from starting, and change nothing in one which runs.
//  2. Rules which have not changed are not handed on again, so that nothing known of series is forgotten.
//  3. When /-/reload answers 204, all batches begun afterwards are relabelled by what was there when it was called, or by something newer.
package relabeling
