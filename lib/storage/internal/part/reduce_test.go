package part

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

// randomRun returns samples at distinct times from start to end with small whole numbers.
func randomRun(r *rand.Rand, start, end int64) tsblock.Samples {
	var s tsblock.Samples
	v := 0.0
	for t := start; t < end; t += 1 + r.Int64N(20_000) {
		if v += float64(r.IntN(9)); r.IntN(100) == 0 {
			v = 0
		}
		s.Append(t, v)
	}
	return s
}

// deal splits samples over n sources at random.
func deal(r *rand.Rand, s *tsblock.Samples, n int) []tsblock.Samples {
	out := make([]tsblock.Samples, n)
	for i, t := range s.Timestamps {
		out[r.IntN(n)].Append(t, s.Values[i])
	}
	return out
}

// blocksOf cuts samples into blocks of at most 500.
func blocksOf(s tsblock.Samples) []tsblock.Samples {
	var out []tsblock.Samples
	for start := 0; start < s.Len(); start += 500 {
		end := min(s.Len(), start+500)
		out = append(out, tsblock.Samples{Timestamps: s.Timestamps[start:end], Values: s.Values[start:end]})
	}
	return out
}

// contentOf reads the blocks of one content.
func contentOf(t *testing.T, p *Part, id uint32, c tsblock.Content) tsblock.Samples {
	t.Helper()
	blocks, err := p.AppendBlocks(nil, id, everything())
	if err != nil {
		t.Fatal(err)
	}
	blocks = slices.DeleteFunc(blocks, func(b tsblock.Block) bool { return b.Content() != c })
	var s tsblock.Samples
	if err := tsblock.ReadRange(&s, blocks, everything(), 0, &tsblock.Scratch{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func mergeParts(t *testing.T, fsys vfs.FS, dir string, parts []*Part, rules MergeRules) *Part {
	t.Helper()
	w, err := NewWriter(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Merge(t.Context(), w, parts, inIDOrder, &rules); err != nil {
		t.Fatal(err)
	}
	return finishPart(t, fsys, dir, w)
}

// wantReduced compares a part with a reduction of all samples in one go.
func wantReduced(t *testing.T, p *Part, id uint32, all *tsblock.Samples, levels downsample.Levels) {
	t.Helper()
	reached, _ := slices.BinarySearch(all.Timestamps, levels[0].Before+1)
	old := tsblock.Samples{Timestamps: all.Timestamps[:reached], Values: all.Values[:reached]}
	var kept tsblock.Samples
	var columns downsample.Aggregates
	(&downsample.Reducer{}).Main(&kept, &old, levels)
	downsample.Columns(&columns, &old, &downsample.Aggregates{}, levels)
	for c, want := range map[tsblock.Content]tsblock.Samples{
		tsblock.Raw:   {Timestamps: all.Timestamps[reached:], Values: all.Values[reached:]},
		tsblock.Kept:  kept,
		tsblock.Min:   {Timestamps: columns.Timestamps, Values: columns.Min},
		tsblock.Max:   {Timestamps: columns.Timestamps, Values: columns.Max},
		tsblock.Sum:   {Timestamps: columns.Timestamps, Values: columns.Sum},
		tsblock.Count: {Timestamps: columns.Timestamps, Values: columns.Count},
	} {
		if got := contentOf(t, p, id, c); !sameSamples(&got, &want) {
			t.Errorf("series %d has %d samples of content %d; want %d", id, got.Len(), c, want.Len())
		}
	}
}

// TestMergeReduces merges in two steps, between which time passes and more samples come.
func TestMergeReduces(t *testing.T) {
	r := newRand(t)
	const minute = 60_000
	for round := range 20 {
		fsys, dir := vfs.OS(), t.TempDir()
		first, second := randomRun(r, 1, 600*minute), randomRun(r, 600*minute+1, 1000*minute)
		both := tsblock.Samples{Timestamps: slices.Concat(first.Timestamps, second.Timestamps), Values: slices.Concat(first.Values, second.Values)}
		var parts []*Part
		for i, s := range deal(r, &first, 3) {
			parts = append(parts, writePart(t, fsys, fmt.Sprintf("%s/a%d", dir, i), []series{{1, blocksOf(s)}, {2, blocksOf(s)}, {3, blocksOf(s)}, {4, blocksOf(s)}}))
		}
		levels := downsample.Levels{{Before: 300 * minute, Interval: 5 * minute}}
		plan := MergeRules{Keep: everything(), Drop: func(id uint32) bool { return id == 3 }, Series: func(id uint32) SeriesPlan {
			return map[uint32]SeriesPlan{1: {Levels: levels}, 4: {KeepMin: 100 * minute}}[id]
		}}
		merged := mergeParts(t, fsys, dir+"/b", parts, plan)
		wantReduced(t, merged, 1, &first, levels)
		if got := readSeries(t, merged, 2, everything()); !sameSamples(&got, &first) {
			t.Errorf("a series without a plan has %d samples; want %d", got.Len(), first.Len())
		}
		if got := readSeries(t, merged, 3, everything()); got.Len() != 0 {
			t.Errorf("a dropped series has %d samples", got.Len())
		}
		if got := readSeries(t, merged, 4, everything()); got.Timestamps[0] < 100*minute || got.Timestamps[0] > 101*minute {
			t.Errorf("a series with a retention of its own begins at %d", got.Timestamps[0])
		}
		more := writePart(t, fsys, dir+"/c", []series{{1, blocksOf(second)}})
		levels = downsample.Levels{{Before: 800 * minute, Interval: 5 * minute}, {Before: 450 * minute, Interval: 15 * minute}}
		merged = mergeParts(t, fsys, dir+"/d", []*Part{more, merged}, plan)
		wantReduced(t, merged, 1, &both, levels)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// TestLateSamplesCount merges samples into intervals which were reduced before.
func TestLateSamplesCount(t *testing.T) {
	r := newRand(t)
	fsys, dir := vfs.OS(), t.TempDir()
	all := randomRun(r, 1, 10_000_000)
	halves := deal(r, &all, 2)
	levels := downsample.Levels{{Before: 9_000_000, Interval: 300_000}}
	plan := MergeRules{Keep: everything(), Series: func(uint32) SeriesPlan { return SeriesPlan{Levels: levels} }}
	// The two parts are reduced by themselves, then together: their intervals overlap.
	var reduced []*Part
	for i := range halves {
		p := writePart(t, fsys, fmt.Sprintf("%s/a%d", dir, i), []series{{1, blocksOf(halves[i])}})
		reduced = append(reduced, mergeParts(t, fsys, fmt.Sprintf("%s/b%d", dir, i), []*Part{p}, plan))
	}
	merged := mergeParts(t, fsys, dir+"/c", reduced, plan)
	old, _ := slices.BinarySearch(all.Timestamps, 9_000_001)
	var want downsample.Aggregates
	downsample.Columns(&want, &tsblock.Samples{Timestamps: all.Timestamps[:old], Values: all.Values[:old]}, &downsample.Aggregates{}, levels)
	for c, values := range map[tsblock.Content][]float64{tsblock.Min: want.Min, tsblock.Max: want.Max, tsblock.Sum: want.Sum, tsblock.Count: want.Count} {
		got := contentOf(t, merged, 1, c)
		if w := (tsblock.Samples{Timestamps: want.Timestamps, Values: values}); !sameSamples(&got, &w) {
			t.Errorf("content %d differs: %d intervals; want %d", c, got.Len(), w.Len())
		}
	}
}

func TestMergeRefusesColumnsWithoutCompany(t *testing.T) {
	fsys, dir := vfs.OS(), t.TempDir()
	s := tsblock.Samples{Timestamps: []int64{1, 2}, Values: []float64{1, 2}}
	for _, c := range []tsblock.Content{tsblock.Sum, 9} {
		w, err := NewWriter(fsys, fmt.Sprintf("%s/%d", dir, c))
		if err != nil {
			t.Fatal(err)
		}
		_, b := (&tsblock.Encoder{}).AppendContent(nil, &s, c)
		if err := w.AddBlock(1, &b); err != nil {
			t.Fatal(err)
		}
		p := finishPart(t, fsys, fmt.Sprintf("%s/%d", dir, c), w)
		out, err := NewWriter(fsys, dir+"/out")
		if err != nil {
			t.Fatal(err)
		}
		if err := Merge(t.Context(), out, []*Part{p}, inIDOrder, &MergeRules{Keep: everything()}); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("merging lone content %d: %v", c, err)
		}
		if err := out.Abort(); err != nil {
			t.Error(err)
		}
	}
}
