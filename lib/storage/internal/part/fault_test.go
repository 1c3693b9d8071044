package part

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// TestFinishedPartSurvivesCrash publishes a part and cuts the power.
func TestFinishedPartSurvivesCrash(t *testing.T) {
	r := newRand(t)
	for round := range 30 {
		fsys := memfs.New(memfs.Options{})
		if err := fsys.MkdirAll("/data"); err != nil {
			t.Fatal(err)
		}
		if err := fsys.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		all := randomPart(r, 20)
		writePart(t, fsys, "/data/tmp", all).Release()
		if err := fsys.Rename("/data/tmp", "/data/part"); err != nil {
			t.Fatal(err)
		}
		if err := fsys.SyncDir("/data"); err != nil {
			t.Fatal(err)
		}
		p, err := Open(fsys.Crash(r), "/data/part")
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for _, s := range all {
			got, want := readSeries(t, p, s.id, everything()), modelRead(s.blocks, everything(), 0)
			if !sameSamples(&got, &want) {
				t.Fatalf("round %d: series %d differs", round, s.id)
			}
		}
		p.Release()
	}
}

// TestEveryOperationFails lets each change of the file system fail in turn: the writer says so, and Abort leaves nothing.
func TestEveryOperationFails(t *testing.T) {
	all := corruptionPart()
	for n := int64(1); ; n++ {
		inner := memfs.New(memfs.Options{})
		fsys := faultfs.New(inner)
		if err := inner.MkdirAll("/data"); err != nil {
			t.Fatal(err)
		}
		fsys.SetFault(faultfs.Fault{At: n, Short: n%2 == 0})
		failed, err := tryWrite(fsys, all)
		if err != nil {
			t.Fatal(err)
		}
		if !failed {
			if n < 10 {
				t.Fatalf("operation %d is the last", n)
			}
			return
		}
		if entries, err := inner.ReadDir("/data"); err != nil || len(entries) > 0 {
			t.Fatalf("operation %d fails and leaves %v behind; %v", n, entries, err)
		}
	}
}

// tryWrite writes a part and aborts it when an operation fails.
func tryWrite(fsys vfs.FS, all []series) (failed bool, err error) {
	w, err := NewWriter(fsys, "/data/part")
	if err != nil {
		return true, nil
	}
	for _, s := range all {
		for i := range s.blocks {
			_, b := tsblock.AppendEncode(nil, &s.blocks[i])
			if err := w.AddBlock(s.id, &b); err != nil {
				return true, w.Abort()
			}
		}
	}
	if _, err := w.Finish(); err != nil {
		return true, w.Abort()
	}
	return false, nil
}

// TestOpenReleasesOnFailure lets each read of Open fail.
func TestOpenReleasesOnFailure(t *testing.T) {
	inner := memfs.New(memfs.Options{})
	if err := inner.MkdirAll("/data"); err != nil {
		t.Fatal(err)
	}
	writePart(t, inner, "/data/part", corruptionPart()).Release()
	fsys := faultfs.New(inner)
	for n := int64(1); n <= 4; n++ {
		fsys.SetFault(faultfs.Fault{At: n, Kinds: []faultfs.Kind{faultfs.Read}})
		if p, err := Open(fsys, "/data/part"); err == nil {
			p.Release()
			t.Errorf("read %d fails and Open does not say so", n)
		}
	}
	fsys.SetFault(faultfs.Fault{})
	p, err := Open(fsys, "/data/part")
	if err != nil {
		t.Fatal(err)
	}
	p.Release()
}

func TestConcurrentReads(t *testing.T) {
	r := newRand(t)
	all := randomPart(r, 200)
	p := writePart(t, vfs.OS(), filepath.Join(t.TempDir(), "part"), all)
	var wg sync.WaitGroup
	for range 4 {
		p.Acquire()
		wg.Go(func() {
			defer p.Release()
			for _, s := range all {
				blocks, err := p.AppendBlocks(nil, s.id, everything())
				if err != nil || len(blocks) != len(s.blocks) {
					t.Errorf("series %d: %d blocks, %v", s.id, len(blocks), err)
				}
			}
		})
	}
	p.Release()
	wg.Wait()
}

// scrapeSeries returns series of targets scraped every 15 seconds with jitter: counters, most of them
// not moving.
func scrapeSeries(targets, perTarget, samples int, start int64) []series {
	r := rand.New(rand.NewPCG(1, uint64(start)))
	var all []series
	for target := range targets {
		var timestamps []int64
		for i := range samples {
			timestamps = append(timestamps, start+int64(i)*15000+r.Int64N(3))
		}
		for n := range perTarget {
			values := make([]float64, samples)
			v := 1000.0
			for i := range values {
				if n%3 == 0 {
					v += float64(r.IntN(200))
				}
				values[i] = v
			}
			all = append(all, series{uint32(target*perTarget + n), []tsblock.Samples{{Timestamps: timestamps, Values: values}}})
		}
	}
	return all
}

func inIDOrder(a, b uint32) int { return int(int64(a) - int64(b)) }

func BenchmarkWriter(b *testing.B) {
	all := scrapeSeries(10, 500, 240, 0)
	var blocks []tsblock.Block
	for i := range all {
		_, block := tsblock.AppendEncode(nil, &all[i].blocks[0])
		blocks = append(blocks, block)
	}
	var meta Meta
	for b.Loop() {
		w, err := NewWriter(memfs.New(memfs.Options{}), "/part")
		if err != nil {
			b.Fatal(err)
		}
		for i := range all {
			if err := w.AddBlock(all[i].id, &blocks[i]); err != nil {
				b.Fatal(err)
			}
		}
		if meta, err = w.Finish(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(int64(b.N)*meta.Rows), "ns/sample")
	b.ReportMetric(float64(meta.SizeBytes)/float64(meta.Rows), "B/sample")
	b.ReportMetric(float64(meta.Files[2].SizeBytes)/float64(meta.Blocks), "index-B/block")
}

func BenchmarkMerge(b *testing.B) {
	const samples = 240
	fsys := memfs.New(memfs.Options{})
	var parts []*Part
	for i := range 6 {
		parts = append(parts, writePart(b, fsys, fmt.Sprintf("/%d", i), scrapeSeries(4, 500, samples, int64(i)*samples*15000)))
	}
	var meta Meta
	for b.Loop() {
		w, err := NewWriter(memfs.New(memfs.Options{}), "/part")
		if err != nil {
			b.Fatal(err)
		}
		if err := Merge(b.Context(), w, parts, inIDOrder, &MergeRules{Keep: everything()}); err != nil {
			b.Fatal(err)
		}
		if meta, err = w.Finish(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(int64(b.N)*meta.Rows), "ns/sample")
	b.ReportMetric(float64(meta.SizeBytes)/float64(meta.Rows), "B/sample")
}

func BenchmarkAppendBlocks(b *testing.B) {
	p := writePart(b, memfs.New(memfs.Options{}), "/part", scrapeSeries(20, 1000, 20, 0))
	defer p.Release()
	r := rand.New(rand.NewPCG(1, 1))
	var blocks []tsblock.Block
	for b.Loop() {
		var err error
		if blocks, err = p.AppendBlocks(blocks[:0], uint32(r.IntN(20000)), everything()); err != nil || len(blocks) != 1 {
			b.Fatalf("%d blocks, %v", len(blocks), err)
		}
	}
}
