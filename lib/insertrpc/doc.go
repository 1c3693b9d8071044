// Package insertrpc is the protocol by which samples reach storage nodes, port
// 8400: Client is an Ingester which sends batches to one node, Server hands
// what it receives to an Ingester. The byte page is docs/format/insertrpc.md.
//
// A connection has a dictionary: a series is announced once with its key, then
// its samples travel under a small number together with differences to the series'
// last value, about 3 bytes a sample. The client finds the number by space and number of the series in its
// batch, or by the key when it has none; at the server the dictionary is a model.Space. When the dictionary is full, or the server asks for it, the
// client starts an empty one with its next request; a new connection starts empty.
//
// Batches of concurrent calls travel together in one request, since a node has work for each request whatever its size: those which come
// while another is under way wait for its answer, at most for a few milliseconds. A batch that comes alone does not wait.
//
// The server keeps keys packed: hardly anybody asks for them once the storage knows the series.
//
// Native histograms travel in requests of their own. A node without transport.CapabilityHistograms gets the samples which others convert them to.
//
// A request is answered once the server's Ingester has returned. A request which was
// not answered may have been applied; applying it again is harmless.
//
// Invariants:
//
//  1. The dictionaries of both sides go through the same states: the client
//     changes its own under the connection's send lock in the order of sending, the
//     server in the order of arrival, also for requests it then refuses.
//  2. Every key the server takes is checked to be a canonical series key, once,
//     when it is announced; its hash is computed by the server.
//  3. Nothing is allocated per sample on either side once buffers have grown.
//  4. Calls read a snapshot of the dictionary, whose entries and keys never change, while later requests add to it. Its
//     space ends when neither the dictionary nor a call uses it.
//  5. The memory for a request is bounded whatever it holds: by its size, its samples, and the keys handed on at once.
//  6. A batch is not read any more when Ingest returns, however it ends.
//  7. What is wrong with one batch of a group harms no other: when the node refuses a group for good, each is sent again alone.
//  8. Every payload of a native histogram which the server takes can be parsed.
//  9. Locks of spaces are taken before the lock of a client.
package insertrpc
