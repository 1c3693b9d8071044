package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/wal"
)

// replay puts what the log holds into heads and indexes. Doing so twice, or with samples
// that are in parts already, is harmless.
func (s *Storage) replay() error {
	r := &replayer{s: s, keep: s.retained(), refused: map[uint64]bool{}}
	err := s.openLog(r)
	if err != nil {
		return err
	}
	report, err := s.log.Replay(r.frame)
	if err != nil {
		return err
	}
	r.settleLosses()
	if n := len(s.table.Load().sorted); report.Created && n > 0 {
		s.logger.Warnf("the log in %q is new, though there are data of %d months; that is right after restoring a backup; otherwise its files were removed, and samples which had not been moved to data files are lost",
			filepath.Dir(s.lossesPath()), n)
	}
	if err := s.countReplayed(); err != nil {
		return err
	}
	if r.rows > 0 {
		s.logger.Infof("recovered %d samples from %d log segments", r.rows, report.Segments)
	}
	return nil
}

// openLog opens the log, which tells r of damage when it is replayed.
func (s *Storage) openLog(r *replayer) (err error) {
	s.log, err = wal.Open(wal.Options{
		FS: s.fs, Dir: filepath.Join(s.cfg.DataPath, "wal", "0"), Logger: s.logger, Metrics: s.o.Metrics,
		OnDamage:  func(d wal.Damage) { r.damage = append(r.damage, d) },
		OnSegment: func(number uint64) { r.spans = append(r.spans, segmentSpan{number: number}) },
	})
	return err
}

// settleLosses tells what was lost, and of which time, once the whole log is known.
func (r *replayer) settleLosses() {
	s := r.s
	for _, d := range r.damage {
		r.note(d)
	}
	if r.lost > 0 {
		s.m.lostRows.Add(r.lost)
		s.logger.Errorf("%d samples of %s in the log are lost, since the records of their series are in a damaged place or contradict the index; answers over that time are marked partial; "+
			"delete %q and restart to accept the loss", r.lost, r.lostSpan.TimeRange, s.lossesPath())
		s.losses = s.losses.add(loss{segment: r.lostSegment, segments: 1, rows: int64(r.lost), r: r.lostSpan.TimeRange})
	}
	if len(r.damage) > 0 || r.lost > 0 {
		s.saveLosses()
	}
}

// replayer is a wal.FrameVisitor.
type replayer struct {
	s       *Storage
	keep    model.TimeRange
	decoder wal.FrameDecoder
	samples []model.Sample
	key     []byte
	rows    int
	lost    int
	full    bool            // the disk took no parts
	refused map[uint64]bool // month and id of series whose records contradict the index

	damage      []wal.Damage
	spans       []segmentSpan // the last one is that being replayed
	inFrame     timeSpan
	lostSpan    timeSpan // of samples counted by lost
	lostSegment uint64   // of the first of them

	// The month being replayed.
	month     uint32
	partition *partition.Partition // nil before the first, and for a month outside of retention
	deleted   *roaring.Bitmap      // series of the month; nil for none
	inMonth   model.TimeRange
	delta     head.Delta // not yet accounted for
}

func (r *replayer) frame(frame []byte) error {
	r.inFrame = timeSpan{}
	err := r.decoder.Decode(frame, r)
	r.settle()
	r.settleSpan()
	if errkind.Of(err) == errkind.Corrupt {
		r.s.logger.Errorf("a frame of the log is skipped from a damaged place on: %s", err)
		return nil
	}
	if err != nil {
		return err
	}
	if r.s.headBytes.Load() <= r.s.maxHeadBytes {
		return nil
	}
	return r.relieve()
}

// settleSpan adds the times of a frame to those of its segment.
func (r *replayer) settleSpan() {
	if !r.inFrame.any {
		return
	}
	x := &r.spans[len(r.spans)-1]
	x.all.add(r.inFrame.TimeRange)
	x.last = r.inFrame
	if !x.first.any {
		x.first = r.inFrame
	}
}

// settle accounts for what was appended.
func (r *replayer) settle() {
	if r.partition != nil && r.delta.Rows > 0 {
		r.s.account(r.partition, r.partition.Head(), &r.delta)
	}
	r.delta.Reset()
}

// relieve writes the heads to parts, since the log is larger than memory. The log stays as it is. On a full disk everything stays in
// memory, which takes more than its share then: the node can be read, and takes samples once there is space.
func (r *replayer) relieve() error {
	if r.full {
		return nil
	}
	if err := r.s.countReplayed(); err != nil {
		return err
	}
	for _, p := range r.s.table.Load().sorted {
		p.Freeze()
	}
	err := r.s.flushFrozen(context.Background())
	if diskFull(err) {
		r.full = true
		r.s.flushOwed.Store(true)
		r.s.logger.Warnf("recovered samples stay in memory, since the disk is full: %s", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot write recovered samples to parts: %w", err)
	}
	return nil
}

// enter makes a month current.
func (r *replayer) enter(month uint32) (err error) {
	if month == r.month && r.inMonth.Max != 0 {
		return nil
	}
	r.settle()
	m := partition.Month(month)
	if !m.Valid() {
		return errkind.New(errkind.Corrupt, "bad month %d", month)
	}
	r.partition, r.deleted = nil, nil
	if m.Range().Max >= r.keep.Min {
		if r.partition, err = r.s.partitionOf(m); err != nil {
			return err
		}
		r.deleted = r.partition.Index().Deleted()
	}
	r.month, r.inMonth = month, m.Range()
	return nil
}

// Series implements wal.FrameVisitor.
func (r *replayer) Series(month, id uint32, key []byte) error {
	if err := r.enter(month); r.partition == nil || err != nil {
		return err
	}
	err := r.partition.Index().Restore(id, key)
	slot := uint64(month)<<32 | uint64(id)
	if errkind.Of(err) != errkind.Corrupt {
		delete(r.refused, slot)
		return err
	}
	// The samples of this id which follow are not those of the series that the index knows by it.
	r.refused[slot] = true
	r.partition.Index().Reserve(uint64(id) + 1)
	r.s.logger.Errorf("the samples of a series in the log are lost: %s", err)
	return nil
}

// Samples implements wal.FrameVisitor.
func (r *replayer) Samples(month, id uint32, timestamps []int64, values []float64) error {
	if wanted, err := r.wants(month, id, timestamps); !wanted {
		return err
	}
	r.samples = r.samples[:0]
	for i, t := range timestamps {
		r.samples = append(r.samples, model.Sample{Timestamp: t, Value: values[i]})
	}
	r.partition.Head().Append(id, r.samples, &r.delta)
	r.rows += len(timestamps)
	return nil
}

// Histogram implements wal.FrameVisitor.
func (r *replayer) Histogram(month, id uint32, timestamp int64, payload []byte) error {
	if wanted, err := r.wants(month, id, []int64{timestamp}); !wanted {
		return err
	}
	if len(payload) > tsblock.MaxHistogramBytes {
		return errkind.New(errkind.Corrupt, "native histogram of %d bytes", len(payload))
	}
	r.partition.Head().AppendHistograms(id, []model.Histogram{{Timestamp: timestamp, Payload: payload}}, &r.delta)
	r.rows++
	return nil
}

// wants makes a month current and reports whether samples of a series at these times go to its head. It counts those that are lost.
func (r *replayer) wants(month, id uint32, timestamps []int64) (ok bool, err error) {
	if err := r.enter(month); r.partition == nil || err != nil {
		return false, err
	}
	if r.deleted != nil && r.deleted.Contains(id) {
		return false, nil
	}
	times := model.TimeRange{Min: slices.Min(timestamps), Max: slices.Max(timestamps)}
	r.inFrame.add(times)
	if known, err := r.known(month, id); !known {
		if r.lost == 0 {
			r.lostSegment = r.spans[len(r.spans)-1].number
		}
		r.lost += len(timestamps)
		r.lostSpan.add(times)
		return false, err
	}
	for _, t := range [2]int64{times.Min, times.Max} {
		if !r.inMonth.Contains(t) {
			return false, errkind.New(errkind.Corrupt, "timestamp %d in partition %s", t, r.partition.Month())
		}
	}
	return true, nil
}

// known reports whether the series of a sample is known. The id of one which is not must never be given to another:
// the log, which is replayed as a whole, would attribute the sample to that.
func (r *replayer) known(month, id uint32) (ok bool, err error) {
	if len(r.refused) > 0 && r.refused[uint64(month)<<32|uint64(id)] {
		return false, nil
	}
	if r.partition.Head().Has(id) {
		return true, nil
	}
	r.key, err = r.partition.Index().AppendKey(r.key[:0], id)
	switch errkind.Of(err) {
	case errkind.OK:
		return true, nil
	case errkind.NotFound:
		r.partition.Index().Reserve(uint64(id) + 1)
		return false, nil
	}
	// Not of kind Corrupt, since the log is not to blame.
	return false, errkind.New(errkind.Internal, "cannot look up a series of the log: %w", err)
}
