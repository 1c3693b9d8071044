package wal

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/vfs"
)

const (
	defaultSegmentBytes = 64 << 20
	// maxBuffered bounds the bytes that wait for a writer; who finds more writes them.
	maxBuffered = 1 << 20
)

// Options configure a Log.
type Options struct {
	FS      vfs.FS
	Dir     string // holds the segments and nothing else; created when missing
	Logger  *logger.Logger
	Metrics *metrics.Set
	// Window is how long the writer that is about to fsync waits for others to join.
	// 0 means not at all: those who come during one fsync share the next.
	Window time.Duration
	// SegmentBytes is the size at which a new segment is begun; 0 means 64 MiB.
	SegmentBytes int64
	// OnDamage is called during Replay between the frames before and after a place that is lost, and tells of it. When it is nil, the
	// log itself does.
	OnDamage func(Damage)
	// OnSegment, which may be nil, is called during Replay before the frames of a segment.
	OnSegment func(segment uint64)
}

// Position is a place in the log. It grows with every frame of a process.
type Position uint64

// Log is a write-ahead log. Open it, Replay it, then use it from any number of
// goroutines.
type Log struct {
	fs           vfs.FS
	dir          string
	logger       *logger.Logger
	window       time.Duration
	segmentBytes int64
	bufferBytes  int // maxBuffered, or less in tests
	onDamage     func(Damage)
	onSegment    func(uint64)
	m            logMetrics
	failed       chan struct{}

	removing  sync.Mutex // held by RemoveBefore
	first     uint64     // every segment from this one on is needed, as the file of the state says; guarded by removing
	unsynced  bool       // the directory has to be synced for segments which are deleted; guarded by removing
	created   bool       // by Open
	successor bool       // Open has found or made the empty file behind the newest segment

	mu struct {
		sync.Mutex
		changed  *sync.Cond // busy, durable or err has changed
		replayed bool
		closed   bool
		err      error // set once
		full     error // set while the disk has no space for what is pending
		busy     bool  // somebody holds the baton: the right to use l.out

		pending  batch
		spare    batch    // memory of the batch before
		appended Position // end of the last frame appended
		durable  Position

		segments []segmentInfo // by number, those with frames in pending included
		newest   uint64        // number of the segment which takes the next frame
		fresh    bool          // newest has no frame yet and is not in segments
		salt     uint32        // of newest
	}

	out output // used by the holder of the baton only
}

// batch are frames on their way to the file.
type batch struct {
	bytes []byte
	done  int // bytes that are durable
	cuts  []cut
}

// cut says that from offset on the bytes belong to another segment.
type cut struct {
	offset  int
	segment uint64
}

// output is the segment being written.
type output struct {
	file    vfs.File // nil before the first frame
	segment uint64
	salt    uint32
	durable int64 // bytes as of the last fsync
	size    int64 // bytes, those of a write that failed not included
	dirty   bool  // there are writes after the last fsync
	broken  bool  // a write has failed: there may be a piece of it behind durable
}

type logMetrics struct {
	frames, written, fsyncs, errors, full, damaged, damagedState, missing, lostBytes, torn, replayed *metrics.Counter
	fsyncSeconds                                                                                     *metrics.Histogram
}

// Open opens the log in a directory. Call Replay before anything else.
func Open(o Options) (*Log, error) {
	if err := vfs.MkdirAllDurable(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("cannot open log: %w", err)
	}
	l := &Log{
		fs: o.FS, dir: o.Dir, logger: o.Logger, window: o.Window, segmentBytes: o.SegmentBytes,
		bufferBytes: maxBuffered,
		onDamage:    o.OnDamage,
		onSegment:   o.OnSegment,
		failed:      make(chan struct{}),
		m:           newLogMetrics(o.Metrics),
	}
	if l.segmentBytes <= 0 {
		l.segmentBytes = defaultSegmentBytes
	}
	l.mu.changed = sync.NewCond(&l.mu)
	if err := l.loadFiles(); err != nil {
		return nil, fmt.Errorf("cannot open log in %q: %w", l.dir, err)
	}
	o.Metrics.Gauge("vm_wal_size_bytes", func() float64 { return float64(l.SizeBytes()) })
	return l, nil
}

func newLogMetrics(set *metrics.Set) logMetrics {
	return logMetrics{
		frames:       set.Counter("vm_wal_frames_total"),
		written:      set.Counter("vm_wal_written_bytes_total"),
		fsyncs:       set.Counter("vm_wal_fsyncs_total"),
		errors:       set.Counter("vm_wal_errors_total"),
		full:         set.Counter("vm_wal_disk_full_total"),
		damaged:      set.Counter("vm_wal_damaged_segments_total"),
		damagedState: set.Counter("vm_wal_damaged_state_total"),
		missing:      set.Counter("vm_wal_missing_segments_total"),
		lostBytes:    set.Counter("vm_wal_lost_bytes_total"),
		torn:         set.Counter("vm_wal_torn_bytes_total"),
		replayed:     set.Counter("vm_wal_replayed_frames_total"),
		fsyncSeconds: set.Histogram("vm_wal_fsync_duration_seconds"),
	}
}

// beginSegmentLocked lets the next frame go to a new segment. Its file is
// created when the frame is written.
func (l *Log) beginSegmentLocked(number uint64) {
	l.mu.newest, l.mu.fresh = number, true
	_, l.mu.salt = appendHeader(nil, number)
}

// Append adds a copy of frame to the log. The frame is durable when
// WaitDurable of the returned position has returned nil. Concurrent calls are ordered as they
// happen to come. Append waits for the disk only when more than 1 MiB is
// waiting to be written.
//
// While the disk is full (see Full), frames are still taken, and wait in memory: others that come later may rest on
// them. Whoever has a choice asks Full first and appends nothing.
func (l *Log) Append(frame []byte) (Position, error) {
	if len(frame) > MaxFrameBytes {
		return 0, errkind.New(errkind.TooLarge, "cannot append a frame of %d bytes to the log: the limit is %d; write fewer samples at once", len(frame), MaxFrameBytes)
	}
	invariants.Check(len(frame) > 0, "empty frame appended to the log")
	sum := frameChecksum(frame)
	l.mu.Lock()
	defer l.mu.Unlock()
	invariants.Check(l.mu.replayed, "append to a log which was not replayed")
	for len(l.mu.pending.bytes) >= l.bufferBytes && l.mu.full == nil && l.usableLocked() == nil {
		l.writeThroughLocked()
	}
	if err := l.usableLocked(); err != nil {
		return 0, err
	}
	l.placeLocked(int64(len(frame)) + frameHeadBytes)
	l.mu.pending.bytes = appendFrame(l.mu.pending.bytes, frame, sum, l.mu.salt)
	l.mu.appended += Position(len(frame) + frameHeadBytes)
	l.m.frames.Inc()
	return l.mu.appended, nil
}

// usableLocked returns why the log takes no frames.
func (l *Log) usableLocked() error {
	if l.mu.err == nil && l.mu.closed {
		return errkind.New(errkind.Draining, "cannot append to the log in %q: it is closed", l.dir)
	}
	return l.mu.err
}

// placeLocked accounts for n bytes at the end of the log.
func (l *Log) placeLocked(n int64) {
	last := len(l.mu.segments) - 1
	if !l.mu.fresh && l.mu.segments[last].size+n > l.segmentBytes {
		l.beginSegmentLocked(l.mu.newest + 1)
	}
	if l.mu.fresh {
		l.mu.pending.cuts = append(l.mu.pending.cuts, cut{offset: len(l.mu.pending.bytes), segment: l.mu.newest})
		l.mu.segments = append(l.mu.segments, segmentInfo{number: l.mu.newest, size: headerBytes})
		l.mu.fresh = false
		last++
	}
	l.mu.segments[last].size += n
}

// writeThroughLocked hands the pending bytes to the system, or waits while somebody else does.
func (l *Log) writeThroughLocked() {
	if l.mu.busy {
		l.mu.changed.Wait()
		return
	}
	l.commitLocked()
}

// WaitDurable returns when everything up to p is durable, or with the error
// that made the log fail, or with that of Full: then the frames may become durable later, or be lost.
// It is the waiting callers that write and fsync, one for all.
func (l *Log) WaitDurable(p Position) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	invariants.Check(p <= l.mu.appended, "wait for log position %d; the end is %d", p, l.mu.appended)
	for l.mu.durable < p {
		switch {
		case l.mu.err != nil:
			return l.mu.err
		case l.mu.busy:
			l.mu.changed.Wait()
		case l.mu.full != nil:
			return l.mu.full
		default:
			l.joinLocked()
		}
	}
	return nil
}

// joinLocked gives others the window to join, then commits for all.
func (l *Log) joinLocked() {
	if l.window > 0 {
		l.mu.busy = true
		l.mu.Unlock()
		time.Sleep(l.window)
		l.mu.Lock()
		l.mu.busy = false
	}
	l.commitLocked()
}

// commitLocked takes the baton and writes what is pending, which is durable afterwards unless mu.err or mu.full is set. The
// mutex is free meanwhile. Nobody may hold the baton.
func (l *Log) commitLocked() {
	invariants.Check(!l.mu.busy, "two writers of the log in %q", l.dir)
	if l.mu.err != nil {
		return
	}
	l.mu.busy = true
	taken, end := l.mu.pending, l.mu.appended
	l.mu.pending = batch{bytes: l.mu.spare.bytes[:0], cuts: l.mu.spare.cuts[:0]}
	l.mu.spare = batch{}
	l.mu.Unlock()
	err := l.write(&taken)
	l.mu.Lock()
	l.mu.busy = false
	switch {
	case errors.Is(err, errNoSpace):
		l.keepLocked(taken, err)
	case err != nil:
		l.failLocked(err)
	default:
		l.mu.durable = end
		l.mu.full = nil
		if cap(taken.bytes) <= 2*maxBuffered { // memory of a huge frame is not kept
			l.mu.spare = batch{bytes: taken.bytes, cuts: taken.cuts}
		}
	}
	l.mu.changed.Broadcast()
}

// failLocked makes an error sticky.
func (l *Log) failLocked(err error) {
	l.m.errors.Inc()
	l.mu.err = errkind.New(errkind.Internal,
		"cannot write to the log in %q: %w; it takes nothing more: repair the disk and restart the process, which recovers everything acknowledged", l.dir, err)
	l.logger.Errorf("%s", l.mu.err)
	close(l.failed)
}

// keepLocked puts back what a full disk did not take, before what has come meanwhile.
func (l *Log) keepLocked(taken batch, err error) {
	for _, c := range l.mu.pending.cuts {
		taken.cuts = append(taken.cuts, cut{offset: len(taken.bytes) + c.offset, segment: c.segment})
	}
	taken.bytes = append(taken.bytes, l.mu.pending.bytes...)
	l.mu.pending = taken
	if l.mu.full == nil {
		l.m.full.Inc()
		l.logger.Errorf("cannot write to the log in %q: %s; nothing acknowledged is lost; writes are accepted again once there is space", l.dir, err)
	}
	l.mu.full = errkind.New(errkind.ReadOnly, "cannot write to the log in %q: %w; free some disk space, then writes are accepted again", l.dir, err)
}

// errNoSpace marks a write or the creation of a file that failed for lack of space. No fsync has failed then, so it is known what
// is on the disk: everything up to the last fsync, and perhaps a piece of what follows, which is cut off.
var errNoSpace = errors.New("the disk is full")

// noSpace marks err when that is its cause.
func noSpace(err error) error {
	if noSpaceIn(err) {
		return fmt.Errorf("%w: %w", errNoSpace, err)
	}
	return err
}

func noSpaceIn(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// write makes a batch durable, and begins new segments where it is cut. After an error, b holds what is not durable.
func (l *Log) write(b *batch) error {
	if err := l.mend(); err != nil {
		return err
	}
	for len(b.cuts) > 0 {
		c := b.cuts[0]
		if err := l.writeFrames(b.bytes[b.done:c.offset]); err != nil {
			return err
		}
		if err := l.closeOutput(); err != nil {
			return err
		}
		b.done = c.offset
		if err := l.createSegment(c.segment); err != nil {
			return err
		}
		b.cuts = b.cuts[1:]
	}
	if err := l.writeFrames(b.bytes[b.done:]); err != nil {
		return err
	}
	return l.sync()
}

// mend cuts off what a failed write may have left, durably, so that the segment can be continued.
func (l *Log) mend() error {
	if !l.out.broken {
		return nil
	}
	path := segmentPath(l.dir, l.out.segment)
	if l.out.file != nil {
		err := l.out.file.Close()
		l.out.file = nil
		if err != nil {
			return err
		}
	}
	if err := l.fs.Truncate(path, l.out.durable); err != nil {
		return noSpace(err)
	}
	file, err := l.fs.OpenAppend(path)
	if err != nil {
		return noSpace(err)
	}
	l.out.file, l.out.size, l.out.dirty = file, l.out.durable, true
	if err := l.sync(); err != nil {
		return err
	}
	l.out.broken = false
	return nil
}

// writeFrames writes frames, the first of which says that all before it are durable.
func (l *Log) writeFrames(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	markDurableBefore(p, l.out.salt)
	return l.writeBytes(p)
}

func (l *Log) writeBytes(p []byte) error {
	l.out.dirty = true
	n, err := l.out.file.Write(p)
	l.m.written.Add(n)
	if err != nil {
		l.out.broken = true
		return noSpace(fmt.Errorf("cannot write segment %d: %w", l.out.segment, err))
	}
	l.out.size += int64(n)
	return nil
}

// sync makes the segment being written durable. An error is never taken for a full disk, whatever its cause: what the system
// kept of the data is unknown.
func (l *Log) sync() error {
	if !l.out.dirty {
		return nil
	}
	start := time.Now()
	if err := l.out.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync segment %d: %w", l.out.segment, err)
	}
	l.m.fsyncs.Inc()
	l.m.fsyncSeconds.UpdateDuration(start)
	l.out.dirty = false
	l.out.durable = l.out.size
	return nil
}

// closeOutput makes the segment being written durable and closes it.
func (l *Log) closeOutput() error {
	if l.out.file == nil {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	err := l.out.file.Close()
	l.out.file = nil
	return err
}

// createSegment begins a segment once all before it are durable. Its header and name
// are durable before a frame goes into it, and so is the name of its successor. When the disk is full, calling again starts over.
func (l *Log) createSegment(number uint64) error {
	file, err := l.fs.Create(segmentPath(l.dir, number))
	if err != nil {
		return noSpace(err)
	}
	header, salt := appendHeader(nil, number)
	l.out = output{file: file, segment: number, salt: salt}
	if err := l.writeBytes(header); err != nil {
		l.out = output{}
		return errors.Join(err, file.Close())
	}
	if err := l.sync(); err != nil {
		return err
	}
	if err := l.createSuccessor(number + 1); err != nil {
		l.out = output{}
		return errors.Join(noSpace(err), file.Close())
	}
	return l.fs.SyncDir(l.dir)
}

// Rotate lets frames appended from now on go to the returned segment or later
// ones, and those before to earlier ones. It does not wait for the disk, and works when that is full.
func (l *Log) Rotate() (segment uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	invariants.Check(l.mu.replayed, "rotation of a log which was not replayed")
	if err := l.usableLocked(); err != nil {
		return 0, err
	}
	if !l.mu.fresh {
		l.beginSegmentLocked(l.mu.newest + 1)
	}
	return l.mu.newest, nil
}

// RemoveBefore deletes the segments with lower numbers, oldest first. Their
// frames must be held safely elsewhere. When it returns nil they are gone for good, also after a power failure. An error leaves the log usable unless
// Err says otherwise; calling again tries again.
func (l *Log) RemoveBefore(segment uint64) error {
	l.removing.Lock()
	defer l.removing.Unlock()
	numbers, err := l.retire(segment)
	if err != nil || len(numbers) == 0 && segment <= l.first && !l.unsynced { // segments beyond first are missing, which was told
		return err
	}
	if segment > l.first {
		if err := l.retireState(segment, numbers); err != nil {
			return err
		}
	}
	l.unsynced = true
	for _, number := range numbers {
		if err := l.fs.RemoveAll(segmentPath(l.dir, number)); err != nil {
			return fmt.Errorf("cannot delete log segment %d: %w", number, err)
		}
		l.mu.Lock()
		l.mu.segments = l.mu.segments[1:]
		l.mu.Unlock()
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return err
	}
	l.unsynced = false
	return nil
}

// retire writes out what is pending, closes the segment being written if it
// is to be deleted, and returns the numbers of the segments to delete.
func (l *Log) retire(segment uint64) ([]uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	invariants.Check(l.mu.replayed, "removal from a log which was not replayed")
	invariants.Check(segment <= l.mu.newest, "removal of log segments before %d; the newest is %d", segment, l.mu.newest)
	for l.mu.busy {
		l.mu.changed.Wait()
	}
	l.commitLocked()
	if err := l.usableLocked(); err != nil {
		return nil, err
	}
	if l.mu.full != nil {
		return nil, l.mu.full
	}
	// Nobody can have taken the baton: the mutex was held since the commit.
	if l.out.file != nil && l.out.segment < segment {
		if err := l.closeOutput(); err != nil {
			l.failLocked(err)
			return nil, l.mu.err
		}
	}
	var numbers []uint64
	for _, s := range l.mu.segments {
		if s.number < segment {
			numbers = append(numbers, s.number)
		}
	}
	return numbers, nil
}

// SizeBytes returns the bytes of all segments, those waiting to be written included.
func (l *Log) SizeBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, s := range l.mu.segments {
		n += s.size
	}
	return n
}

// Err returns the error which made the log fail, or nil. It is of kind Internal.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

// Full returns why nothing can be written at present, while the disk is full: then WaitDurable fails and Resume helps. It is of
// kind ReadOnly.
func (l *Log) Full() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.full
}

// Resume tries to write what a full disk has kept waiting. Without Full it does nothing.
func (l *Log) Resume() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.mu.busy {
		l.mu.changed.Wait()
	}
	if l.mu.full == nil || l.mu.closed {
		return l.mu.err
	}
	l.commitLocked()
	if l.mu.err == nil && l.mu.full == nil {
		l.logger.Infof("the log in %q has been written again, since there is disk space", l.dir)
	}
	return errors.Join(l.mu.err, l.mu.full)
}

// Failed returns a channel which is closed when the log fails, see Err.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Close makes everything appended durable and closes the log. Calls that wait
// are served first; later ones fail with kind Draining. On a full disk frames which were not acknowledged are given up, and the
// error is that of Full.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil
	}
	l.mu.closed = true
	for l.mu.busy {
		l.mu.changed.Wait()
	}
	l.commitLocked()
	failed := errors.Join(l.mu.err, l.mu.full)
	if l.out.file == nil {
		return failed
	}
	err := l.out.file.Close()
	l.out.file = nil
	return errors.Join(failed, err)
}
