// Package selectrpc is the protocol by which storage nodes are asked, port
// 8401: Client is a Searcher (and Admin) over one node, Server answers out
// of a Searcher. The byte page is docs/format/selectrpc.md.
//
// A search streams series by ascending key with their encoded blocks. The
// server is never more than a window ahead of the reader, and stops as soon as the
// reader closes its iterator, gives up its context, or is gone. A series
// larger than a frame is split over several and put together by the client.
//
// Ownership: what an iterator hands out aliases receive buffers, which are
// reused after the next call of Next or Close.
//
// Invariants:
//
//  1. The coverage of the server's Searcher arrives unchanged, with the kinds of
//     the errors in it.
//  2. An answer is whole only when its last frame has arrived: a lost connection
//     is an error of kind Unavailable, never a shorter answer.
//  3. Searching costs a place among the concurrent requests of the server from
//     the first byte to the last.
package selectrpc
