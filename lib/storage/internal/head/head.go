package head

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
)

const (
	pageSeries = 64 // series of a page: 4 KiB
	recentBits = 10
	// deltaColumns bounds the groups whose older timestamps a run of appends remembers.
	deltaColumns = 8
)

// page is a run of series ids with one lock.
type page struct {
	mu     sync.Mutex
	series *[pageSeries]series // in the arena
}

// Head holds the recent samples of one partition. It is safe for concurrent use. It is reference counted, since its
// memory is not that of Go.
type Head struct {
	refs  atomic.Int64
	rows  atomic.Int64
	bytes atomic.Int64
	count atomic.Int64
	min   atomic.Int64
	max   atomic.Int64

	pages  atomic.Pointer[[]atomic.Pointer[page]]
	groups atomic.Pointer[[]*groupPage]
	tables arena // pages
	cells  arena // all else

	recent     [1 << recentBits]atomic.Uint32 // groups by their latest timestamp, plus 1
	groupLocks [groupLocks]sync.Mutex
	columns    atomic.Pointer[columnCache]
	encoders   sync.Pool // of *encoder

	histograms    [histogramShards]histogramShard
	histogramRows atomic.Int64

	mu struct {
		sync.Mutex
		groupCount uint32
	}
}

// MaxBytes is how large a head may get. Who appends keeps it below by flushing in time.
const MaxBytes = int64(maxSegments) * segmentBytes / 8 * 7

// New returns an empty head, to which the caller has one reference.
func New() *Head { return newHead(false) }

// newHead is New; with onHeap the memory is that of Go, which the race detector watches.
func newHead(onHeap bool) *Head {
	h := &Head{}
	h.tables.onHeap, h.cells.onHeap = onHeap, onHeap
	h.refs.Store(1)
	h.pages.Store(&[]atomic.Pointer[page]{})
	h.groups.Store(&[]*groupPage{})
	h.min.Store(math.MaxInt64)
	h.max.Store(math.MinInt64)
	h.encoders.New = func() any { return &encoder{} }
	return h
}

// Acquire takes one more reference, on top of one which the caller knows to exist.
func (h *Head) Acquire() { invariants.Check(h.refs.Add(1) > 1, "a head is used after its end") }

// Release gives a reference back. The last one frees the memory.
func (h *Head) Release() {
	n := h.refs.Add(-1)
	invariants.Check(n >= 0, "a head is released too often")
	if n > 0 {
		return
	}
	h.pages.Store(&[]atomic.Pointer[page]{})
	h.groups.Store(&[]*groupPage{})
	h.columns.Store(nil)
	for i := range h.histograms {
		h.histograms[i].lists = nil
	}
	h.tables.release()
	h.cells.release()
	h.bytes.Store(0)
}

// Day is a day on which a series has a sample.
type Day struct {
	ID  uint32
	Day int32 // Unix days, rounded down
}

// Delta collects what a run of appends did to a head. The zero value is not
// ready: call Reset first.
type Delta struct {
	Rows  int64
	Bytes int64
	Range model.TimeRange
	// Days are the days of samples, per series, which this head has not seen just
	// before. Most appends add none.
	Days   []Day
	series int64

	// Where the latest sample went. The series that follow have the same timestamp most often.
	head    *Head
	near    spot
	newDay  bool                  // the timestamp before near is of another day
	first   spot                  // of the first sample of the latest run
	before  spot                  // of that of the run before
	columns [deltaColumns]offsets // of groups, by their ids
}

// Reset empties the delta and keeps its memory.
func (d *Delta) Reset() {
	*d = Delta{Days: d.Days[:0], Range: model.TimeRange{Min: math.MaxInt64, Max: math.MinInt64}, columns: d.columns}
}

// Append adds samples, in any order, to the series and notes in d what
// changed. The caller passes d to Add once its run of appends is over. All timestamps
// of one head must lie within 49 days (2^32 ms) of each other.
func (h *Head) Append(id uint32, samples []model.Sample, d *Delta) {
	p := h.page(id)
	if p == nil {
		p = h.newPage(id, d)
	}
	p.mu.Lock()
	s := &p.series[id%pageSeries]
	if !s.used() {
		d.series++
	}
	h.append(s, id, samples, d)
	p.mu.Unlock()
}

// Add adds the sums of a run of appends to the head.
func (h *Head) Add(d *Delta) {
	h.rows.Add(d.Rows)
	h.bytes.Add(d.Bytes)
	h.count.Add(d.series)
	lower(&h.min, d.Range.Min)
	raise(&h.max, d.Range.Max)
}

func lower(a *atomic.Int64, v int64) {
	for old := a.Load(); v < old; old = a.Load() {
		if a.CompareAndSwap(old, v) {
			return
		}
	}
}

func raise(a *atomic.Int64, v int64) {
	for old := a.Load(); v > old; old = a.Load() {
		if a.CompareAndSwap(old, v) {
			return
		}
	}
}

// Has reports whether the head holds samples or native histograms of the series.
func (h *Head) Has(id uint32) bool { return h.hasSamples(id) || h.hasHistograms(id) }

func (h *Head) hasSamples(id uint32) bool {
	p := h.page(id)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.series[id%pageSeries].used()
}

// Rows returns the number of samples, native histograms among them, as of the last Add.
func (h *Head) Rows() int64 { return h.rows.Load() }

// SizeBytes returns how many bytes of memory the head holds, as of the last Add. What reads keep for each other, at
// most some megabytes, is not among them.
func (h *Head) SizeBytes() int64 { return h.bytes.Load() }

// SeriesCount returns the number of series, as of the last Add. One with both samples and native histograms counts twice.
func (h *Head) SeriesCount() int { return int(h.count.Load()) }

// TimeRange returns the range of all timestamps, as of the last Add; Min is
// beyond Max when the head is empty.
func (h *Head) TimeRange() model.TimeRange {
	return model.TimeRange{Min: h.min.Load(), Max: h.max.Load()}
}

// IDs returns the ids of all series, ascending.
func (h *Head) IDs() []uint32 {
	ids := make([]uint32, 0, h.SeriesCount())
	pages := *h.pages.Load()
	for i := range pages {
		if p := pages[i].Load(); p != nil {
			ids = p.appendIDs(ids, uint32(i*pageSeries))
		}
	}
	return h.appendHistogramIDs(ids, math.MinInt64)
}

// Active returns the ids, ascending, of the series whose newest sample is at or after a time, as far as their appends are done.
func (h *Head) Active(since int64) []uint32 {
	var dst []uint32
	var d Delta
	d.Reset()
	pages := *h.pages.Load()
	for i := range pages {
		p := pages[i].Load()
		if p == nil {
			continue
		}
		p.mu.Lock()
		for j := range p.series {
			if s := &p.series[j]; s.used() && h.timestamp(s.group, s.next()-1, &d) >= since {
				dst = append(dst, uint32(i*pageSeries+j))
			}
		}
		p.mu.Unlock()
	}
	return h.appendHistogramIDs(dst, since)
}

func (p *page) appendIDs(dst []uint32, first uint32) []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.series {
		if p.series[i].used() {
			dst = append(dst, first+uint32(i))
		}
	}
	return dst
}

// page returns the page of a series, or nil.
func (h *Head) page(id uint32) *page {
	pages := *h.pages.Load()
	if i := int(id / pageSeries); i < len(pages) {
		return pages[i].Load()
	}
	return nil
}

// newPage returns the page of a series, which may be there by now.
func (h *Head) newPage(id uint32, d *Delta) *page {
	h.mu.Lock()
	defer h.mu.Unlock()
	pages := *h.pages.Load()
	i := int(id / pageSeries)
	if i >= len(pages) {
		grown := make([]atomic.Pointer[page], max(i+1, 2*len(pages)))
		for j := range pages {
			grown[j].Store(pages[j].Load())
		}
		d.Bytes += int64(len(grown)-len(pages)) * 8
		h.pages.Store(&grown)
		pages = grown
	}
	if p := pages[i].Load(); p != nil {
		return p
	}
	_, table := h.tables.alloc(int(unsafe.Sizeof([pageSeries]series{})), 64, d)
	p := &page{series: (*[pageSeries]series)(table)}
	d.Bytes += int64(unsafe.Sizeof(*p))
	pages[i].Store(p)
	return p
}

func unixDay(t int64) int32 {
	const day = 24 * 3600 * 1000
	if t < 0 {
		t -= day - 1
	}
	return int32(t / day)
}
