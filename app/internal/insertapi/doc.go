// Package insertapi holds the HTTP routes of writes, which vminsert and the single
// node share, and what stores lines of the protocols that come over TCP and UDP.
//
// It knows HTTP and the parsers; where rows go is the Ingester's business.
//
// Invariants:
//
//  1. A write is answered with success only after the Ingester has acknowledged all of its rows
//     that were not left out; what was left out is counted and named in the response headers,
//     but for series which relabelling drops: that is wanted, and counted only.
//  2. At most -maxConcurrentInserts requests are parsed at a time. A request whose sender is awaited does not count, as long as
//     there is memory for what it has sent.
//  3. Every answer other than success is plain text that names the fault.
package insertapi
