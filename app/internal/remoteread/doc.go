// Package remoteread answers the remote read protocol of Prometheus: stored samples of series that matchers select, as
// one snappy message of samples or as a stream of XOR chunks.
//
// It knows the messages and their compression; who may ask, how many at once and for how long is the business of selectapi.
//
// Invariants:
//
//  1. Everything that an answer rests on is found, and is within its limits, before the first byte is sent. What fails later, such as
//     a damaged block, breaks the connection, so that no client takes a part for the whole.
//  2. Samples are as stored, stale markers and other NaN included, one per timestamp, deduplicated as everywhere.
//  3. Series are in the order of Prometheus, since it merges streams by it.
//  4. Answers are never partial: the protocol has no place to say so.
package remoteread
