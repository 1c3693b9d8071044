// Package downsample thins out old samples of one series: for each interval ((k-1)*i, k*i] it keeps a few real samples,
// from which the increase of a counter comes out exactly, and the lowest, highest, sum and number of all samples.
//
// Invariants:
//
//  1. Every sample of the main stream is one that was given, bit for bit.
//  2. Reducing what was reduced, by the same or a multiple of the interval, gives what reducing the original does, but
//     for the order in which sums are added up and the limit on resets.
//  3. The increase between the last numbers of two intervals, with resets removed, is that of the original, unless an interval has more than
//     maxResets resets.
package downsample
