// Package gather makes one Searcher of many: it asks all nodes at the same time
// and merges their sorted answers into one.
//
// It knows contracts only: a node may be an RPC client, a local storage or another gather.
//
// Each node's iterator is drained by one goroutine, which copies series into chunks and
// hands them to the reader over a bounded channel; the reader gives used chunks back. So nodes work ahead
// of the reader by a bounded amount, and a slow reader stops them. The goroutines belong to
// the iterator and end with its Close.
//
// Samples of a series that several nodes hold are not deduplicated here: the reader gets all
// blocks, ordered by MinTimestamp.
//
// Invariants:
//
//  1. The answer depends on the nodes' answers only, not on which came first.
//  2. A node's fault makes the answer partial and is named in its Coverage; a fault of the
//     query (BadRequest, Unprocessable, ...) and the failure of all nodes are errors.
//  3. No goroutine outlives Close or a call that returned an error.
package gather
