package storage

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/vfs"
)

// watchInterval is the time between looks at disk space, and at the age and size of heads and log.
const watchInterval = time.Second

// flushRetry is the time between a failed flush and the next try.
const flushRetry = 10 * time.Second

// Flush implements storageapi.Admin.
func (s *Storage) Flush(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	return s.flush(ctx)
}

// flush moves all samples taken so far from heads to parts and shortens the log.
func (s *Storage) flush(ctx context.Context) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	return s.flushTimed(ctx)
}

// flushTimed is flush for callers that hold flushing.
func (s *Storage) flushTimed(ctx context.Context) error {
	start := time.Now()
	err := s.flushLocked(ctx)
	s.m.flushSeconds.UpdateDuration(start)
	s.flushOwed.Store(err != nil)
	if err == nil {
		s.m.flushes.Inc()
		return nil
	}
	s.m.flushErrors.Inc()
	if diskFull(err) {
		s.enterReadOnly(err)
	}
	return err
}

func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// enterReadOnly refuses samples until checkSpace finds that the disk can be written again.
func (s *Storage) enterReadOnly(cause error) {
	if !s.readOnly.Swap(true) {
		s.logger.Warnf("storage %q enters read-only mode, since the disk is full: %s", s.cfg.DataPath, cause)
	}
}

func (s *Storage) flushLocked(ctx context.Context) error {
	// What an earlier flush has left frozen goes first, so that failing flushes do not pile up heads.
	if err := s.flushFrozen(ctx); err != nil {
		return err
	}
	segment, err := s.freeze()
	if err != nil {
		return err
	}
	s.hot.rotate()
	if err := s.flushFrozen(ctx); err != nil {
		return err
	}
	s.saveSeriesLimits()
	if err := s.log.RemoveBefore(segment); err != nil {
		return err
	}
	s.settle()
	return nil
}

// settle tells the partitions that the log is gone up to the last freeze. The caller holds flushing.
func (s *Storage) settle() {
	for _, p := range s.table.Load().sorted {
		p.Settle()
	}
}

// freeze starts a new log segment and freezes all heads, as one step between two batches.
func (s *Storage) freeze() (segment uint64, err error) {
	s.flushLock.Lock()
	defer s.flushLock.Unlock()
	if segment, err = s.log.Rotate(); err != nil {
		return 0, err
	}
	for _, p := range s.table.Load().sorted {
		p.Freeze()
		p.MarkCut()
	}
	s.headSince.Store(0)
	return segment, nil
}

// flushFrozen writes all frozen heads to parts. The caller holds flushing, so no partition goes away.
func (s *Storage) flushFrozen(ctx context.Context) error {
	partitions := s.acquire(allTime())
	var err error
	for _, p := range partitions {
		var freed int64
		err = s.reserveWhile(p.Stats().FrozenSeries, func() (err error) {
			freed, err = p.FlushFrozen(ctx, s.retained())
			return err
		})
		s.headBytes.Add(-freed)
		s.o.Budget.Release(freed)
		if err != nil {
			break
		}
	}
	return errors.Join(err, release(partitions))
}

func (s *Storage) askFlush() { poke(s.flushSoon) }
func (s *Storage) askMerge() { poke(s.mergeSoon) }

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// flushLoop flushes when asked and due, and tries again after failures.
func (s *Storage) flushLoop() {
	failed := false
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.indexSoon:
			s.flushIndexes()
			continue
		case <-s.flushSoon:
		}
		// Somebody may have asked during the last flush, which was the answer.
		if s.log.Err() != nil || !failed && !s.flushDue() {
			continue
		}
		err := s.flush(s.ctx)
		failed = err != nil
		switch {
		case !failed:
			s.askMerge()
		case s.ctx.Err() == nil:
			s.logger.Errorf("cannot flush recent samples; they are safe in the log and in memory, and the next try is in %s: %s", flushRetry, err)
			s.sleep(flushRetry)
			s.askFlush()
		}
	}
}

func (s *Storage) sleep(d time.Duration) {
	select {
	case <-s.ctx.Done():
	case <-time.After(d):
	}
}

// watchLoop looks after disk space, retention and when to flush.
func (s *Storage) watchLoop() {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	failed := s.log.Failed()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-failed:
			failed = nil
			if s.o.OnFailure != nil {
				s.o.OnFailure(s.log.Err())
			}
		case <-ticker.C:
			s.watch()
		}
	}
}

// watch is one round of watchLoop.
func (s *Storage) watch() {
	s.checkSpace()
	s.watchIndexes()
	if s.flushDue() {
		s.askFlush()
	}
	s.watchSnapshots()
	if err := s.dropExpired(); err != nil {
		s.logger.Errorf("cannot drop the partitions outside of retention; the next try is in %s: %s", watchInterval, err)
	}
}

func (s *Storage) flushDue() bool {
	since := s.headSince.Load()
	old := since > 0 && s.o.Now().UnixMilli()-since >= s.cfg.HeadMaxAge.D().Milliseconds()
	return old || s.flushOwed.Load() || s.headBytes.Load() > s.maxHeadBytes || s.crowded() || s.log.SizeBytes() > int64(s.cfg.LogMaxBytes)
}

// checkSpace enters and leaves read-only mode.
func (s *Storage) checkSpace() {
	space, err := s.fs.Space(s.cfg.DataPath)
	if err != nil {
		s.logger.Errorf("cannot find out how much disk space is free at %q: %s", s.cfg.DataPath, err)
		return
	}
	low := space.Free < int64(s.cfg.MinFreeDiskSpaceBytes)
	if !low && s.log.Resume() != nil {
		return // it has told why: it is full, or has failed for good
	}
	if s.readOnly.Swap(low) == low {
		return
	}
	if low {
		s.logger.Warnf("storage %q enters read-only mode: %d bytes are free, less than -storage.minFreeDiskSpaceBytes=%d", s.cfg.DataPath, space.Free, s.cfg.MinFreeDiskSpaceBytes)
		return
	}
	s.logger.Warnf("storage %q leaves read-only mode: %d bytes are free", s.cfg.DataPath, space.Free)
}

// dropExpired drops the partitions which lie outside of retention as a whole.
func (s *Storage) dropExpired() error {
	keep := s.retained()
	expired := func() *partition.Partition {
		t := s.table.Load()
		if len(t.sorted) == 0 || t.sorted[0].Month().Range().Max >= keep.Min {
			return nil
		}
		return t.sorted[0]
	}
	if expired() == nil || !s.flushing.TryLock() {
		return nil // a flush may take long, and the space on the disk has to be looked at: the next round tries again
	}
	defer s.flushing.Unlock()
	for p := expired(); p != nil; p = expired() {
		s.logDrop(p.Month(), keep)
		s.flushLock.Lock()
		s.removePartition(p.Month())
		s.forgetSeries()
		s.flushLock.Unlock()
		bytes := p.Stats().HeadBytes
		s.headBytes.Add(-bytes)
		s.o.Budget.Release(bytes)
		if err := errors.Join(p.Drop(), p.Release()); err != nil {
			return fmt.Errorf("cannot drop partition %q: %w", p.Month(), err)
		}
	}
	return nil
}

// Merge implements storageapi.Admin.
func (s *Storage) Merge(ctx context.Context, prefix string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	if len(s.cfg.DownsamplingRules) > 0 {
		// Only what the log has no copies of is downsampled.
		if err := s.flush(ctx); err != nil {
			return fmt.Errorf("cannot flush recent samples before merging: %w", err)
		}
	}
	partitions := s.acquire(allTime())
	err := s.mergeEach(ctx, partitions, prefix)
	if s.closed.Load() && err != nil {
		err = s.drainingErr()
	}
	return errors.Join(err, release(partitions))
}

func (s *Storage) mergeEach(ctx context.Context, partitions []*partition.Partition, prefix string) error {
	for _, p := range partitions {
		if !strings.HasPrefix(p.Month().String(), prefix) {
			continue
		}
		err := s.withMergeSlot(ctx, func(room int64) error {
			if err := p.MergeAll(ctx, s.retained(), room); err != nil {
				return err
			}
			return p.Index().Merge(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// withMergeSlot calls f while no other merge is running, with the bytes that it may write.
func (s *Storage) withMergeSlot(ctx context.Context, f func(room int64) error) (err error) {
	select {
	case s.mergeSlot <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.mergeSlot }()
	if err := ctx.Err(); err != nil {
		return err
	}
	space, err := s.fs.Space(s.cfg.DataPath)
	if err != nil {
		return err
	}
	defer vfs.CatchFault(debug.SetPanicOnFault(true), &err) // merges read mapped files
	// A tenth of what is left is for the log and for flushes meanwhile.
	room := space.Free - int64(s.cfg.MinFreeDiskSpaceBytes)
	return f(room - room/10)
}

// mergeLoop merges parts in the background.
func (s *Storage) mergeLoop() {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.mergeSoon:
		case <-ticker.C:
		}
		partitions := s.acquire(allTime())
		for i := len(partitions) - 1; i >= 0; i-- {
			s.mergeWhileDue(partitions[i])
		}
		s.noteErr("close", release(partitions))
	}
}

func (s *Storage) mergeWhileDue(p *partition.Partition) {
	for s.ctx.Err() == nil {
		var more bool
		err := s.withMergeSlot(s.ctx, func(room int64) error {
			return s.reserveWhile(int64(p.Stats().SeriesCount), func() (err error) {
				more, err = p.MergeNext(s.ctx, s.retained(), room)
				return err
			})
		})
		if err != nil && errkind.Of(err) != errkind.Canceled {
			s.m.mergeErrors.Inc()
			s.noteErr("merge", err)
		}
		if err != nil || !more {
			return
		}
	}
}

// noteErr logs an error which nobody waits for.
func (s *Storage) noteErr(verb string, err error) {
	if err != nil {
		s.logger.Errorf("cannot %s parts: %s", verb, err)
	}
}
