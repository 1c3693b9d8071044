// Package gather makes one Searcher of many: it asks all nodes at the same time
// and merges their sorted answers into one.
//
// It knows contracts only: a node may be an RPC client, a local storage or another gather.
//
// The reader's goroutine merges the nodes' iterators, and copies nothing: a series aliases what the nodes' iterators
// hand out. Nodes work ahead of the reader as far as their iterators let them: an RPC client's by a window.
//
// Samples of a series that several nodes hold are not deduplicated here: the reader gets all
// blocks, ordered by MinTimestamp.
//
// Invariants:
//
//  1. The answer depends on the nodes' answers only, not on which came first.
//  2. A node's fault makes the answer partial and is named in its Coverage; a fault of the
//     query (BadRequest, Unprocessable, ...) and the failure of all nodes are errors.
//  3. A change (deleting series, resetting counters) which one node has not made is an error.
//  4. No goroutine outlives a call.
package gather
