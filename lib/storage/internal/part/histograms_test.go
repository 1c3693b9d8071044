package part

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

// mixed is a series with samples and native histograms, either of which may be none.
type mixed struct {
	samples    tsblock.Samples
	histograms tsblock.HistogramSamples
}

func writeMixed(t *testing.T, fsys vfs.FS, dir string, all map[uint32]*mixed) *Part {
	t.Helper()
	w, err := NewWriter(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	var e tsblock.Encoder
	for _, id := range slices.Sorted(maps.Keys(all)) {
		blocks, buf := e.AppendBlocks(nil, nil, &all[id].samples)
		blocks, _ = e.AppendHistogramBlocks(blocks, buf, &all[id].histograms)
		tsblock.SortBlocks(blocks)
		for i := range blocks {
			if err := w.AddBlock(id, &blocks[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return finishPart(t, fsys, dir, w)
}

func histogramsOf(t *testing.T, p *Part, id uint32, r model.TimeRange) (list tsblock.HistogramSamples, blocks int) {
	t.Helper()
	all, err := p.AppendBlocks(nil, id, everything())
	if err != nil {
		t.Fatal(err)
	}
	if err := tsblock.ReadHistograms(&list, all, r, 0, &tsblock.Scratch{}); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if all[i].Content() == tsblock.Histograms {
			blocks++
		}
	}
	return list, blocks
}

// modelHistograms is what a merge of all leaves, the slow way.
func modelHistograms(sources []*tsblock.HistogramSamples, keep model.TimeRange, intervalMs int64, levels downsample.Levels) tsblock.HistogramSamples {
	best := map[int64][]byte{}
	for _, s := range sources {
		for i, ts := range s.Timestamps {
			if old, ok := best[ts]; keep.Contains(ts) && (!ok || nativehistogram.Better(s.Payloads[i], old)) {
				best[ts] = s.Payloads[i]
			}
		}
	}
	times := slices.Sorted(maps.Keys(best))
	var out tsblock.HistogramSamples
	for i, ts := range times {
		interval := max(intervalMs, levels.At(ts))
		if interval > 1 && i+1 < len(times) && downsample.IntervalEnd(times[i+1], interval) == downsample.IntervalEnd(ts, interval) {
			continue
		}
		out.Append(ts, best[ts])
	}
	return out
}

func sameHistograms(a, b *tsblock.HistogramSamples) bool {
	return slices.Equal(a.Timestamps, b.Timestamps) && slices.EqualFunc(a.Payloads, b.Payloads, bytes.Equal)
}

// TestMergeHistograms merges parts of random series again and again, in groups by chance, and compares with a merge of all in one go.
func TestMergeHistograms(t *testing.T) {
	r := newRand(t)
	for range 60 {
		fsys := memfs.New(memfs.Options{})
		rules := MergeRules{Keep: everything()}
		if r.IntN(2) == 0 {
			rules.Keep = model.TimeRange{Min: r.Int64N(200_000), Max: 500_000 + r.Int64N(1_000_000)}
		}
		if r.IntN(3) == 0 {
			rules.MinIntervalMs = 5000
		}
		var levels downsample.Levels
		if r.IntN(2) == 0 {
			levels = downsample.Levels{{Before: 600_000, Interval: 30_000}, {Before: 300_000, Interval: 60_000}}
			rules.Series = func(uint32) SeriesPlan { return SeriesPlan{Levels: levels} }
		}
		var parts []*Part
		sources := map[uint32][]*tsblock.HistogramSamples{}
		var numbers []tsblock.Samples // of series 2, which has both
		name := func() string { return fmt.Sprintf("/p%d", r.Uint64()) }
		for range 2 + r.IntN(5) {
			all := map[uint32]*mixed{1: {}, 2: {samples: randomRun(r, r.Int64N(300_000), 1_200_000)}, 3: {samples: randomRun(r, 1, 900_000)}}
			for _, id := range []uint32{1, 2} {
				h := randomHistograms(r)
				all[id].histograms = h
				sources[id] = append(sources[id], &h)
			}
			numbers = append(numbers, all[2].samples)
			parts = append(parts, writeMixed(t, fsys, name(), all))
		}
		for len(parts) > 1 || r.IntN(2) == 0 {
			n := min(len(parts), 1+r.IntN(4))
			merged := mergeParts(t, fsys, name(), parts[:n], rules)
			parts = append(parts[n:], merged)
		}
		for id, list := range sources {
			want := modelHistograms(list, rules.Keep, rules.MinIntervalMs, levels)
			if got, _ := histogramsOf(t, parts[0], id, everything()); !sameHistograms(&got, &want) {
				t.Fatalf("series %d has %d histograms after merges with %+v and %v; want %d", id, got.Len(), rules, levels, want.Len())
			}
		}
		if levels == nil {
			want := modelRead(numbers, rules.Keep, rules.MinIntervalMs)
			if got := readSeries(t, parts[0], 2, everything()); !sameSamples(&got, &want) {
				t.Fatalf("series 2 has %d samples; want %d", got.Len(), want.Len())
			}
		}
		a, _ := histogramsOf(t, parts[0], 1, everything())
		b, _ := histogramsOf(t, parts[0], 2, everything())
		if m := parts[0].Meta(); m.Histograms != int64(a.Len()+b.Len()) || m.Rows < m.Histograms {
			t.Fatalf("the part says that it has %d histograms among %d rows; it has %d", m.Histograms, m.Rows, a.Len()+b.Len())
		}
	}
}

func randomHistograms(r *rand.Rand) tsblock.HistogramSamples {
	var s tsblock.HistogramSamples
	for ts := r.Int64N(400_000); ts < 1_100_000; ts += 1 + r.Int64N(20_000) {
		s.Append(ts-ts%5, histogramtest.OfBits(r.Uint64()>>r.IntN(50)))
	}
	return s
}

// TestHistogramBlocksGrow merges small blocks into large ones, which stay as they are from then on.
func TestHistogramBlocksGrow(t *testing.T) {
	r := newRand(t)
	fsys := memfs.New(memfs.Options{})
	source := histogramtest.New(r, histogramtest.Whole)
	var all tsblock.HistogramSamples
	next := int64(0)
	write := func(n int) *Part {
		var m mixed
		for range n {
			next += 15_000
			payload := source.Payload()
			m.histograms.Append(next, payload)
			all.Append(next, payload)
		}
		return writeMixed(t, fsys, fmt.Sprintf("/w%d", next), map[uint32]*mixed{1: &m})
	}
	rules := MergeRules{Keep: everything()}
	var parts []*Part
	for range 30 {
		parts = append(parts, write(300))
	}
	large := mergeParts(t, fsys, "/large", parts, rules)
	size := 0
	for _, p := range all.Payloads {
		size += len(p)
	}
	if got, blocks := histogramsOf(t, large, 1, everything()); !sameHistograms(&got, &all) || blocks > 2+size/(512<<10) {
		t.Fatalf("%d histograms of %d bytes are in %d blocks", got.Len(), size, blocks)
	}
	before, err := large.AppendBlocks(nil, 1, everything())
	if err != nil {
		t.Fatal(err)
	}
	larger := mergeParts(t, fsys, "/larger", []*Part{large, write(300)}, rules)
	after, err := larger.AppendBlocks(nil, 1, everything())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before[0].Values, after[0].Values) {
		t.Error("a large block was encoded anew")
	}
	if got, _ := histogramsOf(t, larger, 1, everything()); !sameHistograms(&got, &all) {
		t.Errorf("%d histograms; want %d", got.Len(), all.Len())
	}
}
