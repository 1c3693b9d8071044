package storage

import (
	"context"
	"sync"
	"time"

	"vmcluster/lib/errkind"
)

// What the storage has in memory and how it keeps that within the budget, see docs/design/0018-memory.md.

const (
	// indexShare is the part of the budget from which series that are not flushed yet are written to an index segment.
	indexShare = 16
	// indexRestBytes is the size from which they are written once hardly any come any more: from then on they are on disk, in a
	// fraction of the space and outside of the process, and lookups for samples do not need them.
	indexRestBytes = 4 << 20
	// indexRestRounds is the number of rounds of watchLoop in which less than one in indexRestGrowth was added.
	indexRestRounds = 3
	indexRestGrowth = 64
)

// indexWatch decides when new series are written to the indexes apart from samples.
type indexWatch struct {
	mu      sync.Mutex
	series  [indexRestRounds]int // that were not flushed, in the last rounds
	round   int
	retryAt time.Time
}

// due takes a reading of what is not flushed and reports whether it should be.
func (w *indexWatch) due(sizeBytes int64, series int, limitBytes int64, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	oldest := &w.series[w.round%indexRestRounds]
	w.round++
	grown := series - *oldest
	*oldest = series
	if series == 0 || now.Before(w.retryAt) {
		return false
	}
	if sizeBytes >= max(limitBytes/indexShare, indexRestBytes/4) {
		return true
	}
	return sizeBytes >= indexRestBytes && grown >= 0 && grown <= series/indexRestGrowth
}

// failed puts the next try off.
func (w *indexWatch) failed(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retryAt = now.Add(flushRetry)
}

// watchIndexes brings what is reserved for indexes and the hot table up to date, and has new series written when it is time. They grow
// by known amounts per series, so a look each second is enough.
func (s *Storage) watchIndexes() {
	held := int64(s.hot.sizeBytes())
	unflushed, series := int64(0), 0
	tight := s.o.Budget.Used() > s.o.Budget.Limit()
	partitions := s.acquire(allTime())
	for _, p := range partitions {
		if tight {
			p.ForgetKeyOrder()
		}
		held += p.Index().HeapBytes() + p.KeyOrder().SizeBytes()
		size, n := p.Index().HeadBytes()
		unflushed += size
		series += n
	}
	s.noteErr("close", release(partitions))
	s.setTableBytes(held)
	if s.indexes.due(unflushed, series, s.o.Budget.Limit(), time.Now()) && s.log.Err() == nil && !s.readOnly.Load() {
		poke(s.indexSoon)
	}
}

// setTableBytes reserves so much for indexes and the hot table in place of what was reserved before.
func (s *Storage) setTableBytes(held int64) {
	before := s.tableBytes.Swap(held)
	if held >= before {
		s.o.Budget.ForceReserve(held - before)
		return
	}
	s.o.Budget.Release(before - held)
}

// flushIndexes writes new series to index segments. The log keeps their records until the samples are flushed: replaying them is harmless.
func (s *Storage) flushIndexes() {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	partitions := s.acquire(allTime())
	defer func() { s.noteErr("close", release(partitions)) }()
	for _, p := range partitions {
		_, series := p.Index().HeadBytes()
		if series == 0 {
			continue
		}
		err := s.reserveWhile(int64(series), p.Index().Flush)
		if err == nil {
			continue
		}
		s.indexes.failed(time.Now())
		s.m.flushErrors.Inc()
		if diskFull(err) {
			s.enterReadOnly(err)
		}
		s.logger.Errorf("cannot flush new series; they are safe in the log and in memory, and the next try is in %s: %s", flushRetry, err)
		return
	}
	s.askMerge()
}

// crowded reports whether what is taken in would have to be kept in memory beyond the budget. It does so for as long only as something is
// being written that gives memory back: a process that is allowed too little for its tables goes on with a head of headLeast.
func (s *Storage) crowded() bool {
	n := s.headBytes.Load()
	return n > 2*s.maxHeadBytes || n > s.headLeast() && s.o.Budget.Used() > s.o.Budget.Limit()
}

// headLeast is the size up to which samples are taken whatever the rest of the process needs.
func (s *Storage) headLeast() int64 { return s.maxHeadBytes / 2 }

// A writer waits so long for a flush to make room, looking so often: what is refused has been decoded for nothing, and comes again.
const (
	roomWait = 2 * time.Second
	roomLook = 5 * time.Millisecond
)

// awaitRoom waits while there is no room for more samples and a flush may make some. The writers which may be under way at a time are few, so
// who waits makes the others wait at the door.
func (s *Storage) awaitRoom(ctx context.Context) error {
	ticker := time.NewTicker(roomLook)
	defer ticker.Stop()
	for deadline := time.Now().Add(roomWait); s.crowded(); {
		s.askFlush()
		if s.flushOwed.Load() || time.Now().After(deadline) {
			return s.errCrowded()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return s.drainingErr()
		case <-ticker.C:
		}
	}
	return nil
}

// errCrowded asks for a flush and returns an error of kind Overloaded, for clients to send again.
func (s *Storage) errCrowded() error {
	s.askFlush()
	return errkind.New(errkind.Overloaded, "storage %q has %d bytes of recent samples in memory, which are being written to disk, and %d of the %d bytes of memory it may use are in use; "+
		"try again later, or raise -memory.allowedPercent or -memory.allowedBytes", s.cfg.DataPath, s.headBytes.Load(), s.o.Budget.Used(), s.o.Budget.Limit()).WithRetryAfter(time.Second)
}

// flushSeriesBytes is what writing a series to a part, or to a segment of the index, takes in memory: its place in the order, and in the tables of
// the file.
const flushSeriesBytes = 28

// reserveWhile reserves what writing so many series takes while f does it.
func (s *Storage) reserveWhile(series int64, f func() error) error {
	n := max(0, series) * flushSeriesBytes
	s.o.Budget.ForceReserve(n)
	defer s.o.Budget.Release(n)
	return f()
}
