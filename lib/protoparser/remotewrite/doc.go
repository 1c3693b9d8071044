// Package remotewrite turns the bodies of Prometheus remote write 1.0 and 2.0 into row batches.
//
// It knows the message and its compression, not HTTP. Native histograms are stored as they are, as samples of buckets, or not at all, as
// -nativeHistograms says. One that says that its series has ended becomes a staleness marker among the samples.
//
// Invariants:
//
//  1. A body which cannot be decoded is an error of kind BadRequest. Only what was in
//     full batches before the fault may have been stored.
//  2. A request in the message of 2.0 that is not said to be one is an error, never an empty success.
//  3. In 2.0, a series which refers to symbols that are not there is left out and counted; the rest of its request is stored.
//  4. A native histogram which makes no sense is left out and counted; the rest of its series and request is stored.
package remotewrite
