// Package rawsocket reads from and writes to sockets without telling the scheduler of each system call.
//
// A socket of Go never waits: what it cannot do at once it refuses, and then its goroutine is parked. So the scheduler need not be
// told of the call, as syscall.Read and syscall.Write do. In a process that was idle, telling it wakes the thread which looks after
// calls that last, and that thread goes on looking for a while: for a small request that is a sixth of the CPU time.
//
// Builds with the race detector make the ordinary calls: these tell it that what was written happened before what was read.
//
// The package knows nothing of what is sent. Functions that it returns keep state: one goroutine at a time may call each.
//
// Invariants:
//
//  1. Deadlines and Close of the connection hold as they do for its own Read and Write.
//  2. A connection which is not one of the system's is read and written by its own methods.
package rawsocket
