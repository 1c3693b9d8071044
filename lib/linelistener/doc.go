// Package linelistener takes lines over TCP and UDP at one port, and HTTP requests at the same port where a protocol has them, and hands
// whole lines on in pieces of some tens of kilobytes.
//
// It knows no protocol: who stores the lines parses them.
//
// Invariants:
//
//  1. A TCP connection is not read while its lines are being stored, so that the sender has to wait when the storage does. Datagrams
//     beyond a bounded number of bytes that wait are dropped and counted.
//  2. Memory per connection is bounded by the longest line or 64 KiB; a connection which sends little has 4 KiB.
//  3. What is behind the last line end of a connection counts as a line when the sender has closed it, and is dropped when
//     it broke off, since its last number may be cut.
//  4. Stop returns after all that connections and datagrams had brought is stored, or its time is over.
package linelistener
