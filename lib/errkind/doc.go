// Package errkind gives errors a kind which survives wrapping, travels over
// the wire as one byte and maps to exactly one HTTP status.
//
// Callers decide by kind (errkind.Of), never by matching text. The text of an
// error is for people: "cannot <verb> <noun> <value>: <cause>".
//
// The package knows nothing of HTTP servers, RPC or storage; they know it.
//
// Invariants:
//
//  1. The numeric value of a Kind never changes once released: it is part of
//     both RPC protocols.
//  2. Of(nil) is OK, and Of of an error without a kind is Internal.
package errkind
