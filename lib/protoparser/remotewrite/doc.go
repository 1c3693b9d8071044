// Package remotewrite turns Prometheus remote write 1.0 bodies into row batches.
//
// It knows the message and its compression, not HTTP.
//
// Invariants:
//
//  1. A body which cannot be decoded is an error of kind BadRequest. Only what was in
//     full batches before the fault may have been stored.
//  2. A request in the message of remote write 2.0 is an error, never an empty success.
package remotewrite
