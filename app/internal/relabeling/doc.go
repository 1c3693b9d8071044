// Package relabeling keeps the rules of -relabelConfig in use, and serves /-/reload, at which they, and what else a process reads again, are read again.
//
// It knows where rules come from; what they do is the business of lib/relabel, and when they are applied that of the intake.
//
// Invariants:
//
//  1. Rules which have not changed are not handed on again, so that nothing known of series is forgotten.
//  2. When /-/reload answers 204, all batches begun afterwards are relabelled by what was there when it was called, or by something newer.
package relabeling
