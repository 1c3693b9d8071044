// Package remotewrite turns the bodies of Prometheus remote write 1.0 and 2.0 into row batches.
//
// It knows the message and its compression, not HTTP.
//
// Invariants:
//
//  1. A body which cannot be decoded is an error of kind BadRequest. Only what was in
//     full batches before the fault may have been stored.
//  2. A request in the message of 2.0 that is not said to be one is an error, never an empty success.
//  3. In 2.0, a series which refers to symbols that are not there is left out and counted; the rest of its request is stored.
package remotewrite
