// Package transport carries requests and streams of answers between nodes over
// one connection: a hello which negotiates, then frames with checksums. It knows no
// method and no message: packages insertrpc and selectrpc do.
//
// A Client keeps one connection to one node, dials it eagerly and again
// whenever it is lost, and runs many calls over it at once. A Server answers
// calls concurrently. The byte page is docs/format/transport.md.
//
// Whoever reads a connection never waits for anything but the network, so that
// pings are answered and credits arrive whatever the calls are doing:
// answers are bounded by credits per stream, requests by the number of
// streams the server offers in its hello.
//
// Calls write what they send themselves as far as the system takes it at once; the rest, and what readers send, is
// left to the connection's writing goroutine.
//
// With TLS, nothing of all this is said before both sides have shown their certificates. Records are written like frames without TLS:
// together, and by whoever sends.
//
// Ownership: each connection has one reading and one writing goroutine; they
// and the calls belong to the Client or Server and end before its Close returns.
// A payload handed to Session.Accept, or returned by ClientStream.Recv, is valid
// until the function returns or is called again.
//
// Invariants:
//
//  1. Requests are encoded in the order in which they are sent, and accepted in
//     the order in which they arrive, so a session may keep state.
//  2. Every request which was sent gets exactly one terminal frame (end or error),
//     also after a cancel; its stream counts until then.
//  3. The server never has more bytes of one stream under way than the
//     client's window and one frame.
//  4. No read or write waits longer than its timeout without progress.
//  5. One goroutine at a time writes to a connection; only its writing goroutine ever waits for the network.
package transport
