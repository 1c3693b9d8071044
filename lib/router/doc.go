// Package router makes one Ingester of many: it splits a batch by the consistent
// hash of the series keys, sends the pieces at the same time, each row to as many nodes as
// it shall have copies, and sends the pieces of a node that cannot take them elsewhere.
//
// It knows contracts only: a node may be an RPC client, a local storage or another router.
//
// The decisions (plan.go, health.go, load.go) are values in, values out; router.go has the nodes, call.go does the I/O, and watch.go has the one timer.
// Sub-batches come from a pool, belong to the Ingest call that took them, and
// go back when the node's Ingester has returned.
//
// Invariants:
//
//  1. Ingest returns nil only when every row was acknowledged by a node, but for rows dropped because the
//     configuration asks for it, and by as many distinct nodes as it has copies, but for rows counted as incompletely replicated.
//  2. Within one Ingest call a node which failed is not tried again, so the call ends
//     after at most as many attempts per copy as there are nodes. It says Unavailable, ReadOnly or Overloaded only
//     when no node is left, cooling down or not. Where the configuration says that rows wait for a node, they do so for maxAttempt at most, and half of the time the caller gives.
//  3. Nothing is kept between calls but what is known of the nodes; a call holds at
//     most one copy of its batch per copy of its rows, for which it has reserved memory.
//  4. A node that is cooling down gets rows only from one probing call at a time, or
//     when no healthy node is left. A copy which would have to go there is left out.
//  5. With several nodes, one that does not answer in time has failed: a node that hangs delays calls and stops none. It has failed the sooner
//     when it answers nobody, others do, and there are enough of these for all copies.
//  6. A call works with the nodes there were when it began.
package router
