package wal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"vmcluster/lib/invariants"
)

// ReplayReport tells what Replay found.
type ReplayReport struct {
	Segments  int   // files read
	Frames    int64 // frames handed out
	Bytes     int64 // contents of those frames
	TornBytes int64 // cut off the end of the last segment: a write that a crash interrupted, never acknowledged
	Missing   int64 // segments whose files have vanished between the oldest and the newest
	Damaged   []Damage
}

// Damage is the part of a segment which could not be read. A copy of the segment is kept
// beside it, with the suffix .damaged.
type Damage struct {
	Segment   uint64
	Offset    int64 // of the first damaged byte
	LostBytes int64 // from there to the end of the segment
}

// Replay calls f with every frame in the order of Append; the frame is valid
// during the call. It must be called once, before anything else. A torn tail of
// the last segment is cut off. After a damaged frame elsewhere the rest of the
// segment is skipped and a copy of the file is kept. Both are reported and logged, and are no
// errors. An error of f, or of reading a file, ends the replay; the log is of no use then.
func (l *Log) Replay(f func(frame []byte) error) (ReplayReport, error) {
	l.mu.Lock()
	invariants.Check(!l.mu.replayed && !l.mu.closed, "log in %q replayed twice or after Close", l.dir)
	segments := l.mu.segments
	l.mu.Unlock()

	p := replayer{l: l, f: f}
	for i, s := range segments {
		if i > 0 {
			p.noteGap(segments[i-1].number, s.number)
		}
		if err := p.segment(s, i == len(segments)-1); err != nil {
			return p.report, fmt.Errorf("cannot replay log segment %q: %w", segmentPath(l.dir, s.number), err)
		}
	}
	if err := p.syncLast(); err != nil {
		return p.report, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.replayed = true
	if len(segments) > 0 {
		l.logger.Infof("replayed %d frames with %d bytes from %d log segments in %q", p.report.Frames, p.report.Bytes, p.report.Segments, l.dir)
	}
	return p.report, nil
}

// syncLast makes the newest segment durable. A process that was killed may have left frames to the system which are not on
// the disk yet. They have been handed out now, and what is built on them must not outlive them.
func (p *replayer) syncLast() error {
	l := p.l
	l.mu.Lock()
	segments := l.mu.segments
	l.mu.Unlock()
	if len(segments) == 0 {
		return nil
	}
	file, err := l.fs.OpenAppend(segmentPath(l.dir, segments[len(segments)-1].number))
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("cannot make the replayed log durable: %w", err)
	}
	return l.fs.SyncDir(l.dir)
}

// replayer is one run of Replay.
type replayer struct {
	l      *Log
	f      func(frame []byte) error
	r      segmentReader
	report ReplayReport
}

func (p *replayer) noteGap(before, number uint64) {
	if number == before+1 {
		return
	}
	p.report.Missing += int64(number - before - 1)
	p.l.logger.Errorf("log segments %d to %d are missing in %q; the samples in them are lost unless they were flushed; restore the files if you have moved them",
		before+1, number-1, p.l.dir)
}

func (p *replayer) segment(s segmentInfo, last bool) error {
	file, err := p.l.fs.Open(segmentPath(p.l.dir, s.number))
	if err != nil {
		return err
	}
	if p.r.r == nil {
		p.r.r = bufio.NewReaderSize(nil, readBufferBytes)
	}
	p.r.r.Reset(file)
	p.r.offset, p.r.size, p.r.resume = 0, s.size, 0
	p.report.Segments++
	err = p.frames(s.number)
	if errors.Is(err, errDamaged) {
		return errors.Join(p.damage(s, last), file.Close())
	}
	return errors.Join(err, file.Close())
}

// frames hands out the frames of one segment.
func (p *replayer) frames(number uint64) error {
	if err := p.r.header(number); err != nil {
		return err
	}
	for {
		frame, err := p.r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p.report.Frames++
		p.report.Bytes += int64(len(frame))
		p.l.m.replayed.Inc()
		if err := p.f(frame); err != nil {
			return fmt.Errorf("cannot use the frame which ends at byte %d: %w", p.r.offset, err)
		}
	}
}

// damage deals with a segment which is intact up to p.r.offset only.
func (p *replayer) damage(s segmentInfo, last bool) error {
	offset := p.r.offset
	switch {
	case last && offset == 0 && s.size <= headerBytes:
		return p.dropUnborn(s)
	case last && offset > 0 && !p.r.intactAfter():
		return p.cutTail(s, offset)
	}
	d := Damage{Segment: s.number, Offset: offset, LostBytes: s.size - offset}
	p.report.Damaged = append(p.report.Damaged, d)
	p.l.m.damaged.Inc()
	path := segmentPath(p.l.dir, s.number)
	p.l.logger.Errorf("log segment %q is damaged at byte %d; the %d bytes from there on are skipped; a copy is kept as %q; check the disk, then delete the copy",
		path, offset, d.LostBytes, path+damagedSuffix)
	if err := p.l.fs.Link(path, path+damagedSuffix); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return p.l.fs.SyncDir(p.l.dir)
}

// dropUnborn forgets a segment whose creation a crash interrupted. It never had a
// frame; its number is used again, so that there is no gap.
func (p *replayer) dropUnborn(s segmentInfo) error {
	p.report.TornBytes += s.size
	l := p.l
	if err := l.fs.Remove(segmentPath(l.dir, s.number)); err != nil {
		return err
	}
	l.mu.Lock()
	l.mu.segments = l.mu.segments[:len(l.mu.segments)-1]
	if l.mu.newest == s.number+1 {
		l.beginSegmentLocked(s.number)
	}
	l.mu.Unlock()
	return l.fs.SyncDir(l.dir)
}

// cutTail cuts off what a crash left half written.
func (p *replayer) cutTail(s segmentInfo, offset int64) error {
	p.report.TornBytes += s.size - offset
	l := p.l
	path := segmentPath(l.dir, s.number)
	l.logger.Warnf("cut %d bytes at the end of log segment %q, which a crash left half written", s.size-offset, path)
	if err := l.fs.Truncate(path, offset); err != nil {
		return err
	}
	l.mu.Lock() // syncLast makes the cut durable
	l.mu.segments[len(l.mu.segments)-1].size = offset
	l.mu.Unlock()
	return nil
}
