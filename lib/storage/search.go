package storage

import (
	"bytes"
	"context"
	"errors"
	"math"
	"runtime/debug"
	"slices"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

// checkEvery is the number of series after which a search looks whether it has been given up.
const checkEvery = 256

// Search implements storageapi.Searcher.
func (s *Storage) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.m.searches.Inc()
	readable, err := s.readable(q.Range)
	if err != nil {
		return nil, err
	}
	if err := checkWish(q); err != nil {
		return nil, err
	}
	it := &iterator{
		s: s, ctx: ctx, r: readable, keysOnly: q.KeysOnly, aspect: q.Aspect, detail: q.Detail, histograms: q.Histograms, cutting: readable != q.Range, next: -1,
	}
	if q.Histograms == model.HistogramParts && !q.KeysOnly {
		it.baseFilters = baseFilters(q.Filters)
	}
	if q.Detail != model.AllSamples {
		it.newest = s.takeNewest(readable)
	}
	inside := *q
	inside.Range = readable
	step := trace.From(ctx).Begin("find the series in the index")
	if err := it.find(&inside); err != nil {
		return nil, errors.Join(err, it.Close())
	}
	if step != nil {
		it.trace(step)
	}
	s.noteSearch(it)
	return it, nil
}

// seriesLimit returns the largest number of series an answer may have.
func (s *Storage) seriesLimit(asked int) int {
	if asked <= 0 {
		return s.maxSeries
	}
	return min(asked, s.maxSeries)
}

// indexQuery returns the part of q which concerns one month; false when there is none.
func indexQuery(q *model.SearchQuery, m partition.Month, limit int) (index.Query, bool) {
	month := m.Range()
	first, last := max(q.Range.Min, month.Min), min(q.Range.Max, month.Max)
	if first > last {
		return index.Query{}, false
	}
	return index.Query{Tenant: q.Tenant, Filters: q.Filters, FirstDay: unixDay(first), LastDay: unixDay(last), Max: limit}, true
}

func unixDay(t int64) int32 { return int32(math.Floor(float64(t) / dayMs)) }

// found is a series of an answer in one partition.
type found struct {
	keyStart, keyEnd int // in iterator.keys
	id               uint32
	view             int32 // in iterator.views
}

// iterator walks over the answer of a search. All keys are known from the start;
// samples are collected series by series.
type iterator struct {
	s        *Storage
	ctx      context.Context
	r        model.TimeRange
	keysOnly bool
	aspect   model.Aspect
	detail   model.Detail
	newest   *newest // nil when all samples are wanted

	histograms  model.Histograms
	baseFilters [][]model.TagFilter       // see addBases
	bases       map[int32]*roaring.Bitmap // by view; nil for none

	shorter  map[int][]shorter // by view; nil unless -retentionFilter cuts some series
	keys     []byte
	found    []found // by key, then by month
	views    []*partition.View
	reserved int64 // bytes of the budget

	next     int // in found; -1 before the first step
	steps    int
	series   storageapi.Series
	blocks   []tsblock.Block
	buf      []byte
	pinned   []byte // columns of the current series, see pin
	times    []int64
	cutting  bool // samples outside of retention are asked for
	cut      tsblock.Samples
	cutOff   tsblock.HistogramSamples
	encoder  tsblock.Encoder
	scratch  tsblock.Scratch
	err      error
	coverage storageapi.Coverage
	closed   bool
	reads    *tracedReads // nil: nobody traces
}

// find collects the series of all months.
func (it *iterator) find(q *model.SearchQuery) error {
	partitions := it.s.acquire(q.Range)
	err := it.findIn(partitions, q)
	if err = errors.Join(err, release(partitions)); err != nil {
		return err
	}
	if limit, n := it.s.seriesLimit(q.MaxSeries), it.order(); n > limit { // the index has counted by month
		return errkind.New(errkind.Unprocessable, "cannot select %d series: the limit is %d; narrow the filters or the time range, or raise -search.maxUniqueTimeseries", n, limit)
	}
	return nil
}

func (it *iterator) findIn(partitions []*partition.Partition, q *model.SearchQuery) error {
	limit := it.s.seriesLimit(q.MaxSeries)
	it.note(it.s.lostInLog(q.Range))
	for _, p := range partitions {
		if err := it.check(); err != nil {
			return err
		}
		iq, ok := indexQuery(q, p.Month(), limit)
		if !ok {
			continue
		}
		if it.note(p.Lost(q.Range)); it.err != nil {
			return it.err
		}
		ids, err := p.Index().Search(it.ctx, iq)
		if err == nil {
			ids, err = it.addBases(p, iq, ids)
		}
		if it.note(err); it.err != nil {
			return it.err
		}
		if err != nil { // the answer is partial
			continue
		}
		if ids.IsEmpty() {
			continue
		}
		// The view is taken after the search: it has all samples that the days in the index told of.
		it.views = append(it.views, p.View(q.Range))
		if err := it.noteShorter(p, q.Tenant); err != nil {
			return err
		}
		var stopped error
		err = p.Index().Keys(it.ctx, ids, func(id uint32, key []byte) bool {
			stopped = it.add(id, key)
			return stopped == nil
		})
		if it.note(errors.Join(err, stopped)); it.err != nil {
			return it.err
		}
	}
	return nil
}

func (it *iterator) add(id uint32, key []byte) error {
	if len(it.found)%checkEvery == 0 {
		if err := it.check(); err != nil {
			return err
		}
	}
	if len(it.keys)+len(key) > cap(it.keys) || len(it.found) == cap(it.found) {
		if err := it.grow(len(key)); err != nil {
			return err
		}
	}
	start := len(it.keys)
	it.keys = append(it.keys, key...)
	it.found = append(it.found, found{keyStart: start, keyEnd: len(it.keys), id: id, view: int32(len(it.views) - 1)})
	return nil
}

// grow makes room for at least one more series within the memory budget.
func (it *iterator) grow(keySize int) error {
	keys, series := cap(it.keys), cap(it.found)
	if len(it.keys)+keySize > keys {
		keys = max(4096, 2*keys, len(it.keys)+keySize)
	}
	if len(it.found) == series {
		series = max(64, 2*series)
	}
	need := int64(keys) + int64(series)*int64(2*unsafe.Sizeof(found{})+8) // twice, and ranks, to be sorted
	if err := it.s.o.Budget.ReserveMore(need-it.reserved, it.reserved, "a search"); err != nil {
		return err
	}
	it.reserved = need
	it.keys = slices.Grow(it.keys, keys-len(it.keys))
	it.found = slices.Grow(it.found, series-len(it.found))
	return nil
}

func (it *iterator) key(i int) []byte { return it.keyOf(&it.found[i]) }

func (it *iterator) keyOf(f *found) []byte { return it.keys[f.keyStart:f.keyEnd:f.keyEnd] }

// check returns why the search must stop.
func (it *iterator) check() error {
	if it.s.closed.Load() {
		return it.s.drainingErr()
	}
	return it.ctx.Err()
}

// Next implements storageapi.SeriesIterator.
func (it *iterator) Next() bool {
	if it.closed || it.err != nil {
		return false
	}
	it.next = max(0, it.next)
	for it.next < len(it.found) {
		if it.steps%checkEvery == 0 {
			if it.err = it.check(); it.err != nil {
				return false
			}
		}
		it.steps++
		if ok := it.collect(); it.err != nil || ok {
			return it.err == nil
		}
	}
	return false
}

// collect makes the series at it.next current and moves on; false when it has no sample in the range.
func (it *iterator) collect() bool {
	it.series.Key = it.key(it.next)
	base := it.isBase(&it.found[it.next])
	it.blocks, it.buf, it.pinned = it.blocks[:0], it.buf[:0], it.pinned[:0]
	for ; it.next < len(it.found) && bytes.Equal(it.key(it.next), it.series.Key); it.next++ {
		if it.keysOnly {
			continue
		}
		f := &it.found[it.next]
		var err error
		it.blocks, err = it.read(f)
		if it.note(err); it.err != nil {
			return false
		}
	}
	if it.keysOnly {
		it.series.Blocks = nil
		return true
	}
	if base && !slices.ContainsFunc(it.blocks, isHistograms) {
		return false
	}
	if it.cutting {
		it.blocks = it.cutBlocks(it.blocks, 0, it.r.Min)
	}
	it.series.Blocks = it.blocks
	tsblock.SortBlocks(it.blocks)
	if it.reads != nil {
		it.reads.count(it.blocks)
	}
	if !it.hasSample() {
		return false
	}
	if it.newest != nil {
		it.reduceToNewest()
	}
	return true
}

// read appends the blocks of a series in one month. A part that was truncated behind our back is damage.
func (it *iterator) read(f *found) (blocks []tsblock.Block, err error) {
	blocks = it.blocks
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		if fault := vfs.AsFault(recover()); fault != nil {
			blocks, err = it.blocks, it.views[f.view].FaultErr(fault)
		}
	}(debug.SetPanicOnFault(true))
	r := model.TimeRange{Min: it.readableFrom(f), Max: it.r.Max}
	if r.Min > r.Max {
		return blocks, nil
	}
	n := len(blocks)
	blocks, err = it.views[f.view].AppendBlocks(blocks, &it.buf, f.id, r, it.histograms != model.NoHistograms)
	blocks = it.selectAsked(blocks, n)
	if r.Min > it.r.Min {
		blocks = it.cutBlocks(blocks, n, r.Min)
	}
	it.pin(blocks[n:])
	return blocks, err
}

// pin copies the columns of blocks, which may lie in mapped files. Who uses the blocks need not be ready for pages which
// cannot be read: that is found out here.
func (it *iterator) pin(blocks []tsblock.Block) {
	for i := range blocks {
		b := &blocks[i]
		start := len(it.pinned)
		it.pinned = append(it.pinned, b.Timestamps...)
		middle := len(it.pinned)
		it.pinned = append(it.pinned, b.Values...)
		end := len(it.pinned)
		b.Timestamps, b.Values = it.pinned[start:middle:middle], it.pinned[middle:end:end]
	}
}

// note takes an error of reading blocks. Damage makes the answer partial, anything else ends it.
func (it *iterator) note(err error) {
	switch {
	case err == nil:
	case errkind.Of(err) != errkind.Corrupt:
		it.err = err
	case !it.coverage.Partial:
		it.coverage = it.s.partial(err)
	}
}

// partial counts and reports damage, and returns what it does to an answer.
func (s *Storage) partial(damage error) storageapi.Coverage {
	s.m.damagedReads.Inc()
	s.damageWarn.Warnf("an answer lacks samples or series: %s", damage)
	return storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: s.cfg.DataPath, Err: damage}}}
}

// hasSample reports whether a sample lies in the range. First and last
// timestamp of a block are those of samples, so only blocks around the whole range are decoded.
func (it *iterator) hasSample() bool {
	for i := range it.blocks {
		if it.r.Contains(it.blocks[i].MinTimestamp) || it.r.Contains(it.blocks[i].MaxTimestamp) {
			return true
		}
	}
	for i := range it.blocks {
		var err error
		it.times, err = it.blocks[i].DecodeTimestamps(it.times[:0])
		if err != nil {
			it.note(err)
			continue
		}
		at, _ := slices.BinarySearch(it.times, it.r.Min)
		if at < len(it.times) && it.times[at] <= it.r.Max {
			return true
		}
	}
	return false
}

// At implements storageapi.SeriesIterator.
func (it *iterator) At() *storageapi.Series { return &it.series }

// Err implements storageapi.SeriesIterator.
func (it *iterator) Err() error { return it.err }

// Coverage implements storageapi.SeriesIterator.
func (it *iterator) Coverage() storageapi.Coverage { return it.coverage }

// Close implements storageapi.SeriesIterator.
func (it *iterator) Close() error {
	if it.closed {
		return nil
	}
	it.closed = true
	it.reads.end()
	var errs []error
	for _, v := range it.views {
		errs = append(errs, v.Release())
	}
	it.views, it.found, it.keys, it.blocks, it.buf, it.pinned = nil, nil, nil, nil, nil, nil
	if it.newest != nil {
		it.s.newests.Put(it.newest)
		it.newest, it.series = nil, storageapi.Series{}
	}
	it.s.o.Budget.Release(it.reserved)
	it.reserved = 0
	return errors.Join(errs...)
}
