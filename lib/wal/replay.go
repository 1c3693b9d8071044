package wal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"vmcluster/lib/invariants"
)

// ReplayReport tells what Replay found.
type ReplayReport struct {
	Created   bool  // the log did not exist before
	Segments  int   // files read
	Frames    int64 // frames handed out
	Bytes     int64 // contents of those frames
	TornBytes int64 // cut off the end of the last segment: a write that a crash interrupted, never acknowledged
	Missing   int64 // segments whose files have vanished
	Damaged   []Damage
}

// Damage is a part of a segment which could not be read, or segments which are missing as a whole. A copy of a damaged segment
// is kept beside it, with the suffix .damaged.
type Damage struct {
	Segment   uint64
	Missing   uint64 // so many segments from Segment on have no file; 0 when it is there
	Offset    int64  // of the first frame that is lost
	LostBytes int64  // from there to the next intact frame, or to the end of the segment
	Cause     error  // of the disk, when it could not be read; nil when what was read is wrong
	Path      string // of the segment
}

// String describes the damage, and what is left for the operator.
func (d Damage) String() string {
	switch {
	case d.Missing > 1:
		return fmt.Sprintf("%d log segments from %q on are missing", d.Missing, d.Path)
	case d.Missing > 0:
		return fmt.Sprintf("log segment %q is missing", d.Path)
	}
	text := fmt.Sprintf("log segment %q is damaged at byte %d, and %d bytes from there on are skipped; a copy is kept as %q", d.Path, d.Offset, d.LostBytes, d.Path+damagedSuffix)
	if d.Cause != nil {
		text += fmt.Sprintf(" (it cannot be read: %s)", d.Cause)
	}
	return text
}

// Replay calls f with every frame in the order of Append; the frame is valid
// during the call. It must be called once, before anything else. A torn tail of
// the last segment is cut off. A damaged frame elsewhere is skipped and a copy of the file is kept. Both are
// reported and logged, and are no errors. An error of f, or of reading a file, ends the replay; the log is of no use then.
func (l *Log) Replay(f func(frame []byte) error) (ReplayReport, error) {
	l.mu.Lock()
	invariants.Check(!l.mu.replayed && !l.mu.closed, "log in %q replayed twice or after Close", l.dir)
	segments := l.mu.segments
	l.mu.Unlock()

	p := replayer{l: l, f: f}
	p.report.Created = l.created
	want := l.first
	for i, s := range segments {
		if s.number < l.first { // it was about to be deleted, as parts have what is in it; the next flush does
			continue
		}
		p.noteGap(want, s.number)
		want = s.number + 1
		if err := p.segment(s, i == len(segments)-1); err != nil {
			return p.report, fmt.Errorf("cannot replay log segment %q: %w", segmentPath(l.dir, s.number), err)
		}
	}
	p.noteEnd(want)
	if err := errors.Join(l.restoreSuccessor(), p.syncLast()); err != nil {
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

// noteGap reports the segments from want up to number, which are missing.
func (p *replayer) noteGap(want, number uint64) {
	if number == want {
		return
	}
	p.report.Missing += int64(number - want)
	p.l.m.missing.Add(int(number - want))
	p.tell(Damage{Segment: want, Missing: number - want, Path: segmentPath(p.l.dir, want)})
}

// noteEnd reports what is missing behind the last segment that is there.
func (p *replayer) noteEnd(want uint64) {
	p.l.mu.Lock()
	next := p.l.mu.newest
	p.l.mu.Unlock()
	if !p.l.successor {
		next = max(next, want) + 1 // the file that follows the newest segment has gone, perhaps with that
	}
	if next > want {
		p.noteGap(want, next)
	}
}

// tell tells the owner, or the operator.
func (p *replayer) tell(d Damage) {
	if p.l.onDamage != nil {
		p.l.onDamage(d)
		return
	}
	p.l.logger.Errorf("%s; the samples in it are lost, unless they were flushed; check the disk", d)
}

func (p *replayer) segment(s segmentInfo, last bool) error {
	closer, err := p.r.open(p.l.fs, segmentPath(p.l.dir, s.number), s.size)
	if err != nil {
		return err
	}
	p.report.Segments++
	if p.l.onSegment != nil {
		p.l.onSegment(s.number)
	}
	return errors.Join(p.frames(s, last), closer.Close())
}

// frames hands out the frames of one segment.
func (p *replayer) frames(s segmentInfo, last bool) error {
	err := p.r.header(s.number)
	if errors.Is(err, errDamaged) {
		err = p.passDamage(s, 0)
	}
	for err == nil {
		offset := p.r.offset
		var frame []byte
		frame, err = p.r.next()
		switch {
		case err == nil:
			err = p.hand(frame)
		case errors.Is(err, errDamaged):
			err = p.damage(s, offset, last)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// damage deals with damage which begins at offset. The error is io.EOF when nothing is left of the segment.
func (p *replayer) damage(s segmentInfo, offset int64, last bool) error {
	if last {
		durable, err := p.durableAfter(s, offset)
		if err != nil {
			return err
		}
		if !durable {
			return cmp.Or(p.cutTail(s, offset), io.EOF)
		}
	}
	return p.passDamage(s, offset)
}

// hand hands out a frame.
func (p *replayer) hand(frame []byte) error {
	p.report.Frames++
	p.report.Bytes += int64(len(frame))
	p.l.m.replayed.Inc()
	if err := p.f(frame); err != nil {
		return fmt.Errorf("cannot use the frame which ends at byte %d: %w", p.r.offset, err)
	}
	return nil
}

// durableAfter looks for a frame behind damage which tells that everything before it was durable, or for a page that cannot be read: then
// it is no write which a crash interrupted, but a disk that has lost something. The damage begins at offset. It leaves p.r alone.
func (p *replayer) durableAfter(s segmentInfo, offset int64) (found bool, err error) {
	var r segmentReader
	closer, err := r.open(p.l.fs, segmentPath(p.l.dir, s.number), s.size)
	if err != nil {
		return false, err
	}
	err = r.skip(int(p.r.offset))
	r.salt = p.r.salt
	for err == nil && !found {
		if _, _, err = r.search(); err == nil {
			found = r.head.durableBefore
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if r.pages.badEnd > offset { // a crash leaves no page which cannot be read
		found = true
	}
	return found, errors.Join(err, closer.Close())
}

// passDamage reports damage from offset on, and hands out the intact frame behind it. The error is io.EOF when there is none.
func (p *replayer) passDamage(s segmentInfo, offset int64) error {
	frame, next, err := p.r.search()
	end := next
	if errors.Is(err, io.EOF) {
		end = s.size
	} else if err != nil {
		return err
	}
	d := Damage{Segment: s.number, Offset: offset, LostBytes: end - offset, Path: segmentPath(p.l.dir, s.number)}
	if p.r.pages.badEnd > offset {
		d.Cause = p.r.pages.cause
	}
	if err := p.noteDamage(d); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	return p.hand(frame)
}

// noteDamage reports damage and keeps a copy of the segment.
func (p *replayer) noteDamage(d Damage) error {
	l := p.l
	p.report.Damaged = append(p.report.Damaged, d)
	l.m.damaged.Inc()
	l.m.lostBytes.Add(int(d.LostBytes))
	p.tell(d)
	if err := l.fs.Link(d.Path, d.Path+damagedSuffix); err != nil && !errors.Is(err, fs.ErrExist) {
		// A disk that is full or broken must not keep the node from serving what there is.
		l.logger.Errorf("cannot keep a copy of the damaged log segment %q, which will be deleted with the next flush: %s", d.Path, err)
		return nil
	}
	return l.fs.SyncDir(l.dir)
}

// cutTail cuts off what a crash left half written.
func (p *replayer) cutTail(s segmentInfo, offset int64) error {
	p.report.TornBytes += s.size - offset
	l := p.l
	l.m.torn.Add(int(s.size - offset))
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
