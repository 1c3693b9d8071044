package head

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
)

const base = int64(1_700_000_000_000)

func all() model.TimeRange { return model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64} }

// contents returns every sample of a series as timestamp and bits, sorted, repeats removed.
func contents(t *testing.T, h *Head, id uint32, r model.TimeRange) [][2]int64 {
	t.Helper()
	var buf []byte
	var out [][2]int64
	for _, b := range h.AppendBlocks(nil, &buf, id, r) {
		var s tsblock.Samples
		if err := b.Decode(&s); err != nil {
			t.Fatal(err)
		}
		if s.Len() != b.Count || s.Timestamps[0] != b.MinTimestamp || s.Timestamps[s.Len()-1] != b.MaxTimestamp || !slices.IsSorted(s.Timestamps) {
			t.Fatalf("block %s does not go with its %d samples", &b, s.Len())
		}
		if b.MaxTimestamp < r.Min || b.MinTimestamp > r.Max {
			t.Fatalf("block %s does not overlap %s", &b, r)
		}
		for i, ts := range s.Timestamps {
			out = append(out, [2]int64{ts, int64(math.Float64bits(s.Values[i]))})
		}
	}
	return sorted(out)
}

func sorted(s [][2]int64) [][2]int64 {
	slices.SortFunc(s, func(a, b [2]int64) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(s)
}

func randomValue(rng *rand.Rand) float64 {
	switch rng.IntN(6) {
	case 0:
		return math.Float64frombits(0x7ff0000000000002)
	case 1:
		return math.Copysign(0, -1)
	case 2:
		return math.Float64frombits(rng.Uint64())
	}
	return float64(rng.IntN(1000))
}

// reference is what a head should hold.
type reference struct {
	want   map[uint32][][2]int64
	newest map[uint32]int64
	days   map[Day]bool
	marked map[Day]bool

	histograms map[uint32][]string // see histogramText
}

func newReference() *reference {
	return &reference{map[uint32][][2]int64{}, map[uint32]int64{}, map[Day]bool{}, map[Day]bool{}, map[uint32][]string{}}
}

// histogramText is a histogram such that texts sort as histograms do.
func histogramText(timestamp int64, payload []byte) string {
	return fmt.Sprintf("%020d %x", timestamp, payload)
}

// histogramsOf returns the histograms of a series, sorted.
func histogramsOf(t *testing.T, h *Head, id uint32, r model.TimeRange) []string {
	t.Helper()
	buf := []byte("before")
	var out []string
	var s tsblock.HistogramSamples
	for _, b := range h.AppendHistogramBlocks(make([]tsblock.Block, 1), &buf, id, r)[1:] {
		s.Reset()
		if err := b.DecodeHistograms(&s); err != nil || b.MinTimestamp > r.Max || b.MaxTimestamp < r.Min {
			t.Fatalf("block %s in %s: %v", &b, r, err)
		}
		for i, ts := range s.Timestamps {
			out = append(out, histogramText(ts, s.Payloads[i]))
		}
	}
	slices.Sort(out)
	return out
}

// appendHistograms gives some to head and reference, one in a hundred of them large.
func (m *reference) appendHistograms(rng *rand.Rand, h *Head, id uint32, d *Delta) {
	var batch []model.Histogram
	for range rng.IntN(4) {
		x := model.Histogram{Timestamp: base + rng.Int64N(20*86_400_000), Payload: make([]byte, 20+rng.IntN(200))}
		if rng.IntN(100) == 0 {
			x.Payload = make([]byte, 20+rng.IntN(tsblock.MaxHistogramBytes-20))
		}
		for i := range x.Payload[:20] {
			x.Payload[i] = byte(rng.IntN(256))
		}
		batch = append(batch, x)
		m.histograms[id] = append(m.histograms[id], histogramText(x.Timestamp, x.Payload))
		m.days[Day{id, int32(x.Timestamp / 86_400_000)}] = true
	}
	if len(batch) > 0 {
		h.AppendHistograms(id, batch, d)
	}
}

// checkHistograms compares all of them, and one range.
func (m *reference) checkHistograms(t *testing.T, h *Head, r model.TimeRange) {
	t.Helper()
	n := 0
	for id, want := range m.histograms {
		n += len(want)
		slices.Sort(want)
		if got := histogramsOf(t, h, id, all()); !slices.Equal(got, want) || !h.Has(id) {
			t.Fatalf("series %d has %d histograms; want %d", id, len(got), len(want))
		}
		got := histogramsOf(t, h, id, r)
		for _, x := range want {
			if inside := x >= histogramText(r.Min, nil) && x < histogramText(r.Max+1, nil); inside && !slices.Contains(got, x) {
				t.Fatalf("histogram %.50s of series %d is missing from %s", x, id, r)
			}
		}
	}
	if h.Histograms() != int64(n) {
		t.Errorf("%d histograms; want %d", h.Histograms(), n)
	}
}

// append gives samples to head and reference.
func (m *reference) append(h *Head, id uint32, batch []model.Sample, d *Delta) {
	for _, x := range batch {
		m.newest[id] = max(m.newest[id], x.Timestamp)
		m.want[id] = append(m.want[id], [2]int64{x.Timestamp, int64(math.Float64bits(x.Value))})
		m.days[Day{id, int32(x.Timestamp / 86_400_000)}] = true
	}
	h.Append(id, batch, d)
}

// settle ends a run of appends.
func (m *reference) settle(h *Head, d *Delta) {
	for _, day := range d.Days {
		m.marked[day] = true
	}
	h.Add(d)
	d.Reset()
}

// check compares all of the head, and one range.
func (m *reference) check(t *testing.T, h *Head, r model.TimeRange) {
	t.Helper()
	var ids []uint32
	for id, want := range m.want {
		ids = append(ids, id)
		if got := contents(t, h, id, all()); !slices.Equal(got, sorted(want)) {
			t.Fatalf("series %d has %d distinct samples; want %d", id, len(got), len(sorted(want)))
		}
		got := map[[2]int64]bool{}
		for _, x := range contents(t, h, id, r) {
			got[x] = true
		}
		for _, x := range want {
			if r.Contains(x[0]) && !got[x] {
				t.Fatalf("sample %v of series %d is missing from %s", x, id, r)
			}
		}
	}
	if fmt.Sprint(m.days) != fmt.Sprint(m.marked) {
		t.Errorf("marked %d days; want %d", len(m.marked), len(m.days))
	}
	for id := range m.histograms {
		ids = append(ids, id)
	}
	count := len(ids)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	m.checkHistograms(t, h, r)
	if got := h.IDs(); !slices.Equal(got, ids) || h.SeriesCount() != count {
		t.Errorf("ids %v, %d series; want %v", got, h.SeriesCount(), ids)
	}
}

// TestHeadAgainstModel appends samples in and out of order and compares with maps.
func TestHeadAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h, m := New(), newReference()
	defer h.Release()
	ids := []uint32{0, 1, 511, 512, 70_000, 3}
	var d Delta
	d.Reset()
	for range 3000 {
		id := ids[rng.IntN(len(ids))]
		var batch []model.Sample
		newest := m.newest[id]
		for range 1 + rng.IntN(5) {
			ts := max(base, newest) + rng.Int64N(600_000)
			if rng.IntN(4) == 0 {
				ts = base + rng.Int64N(20*86_400_000)
			}
			newest = max(newest, ts)
			batch = append(batch, model.Sample{Timestamp: ts, Value: randomValue(rng)})
		}
		m.append(h, id, batch, &d)
		if id < 2 {
			m.appendHistograms(rng, h, id+100_000*(id%2), &d) // one series has both
		}
		if rng.IntN(3) == 0 {
			m.settle(h, &d)
		}
	}
	m.settle(h, &d)
	if h.SizeBytes() > 40<<20 {
		t.Errorf("the head has %d bytes", h.SizeBytes())
	}
	m.check(t, h, model.TimeRange{Min: base + 86_400_000, Max: base + 2*86_400_000})
	if h.Has(2) || !h.Has(3) || h.Has(1<<31) {
		t.Error("Has gives wrong answers")
	}
}

// scraper is a target: its series have the same timestamps most of the time.
type scraper struct {
	first, series uint32
	interval      int64
	at            int64
	gap           int // of each so many samples one is left out; 0 for none
	odd           int // likewise for timestamps of their own
	late          int
	repeat        int
}

func (s *scraper) scrape(h *Head, m *reference, rng *rand.Rand, d *Delta) {
	s.at += s.interval
	if rng.IntN(20) == 0 {
		s.at += rng.Int64N(30)
	}
	times := 1
	if s.repeat > 0 && rng.IntN(s.repeat) == 0 {
		times = 2 // the sender has not got our answer
	}
	state := *rng
	for range times {
		*rng = state
		for id := s.first; id < s.first+s.series; id++ {
			one := func(n int) bool { return n > 0 && rng.IntN(n) == 0 }
			x := model.Sample{Timestamp: s.at, Value: float64(id)}
			if id%3 == 0 {
				x.Value = float64(s.at/1000) + float64(rng.IntN(100))/10
			}
			if one(30) {
				x.Value = randomValue(rng)
			}
			switch {
			case one(s.gap):
				continue
			case one(s.odd):
				x.Timestamp += 1 + rng.Int64N(50)
			case one(s.late):
				x.Timestamp -= rng.Int64N(20 * s.interval)
			}
			m.append(h, id, []model.Sample{x}, d)
			if rng.IntN(500) == 0 {
				m.settle(h, d)
			}
		}
	}
}

// TestGroupsAgainstModel scrapes targets of many kinds, which share timestamps or nearly do.
func TestGroupsAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	h, m := New(), newReference()
	defer h.Release()
	var d Delta
	d.Reset()
	targets := []scraper{
		{first: 0, series: 50, interval: 15_000, at: base},
		{first: 50, series: 50, interval: 15_000, at: base, repeat: 10},
		{first: 100, series: 50, interval: 15_000, at: base + 7, gap: 50},
		{first: 150, series: 20, interval: 15_000, at: base, gap: 3},
		{first: 170, series: 20, interval: 60_000, at: base, gap: 40},
		{first: 190, series: 20, interval: 15_000, at: base + 7, odd: 30},
		{first: 210, series: 10, interval: 15_000, at: base, odd: 1},
		{first: 220, series: 30, interval: 15_000, at: base, late: 20},
		{first: 250, series: 5, interval: 900_000, at: base - 40_000_000, late: 3},
		{first: 300, series: 10, interval: 1, at: base},
	}
	for round := range 400 {
		for i := range targets {
			if round < 20*i || rng.IntN(30) == 0 { // it starts later, or is down
				continue
			}
			targets[i].scrape(h, m, rng, &d)
		}
		if round%3 == 0 {
			m.settle(h, &d)
		}
	}
	m.settle(h, &d)
	m.check(t, h, model.TimeRange{Min: base + 1_000_000, Max: base + 1_100_000})
}

// TestBackfillSharesTimestamps appends whole series one after the other.
func TestBackfillSharesTimestamps(t *testing.T) {
	h, m := New(), newReference()
	defer h.Release()
	var d Delta
	d.Reset()
	for id := range uint32(100) {
		var batch []model.Sample
		for i := range int64(5000) {
			batch = append(batch, model.Sample{Timestamp: base + i*15_000 + i%7, Value: 1})
		}
		m.append(h, id, batch, &d)
	}
	m.settle(h, &d)
	m.check(t, h, model.TimeRange{Min: base, Max: base + 100_000})
	if h.mu.groupCount != 2 {
		t.Errorf("%d groups; want 2, since one has at most %d timestamps", h.mu.groupCount, maxPositions)
	}
}

// TestEpoch has late samples before the first Delta is over, and timestamps of 0.
func TestEpoch(t *testing.T) {
	h, m := New(), newReference()
	defer h.Release()
	var d Delta
	d.Reset()
	for id := range uint32(10) {
		m.append(h, id, []model.Sample{{Timestamp: 5, Value: 1}}, &d)
	}
	m.settle(h, &d)
	for id := range uint32(20) {
		m.append(h, id, []model.Sample{{Timestamp: 0, Value: 1}, {Timestamp: 7, Value: 1}}, &d)
	}
	m.settle(h, &d)
	m.check(t, h, model.TimeRange{Min: 0, Max: 0})
}

// TestSeriesShareTimestamps counts groups, and looks whether blocks share columns.
func TestSeriesShareTimestamps(t *testing.T) {
	h, m := New(), newReference()
	defer h.Release()
	var d Delta
	d.Reset()
	rng := rand.New(rand.NewPCG(1, 1))
	targets := []scraper{{first: 0, series: 300, interval: 15_000, at: base}, {first: 300, series: 300, interval: 15_000, at: base + 100}}
	for range 100 {
		for i := range targets {
			targets[i].scrape(h, m, rng, &d)
			m.settle(h, &d)
		}
	}
	m.check(t, h, all())
	if h.mu.groupCount != 2 {
		t.Errorf("%d groups; want 2", h.mu.groupCount)
	}
	var buf []byte
	a := h.AppendBlocks(nil, &buf, 0, all())
	b := h.AppendBlocks(nil, &buf, 299, all())
	if len(a) != 1 || len(b) != 1 || &a[0].Timestamps[0] != &b[0].Timestamps[0] {
		t.Error("series which are scraped together do not share their column of timestamps")
	}
}

// TestBytes compares the sums of deltas with what was taken from the system, and sees it given back.
func TestBytes(t *testing.T) {
	h := New()
	var d Delta
	d.Reset()
	var sum int64
	columns := mix()
	for round := range 240 {
		for id := range uint32(5000) {
			x := []model.Sample{{Timestamp: base + int64(round)*15_000, Value: columns[int(id)%len(columns)][round]}}
			if id%100 == 0 {
				x = append(x, model.Sample{Timestamp: base, Value: float64(round)})
			}
			h.Append(id*3, x, &d)
		}
		sum += d.Bytes
		h.Add(&d)
		d.Reset()
	}
	if h.SizeBytes() != sum {
		t.Errorf("the head has %d bytes; the deltas had %d", h.SizeBytes(), sum)
	}
	var taken int64
	for _, a := range []*arena{&h.tables, &h.cells} {
		taken += int64(len(a.mu.maps)-1)*segmentBytes + int64(a.mu.used)
	}
	if diff := taken - sum; diff < -sum/50 || diff > segmentBytes/10 {
		t.Errorf("%d bytes of memory are in use; the head says %d", taken, sum)
	}
	h.Acquire()
	h.Release()
	if !h.Has(3) {
		t.Error("the memory is gone while there is a reference")
	}
	h.Release()
	if h.SizeBytes() != 0 || h.tables.mu.maps != nil || h.cells.mu.maps != nil || h.Has(3) {
		t.Error("the head has memory after its end")
	}
	for _, f := range []func(){h.Release, h.Acquire} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a head was used after its end")
				}
			}()
			f()
		}()
	}
}

func TestRepeatedNewestSampleIsDropped(t *testing.T) {
	h := New()
	defer h.Release()
	var d Delta
	d.Reset()
	x := model.Sample{Timestamp: base, Value: 1}
	h.Append(1, []model.Sample{x, x, {Timestamp: base, Value: 2}}, &d)
	h.Append(1, []model.Sample{x}, &d)
	h.Add(&d)
	if h.Rows() != 2 {
		t.Errorf("%d rows; want 2", h.Rows())
	}
	if r := h.TimeRange(); r.Min != base || r.Max != base {
		t.Errorf("range %s", r)
	}
}

// TestConcurrentUse reads while others append: what was read stays as it is. Half of the writers agree on timestamps.
func TestConcurrentUse(t *testing.T) {
	h := newHead(true)
	defer h.Release()
	var wg sync.WaitGroup
	const series, samples, writers = 70, 400, 4
	payload := make([]byte, 300)
	for w := range writers {
		wg.Add(2)
		go func() {
			defer wg.Done()
			var d Delta
			d.Reset()
			for i := range samples {
				for id := range uint32(series) {
					h.Append(id, []model.Sample{{Timestamp: base + int64(i*4+w), Value: float64(i * w)}}, &d)
					own := series + uint32(w)*series + id
					h.Append(own, []model.Sample{{Timestamp: base + int64(i)*1000, Value: float64(i)}}, &d)
				}
				h.AppendHistograms(uint32(i%2), []model.Histogram{{Timestamp: base + int64(i*4+w), Payload: payload}}, &d)
				h.Add(&d)
				d.Reset()
			}
		}()
		go func() {
			defer wg.Done()
			for i := range 100 {
				contents(t, h, uint32(w), all())
				own := contents(t, h, uint32(series+w*series+i%series), all())
				for j, x := range own {
					if x[0] != base+int64(j)*1000 || math.Float64frombits(uint64(x[1])) != float64(j) {
						t.Errorf("sample %d is %v", j, x)
						return
					}
				}
				histogramsOf(t, h, uint32(i%2), all())
				h.Has(uint32(i))
				h.IDs()
			}
		}()
	}
	wg.Wait()
	if want := int64(2*writers*series*samples + writers*samples); h.Rows() != want || h.SeriesCount() != (writers+1)*series+2 {
		t.Errorf("%d rows of %d series; want %d of %d", h.Rows(), h.SeriesCount(), want, (writers+1)*series+2)
	}
	if n := len(histogramsOf(t, h, 0, all())) + len(histogramsOf(t, h, 1, all())); n != writers*samples {
		t.Errorf("%d histograms; want %d", n, writers*samples)
	}
	for id := range uint32((writers + 1) * series) {
		want := samples
		if id < series {
			want *= writers
		}
		if n := len(contents(t, h, id, all())); n != want {
			t.Errorf("series %d has %d samples; want %d", id, n, want)
		}
	}
}
