// Package replay keeps what two nodes of the cluster said to each other, byte by byte, so that tests can play an old client to the present server
// and an old server to the present client. It is for tests only: lib/insertrpc and lib/selectrpc have the recordings in their testdata.
//
// It knows hellos and the lengths of frames, and no message. Recordings hold one call after the other, so their order is fixed; the clock is that of
// a synctest bubble.
//
// Invariants:
//
//  1. What nodes have said in a recording is never changed to make a test pass: there are nodes out there which say it. New recordings are added beside
//     it. Only the text of the caller may change, when the program writes its answers in another way.
//  2. Every byte a client says while a recording is made is in it, in order; so is every byte of the server which the client has read.
//  3. A player ends when its connection does.
package replay
