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
//  1. The answer depends on the nodes' answers only, neither on which came first nor on the order in which nodes are given.
//     Nodes that were not waited for change nothing in it, as long as all samples have their copies.
//  2. A node's fault is named in the Coverage of the answer, which is partial exactly if some sample may have been on nodes
//     at fault only; a fault of the query (BadRequest, Unprocessable, ...) and the failure of all nodes are errors.
//  3. A change (deleting series, resetting counters) which one node has not made is an error.
//  4. No goroutine outlives a call.
//  5. A call asks the same nodes from its begin to its end, whatever SetNodes brings meanwhile.
package gather
