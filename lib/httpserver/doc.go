// Package httpserver serves a component's HTTP port: listeners, what every
// component answers (/health, /metrics, /flags, /debug/pprof, ...), headers,
// basic auth, compression, graceful stop, and the mapping from error kinds to
// answers. The component's own routes come in as a Handler.
//
// It knows no route of a component and no storage.
//
// Invariants:
//
//  1. Doubled slashes in a path are collapsed and -http.pathPrefix is removed
//     before a Handler sees the request.
//  2. Every request is counted by the Handler's own metrics or as unsupported path.
//  3. Stop first fails /health, then waits for -http.shutdownDelay, then stops
//     accepting, and returns when no request is being served or after
//     -http.maxGracefulShutdownDuration.
//  4. A client that neither sends the rest of its body nor takes the rest of its answer for a
//     minute is given up; slow ones are not.
//  5. Values of secret flags and arguments are never answered nor logged.
package httpserver
