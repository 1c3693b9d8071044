// Package wal is the write-ahead log of series, samples and histograms: numbered segment
// files of frames, group commit, rotation, replay, and the contents of frames
// (FrameEncoder, DecodeFrame). The byte layout is in docs/format/wal.md.
//
// The package must never know what series and partitions are; they are numbers and
// byte strings to it.
//
// Ownership: Append copies the frame before it returns. Replay and
// FrameVisitor hand out memory that is valid during the call only. One mutex guards the
// state of a Log. The file is touched only by the holder of the baton
// (mu.busy), without the mutex, so that appends go on during an fsync. A Log
// starts no goroutines: the writers that wait do the work.
//
// Invariants:
//
//  1. Replay returns frames in the order of Append, each at most once per
//     call, and nothing which was not appended.
//  2. After WaitDurable(p) has returned nil, every frame up to p is returned by Replay
//     after a crash, unless RemoveBefore removed its segment.
//  3. A segment gets its header only when all frames of the segment before it are durable, so only
//     the last segment can have a torn tail.
//  4. After a failed write, fsync or creation of a segment nothing more is written: whether the
//     kernel kept what it had is unknown.
//  5. Segment numbers have no gaps from the first one that is needed, which a file names, to an empty file behind
//     the newest, so a lost file is noticed. No fsync is made for that when frames are written.
//  6. A place that cannot be read costs the frames in it and no others.
//  7. Memory is bounded: at most maxBuffered bytes and one frame wait to be
//     written, and as many are being written; replay keeps one frame.
package wal
