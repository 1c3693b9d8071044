package part

import (
	"fmt"
	"math"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

func samplesAt(times ...int64) tsblock.Samples {
	return tsblock.Samples{Timestamps: times, Values: make([]float64, len(times))}
}

func TestFirstOverlap(t *testing.T) {
	fsys, dir := vfs.OS(), t.TempDir()
	base := []series{
		{id: 1, blocks: []tsblock.Samples{samplesAt(10, 20), samplesAt(50, 60)}},
		{id: 2, blocks: []tsblock.Samples{samplesAt(5, 90)}},
		{id: 7, blocks: []tsblock.Samples{samplesAt(100)}},
	}
	a := writePart(t, fsys, dir+"/a", base)
	for i, c := range []struct {
		other []series
		r     model.TimeRange
		at    int64
		ok    bool
	}{
		{[]series{{id: 3, blocks: []tsblock.Samples{samplesAt(10, 20)}}}, everything(), 0, false},
		{[]series{{id: 1, blocks: []tsblock.Samples{samplesAt(21, 49)}}}, everything(), 0, false},
		{[]series{{id: 1, blocks: []tsblock.Samples{samplesAt(20, 49)}}}, everything(), 20, true},
		{[]series{{id: 1, blocks: []tsblock.Samples{samplesAt(0, 70)}}}, everything(), 10, true},
		{[]series{{id: 1, blocks: []tsblock.Samples{samplesAt(0, 70)}}}, model.TimeRange{Min: 15, Max: 40}, 15, true},
		{[]series{{id: 1, blocks: []tsblock.Samples{samplesAt(0, 70)}}}, model.TimeRange{Min: 21, Max: 60}, 50, true},
		{[]series{{id: 1, blocks: []tsblock.Samples{samplesAt(0, 70)}}}, model.TimeRange{Min: 21, Max: 49}, 0, false},
		{[]series{{id: 7, blocks: []tsblock.Samples{samplesAt(100)}}, {id: 2, blocks: []tsblock.Samples{samplesAt(90)}}}, everything(), 90, true},
		{[]series{{id: 7, blocks: []tsblock.Samples{samplesAt(99), samplesAt(101)}}}, everything(), 0, false},
		{[]series{
			{id: 1, blocks: []tsblock.Samples{samplesAt(61)}},
			{id: 2, blocks: []tsblock.Samples{samplesAt(91)}},
			{id: 3, blocks: []tsblock.Samples{samplesAt(1)}},
			{id: 4, blocks: []tsblock.Samples{samplesAt(1)}},
			{id: 7, blocks: []tsblock.Samples{samplesAt(100)}},
		}, everything(), 100, true},
	} {
		b := writePart(t, fsys, fmt.Sprintf("%s/b%d", dir, i), c.other)
		for _, pair := range [][2]*Part{{a, b}, {b, a}} {
			if at, ok, err := FirstOverlap(pair[0], pair[1], c.r); err != nil || ok != c.ok || ok && at != c.at {
				t.Errorf("case %d: %d, %t, %v; want %d, %t", i, at, ok, err, c.at, c.ok)
			}
		}
	}
}

// BenchmarkFirstOverlap compares parts which follow each other and have the same series.
func BenchmarkFirstOverlap(b *testing.B) {
	const n = 100_000
	fsys, dir := vfs.OS(), b.TempDir()
	parts := [2]*Part{}
	for i := range parts {
		all := make([]series, n)
		for j := range all {
			all[j] = series{id: uint32(j), blocks: []tsblock.Samples{samplesAt(int64(1000*i), int64(1000*i+900))}}
		}
		parts[i] = writePart(b, fsys, fmt.Sprintf("%s/%d", dir, i), all)
	}
	b.ResetTimer()
	for range b.N {
		if _, ok, err := FirstOverlap(parts[0], parts[1], model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64}); ok || err != nil {
			b.Fatal(ok, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/series")
}
