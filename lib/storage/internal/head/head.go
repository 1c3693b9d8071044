package head

import (
	"math"
	"sync"
	"sync/atomic"
	"unsafe"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const (
	pageSeries = 512 // series pointers in a page of the table
	slabSeries = 64  // series allocated at once
)

type page [pageSeries]atomic.Pointer[series]

// Head holds the recent samples of one partition. It is safe for concurrent use.
type Head struct {
	pages  atomic.Pointer[[]*page]
	rows   atomic.Int64
	bytes  atomic.Int64
	count  atomic.Int64
	min    atomic.Int64
	max    atomic.Int64
	encode sync.Pool // of *encoder

	mu struct {
		sync.Mutex
		slab []series
	}
}

// New returns an empty head.
func New() *Head {
	h := &Head{}
	h.pages.Store(&[]*page{})
	h.min.Store(math.MaxInt64)
	h.max.Store(math.MinInt64)
	h.encode.New = func() any { return &encoder{} }
	return h
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
}

// Reset empties the delta and keeps its memory.
func (d *Delta) Reset() {
	*d = Delta{Days: d.Days[:0], Range: model.TimeRange{Min: math.MaxInt64, Max: math.MinInt64}}
}

// Append adds samples, in any order, to the series and notes in d what
// changed. The caller passes d to Add once its run of appends is over. All timestamps
// of one head must lie within 49 days (2^32 ms) of each other.
func (h *Head) Append(id uint32, samples []model.Sample, d *Delta) {
	s := h.get(id)
	if s == nil {
		s = h.create(id, d)
	}
	s.mu.Lock()
	for i := range samples {
		t := samples[i].Timestamp
		if day := unixDay(t); day != s.day {
			s.day = day
			d.Days = append(d.Days, Day{ID: id, Day: day})
		}
		d.Range.Min, d.Range.Max = min(d.Range.Min, t), max(d.Range.Max, t)
		if t <= s.last && !s.empty() {
			s.appendLate(h, samples[i], d)
			continue
		}
		if len(s.open) >= openSamples {
			s.sealOpen(h, d)
		}
		s.push(samples[i], d)
	}
	s.mu.Unlock()
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

// Has reports whether the head holds samples of the series.
func (h *Head) Has(id uint32) bool { return h.get(id) != nil }

// Rows returns the number of samples, as of the last Add.
func (h *Head) Rows() int64 { return h.rows.Load() }

// SizeBytes returns about how many bytes of memory the head holds, as of the last Add.
func (h *Head) SizeBytes() int64 { return h.bytes.Load() }

// SeriesCount returns the number of series, as of the last Add.
func (h *Head) SeriesCount() int { return int(h.count.Load()) }

// TimeRange returns the range of all timestamps, as of the last Add; Min is
// beyond Max when the head is empty.
func (h *Head) TimeRange() model.TimeRange {
	return model.TimeRange{Min: h.min.Load(), Max: h.max.Load()}
}

// IDs returns the ids of all series, ascending.
func (h *Head) IDs() []uint32 {
	ids := make([]uint32, 0, h.SeriesCount())
	for i, p := range *h.pages.Load() {
		if p == nil {
			continue
		}
		for j := range p {
			if p[j].Load() != nil {
				ids = append(ids, uint32(i*pageSeries+j))
			}
		}
	}
	return ids
}

// AppendBlocks appends the blocks of the series which overlap r, in no
// particular order; they may overlap each other. Samples which are not encoded yet are
// encoded to the end of *buf. The blocks stay valid as long as *buf's bytes are not overwritten.
func (h *Head) AppendBlocks(dst []tsblock.Block, buf *[]byte, id uint32, r model.TimeRange) []tsblock.Block {
	s := h.get(id)
	if s == nil {
		return dst
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	dst = appendSealed(dst, s.sealed, r)
	if len(s.open) > 0 && s.first <= r.Max && s.last >= r.Min {
		e := h.encode.Get().(*encoder)
		dst = append(dst, e.appendOpen(buf, s))
		h.encode.Put(e)
	}
	if s.late != nil && len(*s.late) > 0 {
		e := h.encode.Get().(*encoder)
		if b := e.appendLate(buf, *s.late); b.MinTimestamp <= r.Max && b.MaxTimestamp >= r.Min {
			dst = append(dst, b)
		}
		h.encode.Put(e)
	}
	return dst
}

func (h *Head) get(id uint32) *series {
	pages := *h.pages.Load()
	i := int(id / pageSeries)
	if i >= len(pages) || pages[i] == nil {
		return nil
	}
	return pages[i][id%pageSeries].Load()
}

func (h *Head) create(id uint32, d *Delta) *series {
	h.mu.Lock()
	defer h.mu.Unlock()
	pages := *h.pages.Load()
	i := int(id / pageSeries)
	if i >= len(pages) || pages[i] == nil {
		grown := make([]*page, max(i+1, len(pages)))
		copy(grown, pages)
		grown[i] = &page{}
		h.pages.Store(&grown)
		pages = grown
		d.Bytes += int64(unsafe.Sizeof(page{}))
	}
	slot := &pages[i][id%pageSeries]
	if s := slot.Load(); s != nil {
		return s
	}
	if len(h.mu.slab) == 0 {
		h.mu.slab = make([]series, slabSeries)
		d.Bytes += slabSeries * int64(unsafe.Sizeof(series{}))
	}
	s := &h.mu.slab[0]
	h.mu.slab = h.mu.slab[1:]
	s.day = noDay
	slot.Store(s)
	d.series++
	return s
}

func unixDay(t int64) int32 {
	const day = 24 * 3600 * 1000
	if t < 0 {
		t -= day - 1
	}
	return int32(t / day)
}
