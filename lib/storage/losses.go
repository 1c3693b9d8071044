package storage

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path/filepath"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/wal"
)

const (
	lossesMagic   = "vmll"
	lossesVersion = 1
	// maxLosses bounds the list; the oldest ones are joined beyond it.
	maxLosses = 256
)

// loss is what a segment of the log, or some that follow each other, has lost.
type loss struct {
	segment  uint64 // first
	segments uint64 // how many
	bytes    int64  // unreadable; 0 when the files are missing
	rows     int64  // readable samples which nobody can attribute any more
	r        model.TimeRange
}

// losses are a list by first segment.
type losses []loss

// add adds a loss, and joins it with that of the same segment.
func (l losses) add(x loss) losses {
	at := len(l)
	for i := range l {
		if l[i].segment == x.segment {
			old := &l[i]
			*old = loss{
				segment: x.segment, segments: max(old.segments, x.segments), bytes: max(old.bytes, x.bytes), rows: max(old.rows, x.rows), r: hull(old.r, x.r),
			}
			return l
		}
		if l[i].segment > x.segment {
			at = min(at, i)
		}
	}
	l = append(l[:at:at], append(losses{x}, l[at:]...)...)
	for len(l) > maxLosses {
		a, b := &l[0], &l[1]
		*b = loss{segment: a.segment, segments: b.segment + b.segments - a.segment, bytes: a.bytes + b.bytes, rows: a.rows + b.rows, r: hull(a.r, b.r)}
		l = l[1:]
	}
	return l
}

// hull returns the smallest range around two.
func hull(a, b model.TimeRange) model.TimeRange {
	return model.TimeRange{Min: min(a.Min, b.Min), Max: max(a.Max, b.Max)}
}

// appendLosses appends the contents of the file.
func appendLosses(dst []byte, l losses) []byte {
	start := len(dst)
	dst = append(dst, lossesMagic...)
	dst = append(dst, lossesVersion)
	dst = codec.AppendUvarint(dst, uint64(len(l)))
	for _, x := range l {
		dst = codec.AppendUvarint(dst, x.segment)
		dst = codec.AppendUvarint(dst, x.segments)
		for _, v := range [4]int64{x.bytes, x.rows, x.r.Min, x.r.Max} {
			dst = codec.AppendVarint(dst, v)
		}
	}
	return binary.LittleEndian.AppendUint32(dst, codec.Checksum(dst[start:]))
}

// parseLosses is the reverse of appendLosses. Errors are of kind Corrupt or Unsupported.
func parseLosses(src []byte) (losses, error) {
	const header = len(lossesMagic) + 1
	if len(src) < header+4 || string(src[:len(lossesMagic)]) != lossesMagic {
		return nil, errkind.New(errkind.Corrupt, "it does not start with %q", lossesMagic)
	}
	body, sum := src[:len(src)-4], binary.LittleEndian.Uint32(src[len(src)-4:])
	if got := codec.Checksum(body); got != sum {
		return nil, errkind.New(errkind.Corrupt, "its checksum is %08x; want %08x", got, sum)
	}
	if v := src[len(lossesMagic)]; v != lossesVersion {
		return nil, errkind.New(errkind.Unsupported, "it has version %d and this program knows %d; run the program which wrote it", v, lossesVersion)
	}
	count, tail, err := codec.CutUvarint(body[header:])
	if err != nil {
		return nil, err
	}
	if count > maxLosses {
		return nil, errkind.New(errkind.Corrupt, "it has %d entries; the limit is %d", count, maxLosses)
	}
	l := make(losses, count)
	for i := range l {
		if tail, err = l[i].cut(tail); err != nil {
			return nil, err
		}
	}
	if len(tail) > 0 {
		return nil, errkind.New(errkind.Corrupt, "%d bytes are left at its end", len(tail))
	}
	return l, nil
}

// cut reads an entry from the start of src.
func (x *loss) cut(src []byte) (tail []byte, err error) {
	for _, v := range [2]*uint64{&x.segment, &x.segments} {
		if *v, src, err = codec.CutUvarint(src); err != nil {
			return nil, err
		}
	}
	for _, v := range [4]*int64{&x.bytes, &x.rows, &x.r.Min, &x.r.Max} {
		if *v, src, err = codec.CutVarint(src); err != nil {
			return nil, err
		}
	}
	return src, nil
}

func (s *Storage) lossesPath() string { return filepath.Join(s.cfg.DataPath, "wal", "lost") }

// loadLosses reads what earlier starts have found lost in the log. It is told again until the operator deletes the file.
func (s *Storage) loadLosses() error {
	path := s.lossesPath()
	data, err := s.fs.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list losses
	if err == nil {
		list, err = parseLosses(data)
	}
	switch errkind.Of(err) {
	case errkind.OK:
	case errkind.Unsupported:
		return errkind.New(errkind.Unsupported, "cannot read %q: %w", path, err)
	default:
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		s.logger.Errorf("cannot read %q, which tells what the log has lost: %s; all answers are marked partial; delete the file and restart to accept the loss", path, err)
		s.m.damagedReads.Inc()
		s.losses = losses{{segment: 1, segments: 1, r: allTime()}}
		return nil
	}
	keep := s.retained()
	for _, x := range list {
		if x.r.Max >= keep.Min {
			s.losses = append(s.losses, x)
		}
	}
	if len(s.losses) == 0 {
		return s.fs.Remove(path)
	}
	all := s.losses[0].r
	for _, x := range s.losses {
		all = hull(all, x.r)
	}
	s.logger.Errorf("the log has lost samples of %s in %d places, as told by an earlier start; answers over these times are marked partial; delete %q and restart to accept the loss",
		all, len(s.losses), path)
	return nil
}

// saveLosses keeps the list for the next start. A disk that is full or broken does not keep the node from serving what there is.
func (s *Storage) saveLosses() {
	path := s.lossesPath()
	if err := vfs.WriteFileDurable(s.fs, path, appendLosses(nil, s.losses)); err != nil {
		s.logger.Errorf("cannot write %q; after the next start answers over the times which the log has lost will not be marked partial: %s", path, err)
	}
}

// lostInLog returns an error of kind Corrupt when the log has lost samples which may have been in r.
func (s *Storage) lostInLog(r model.TimeRange) error {
	for i := range s.losses {
		if x := &s.losses[i]; x.r.Overlaps(r) {
			return errkind.New(errkind.Corrupt, "cannot serve all samples of %s: %d log segments from %d on are damaged or missing; delete %q and restart to accept the loss",
				x.r, x.segments, x.segment, s.lossesPath())
		}
	}
	return nil
}

// timeSpan collects the range of timestamps.
type timeSpan struct {
	model.TimeRange
	any bool
}

func (s *timeSpan) add(r model.TimeRange) {
	if s.any {
		r = hull(s.TimeRange, r)
	}
	s.TimeRange, s.any = r, true
}

// segmentSpan are the times of the readable samples of a log segment.
type segmentSpan struct {
	number           uint64
	all, first, last timeSpan // of all its frames, of the first and of the last one which have samples
}

// lossBounds says how far a loss can reach where no sample before or behind it is known.
type lossBounds struct {
	ageMs int64           // the log is flushed when its oldest samples are older
	inAll model.TimeRange // nothing beyond was taken
}

// span returns the times that the samples of segments [from, to] may have had which are lost: those of what is left of
// them, widened to the nearest frames before and behind, since samples mostly arrive in the order of time. Late samples may lie outside.
func span(list []segmentSpan, from, to uint64, b lossBounds) model.TimeRange {
	var before, inside, behind timeSpan
	for i := range list {
		x := &list[i]
		switch {
		case !x.all.any:
		case x.number < from:
			before = x.last
		case x.number <= to:
			inside.add(x.all.TimeRange)
		case !behind.any:
			behind = x.first
		}
	}
	around := inside
	if behind.any {
		around.add(behind.TimeRange)
	} else if before.any || inside.any { // up to now
		around.add(model.TimeRange{Min: b.inAll.Max, Max: b.inAll.Max})
	}
	if before.any {
		around.add(before.TimeRange)
	} else if around.any {
		around.add(model.TimeRange{Min: around.Min - b.ageMs, Max: around.Min - b.ageMs})
	}
	if !around.any {
		return b.inAll
	}
	return around.TimeRange
}

// note tells of a damage of the log and remembers it.
func (r *replayer) note(d wal.Damage) {
	x := loss{segment: d.Segment, segments: max(1, d.Missing), bytes: d.LostBytes}
	x.r = span(r.spans, x.segment, x.segment+x.segments-1, lossBounds{
		ageMs: r.s.cfg.HeadMaxAge.D().Milliseconds(),
		inAll: model.TimeRange{Min: r.keep.Min, Max: r.s.o.Now().UnixMilli()},
	})
	r.s.logger.Errorf("%s; samples of %s may be lost, and answers over that time are marked partial; check the disk; delete %q and restart to accept the loss", d, x.r, r.s.lossesPath())
	r.s.losses = r.s.losses.add(x)
}
