// Package protoparser holds what the parsers of all write protocols share:
// reading and decompressing bodies, splitting lines, the limits on labels, the counters
// of rows, and the Collector which turns parsed series into batches of bounded size.
//
// Series which were stored before are recognised by a hash of the bytes of their labels (numbers.go, raw.go) and go
// into batches by number, without being decoded.
//
// It knows no HTTP and no storage: a Request names a body and a sink for batches.
// Each sub-package is one wire format.
//
// Invariants:
//
//  1. Memory per request is bounded whatever the body holds: by the size limit for
//     bodies which are read whole, by the line limit for streamed ones, and by the batch bounds
//     of the Collector.
//  2. A series which breaks a limit is left out as a whole, counted by reason and named
//     in a throttled warning; the rest of its request is stored.
//  3. No error or nil comes back before the sink has returned for every batch of the request.
//  4. What is stored, dropped and counted is the same whether a series is known or not.
//     That includes the series which relabelling drops.
//  5. A number belongs to one series as long as a batch uses its space; finding it takes no lock.
//  6. A batch is relabelled by one set of rules. New rules start a new space, so that nothing known under the old ones is used with them.
package protoparser
