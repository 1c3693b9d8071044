package part

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

var update = flag.Bool("update", false, "rewrite golden files")

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func everything() model.TimeRange { return model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64} }

// series is a series of a part as a test wants it: samples by block.
type series struct {
	id     uint32
	blocks []tsblock.Samples
}

func writePart(t testing.TB, fsys vfs.FS, dir string, all []series) *Part {
	t.Helper()
	w, err := NewWriter(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for i := range s.blocks {
			_, b := tsblock.AppendEncode(nil, &s.blocks[i])
			if err := w.AddBlock(s.id, &b); err != nil {
				t.Fatal(err)
			}
		}
	}
	return finishPart(t, fsys, dir, w)
}

func finishPart(t testing.TB, fsys vfs.FS, dir string, w *Writer) *Part {
	t.Helper()
	meta, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(meta.Files, p.Meta().Files) || meta.Rows != p.Meta().Rows {
		t.Fatalf("meta of writer %+v, of part %+v", meta, p.Meta())
	}
	return p
}

// randomPart returns series in an order given by compareIDs. Targets share their timestamps.
func randomPart(r *rand.Rand, ids int) []series {
	var all []series
	targets := make([][]tsblock.Samples, 1+r.IntN(4))
	for i := range targets {
		start := r.Int64N(1e6)
		for range 1 + r.IntN(4) {
			var s tsblock.Samples
			for range 1 + r.IntN(300) {
				s.Append(start, 0)
				start += 1 + r.Int64N(30)
			}
			targets[i] = append(targets[i], s)
			start -= r.Int64N(200) // blocks may overlap
			start = max(start, s.Timestamps[0])
		}
	}
	for id := range uint32(ids) {
		if r.IntN(3) == 0 {
			continue
		}
		s := series{id: id*3 + 5}
		for _, target := range targets[r.IntN(len(targets))] {
			values := make([]float64, target.Len())
			for i := range values {
				values[i] = float64(r.IntN(50))
			}
			if n := len(all); n > 0 && r.IntN(4) == 0 { // as another series has them
				other := all[r.IntN(n)].blocks
				copy(values, other[r.IntN(len(other))].Values)
			}
			s.blocks = append(s.blocks, tsblock.Samples{Timestamps: target.Timestamps, Values: values})
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b series) int { return compareIDs(a.id, b.id) })
	return all
}

// compareIDs is an order which has nothing to do with the numbers.
func compareIDs(a, b uint32) int {
	x, y := uint64(a)*0x9e3779b97f4a7c15>>20, uint64(b)*0x9e3779b97f4a7c15>>20
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

func readSeries(t testing.TB, p *Part, id uint32, r model.TimeRange) tsblock.Samples {
	t.Helper()
	blocks, err := p.AppendBlocks(nil, id, r)
	if err != nil {
		t.Fatal(err)
	}
	var s tsblock.Samples
	var scratch tsblock.Scratch
	if err := tsblock.ReadRange(&s, blocks, r, 0, &scratch); err != nil {
		t.Fatal(err)
	}
	return s
}

func sameSamples(a, b *tsblock.Samples) bool {
	return slices.Equal(a.Timestamps, b.Timestamps) && slices.Equal(a.Values, b.Values)
}

// modelRead merges samples naively: tsblock tests Merge against a model of its own.
func modelRead(sources []tsblock.Samples, r model.TimeRange, interval int64) tsblock.Samples {
	var cut []tsblock.Samples
	for _, s := range sources {
		var c tsblock.Samples
		for i, ts := range s.Timestamps {
			if r.Contains(ts) {
				c.Append(ts, s.Values[i])
			}
		}
		cut = append(cut, c)
	}
	var out tsblock.Samples
	tsblock.Merge(&out, cut, interval)
	return out
}

func TestWriteAndRead(t *testing.T) {
	r := newRand(t)
	for round := range 30 {
		all := randomPart(r, 1+r.IntN(100))
		dir := filepath.Join(t.TempDir(), "part")
		p := writePart(t, vfs.OS(), dir, all)
		var ids []uint32
		p.Series(func(id uint32) bool { ids = append(ids, id); return true })
		if len(ids) != len(all) || !slices.EqualFunc(ids, all, func(id uint32, s series) bool { return id == s.id }) {
			t.Fatalf("round %d: series %v", round, ids)
		}
		var rows int64
		for _, s := range all {
			tr := everything()
			if r.IntN(2) == 0 {
				tr.Min = r.Int64N(1e6)
				tr.Max = tr.Min + r.Int64N(10000)
			}
			got, want := readSeries(t, p, s.id, tr), modelRead(s.blocks, tr, 0)
			if !sameSamples(&got, &want) {
				t.Fatalf("round %d: series %d differs in %v", round, s.id, tr)
			}
			for _, b := range s.blocks {
				rows += int64(b.Len())
			}
			for _, absent := range []uint32{s.id + 1, s.id - 1, 0, math.MaxUint32} {
				if blocks, err := p.AppendBlocks(nil, absent, everything()); err != nil || len(blocks) > 0 {
					t.Fatalf("round %d: series %d has %d blocks, %v", round, absent, len(blocks), err)
				}
			}
		}
		if m := p.Meta(); m.Rows != rows || m.Series != int64(len(all)) || m.Columns > 16 {
			t.Fatalf("round %d: %+v; want %d rows, %d series", round, m, rows, len(all))
		}
		if err := p.Verify(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Release()
	}
}

func TestSparseIDs(t *testing.T) {
	r := newRand(t)
	var all []series
	seen := map[uint32]bool{}
	for range 2000 {
		id := r.Uint32() >> r.IntN(32)
		if seen[id] {
			continue
		}
		seen[id] = true
		all = append(all, series{id, []tsblock.Samples{{Timestamps: []int64{int64(id)}, Values: []float64{1}}}})
	}
	p := writePart(t, vfs.OS(), filepath.Join(t.TempDir(), "part"), all)
	defer p.Release()
	for id := range seen {
		for _, candidate := range []uint32{id, id + 1, id - 1} {
			blocks, err := p.AppendBlocks(nil, candidate, everything())
			if err != nil || (len(blocks) == 1) != seen[candidate] {
				t.Fatalf("series %d: %d blocks, %v", candidate, len(blocks), err)
			}
			if len(blocks) == 1 && blocks[0].MinTimestamp != int64(candidate) {
				t.Fatalf("series %d has the block of %d", candidate, blocks[0].MinTimestamp)
			}
		}
	}
}

func TestEmptyPart(t *testing.T) {
	p := writePart(t, vfs.OS(), filepath.Join(t.TempDir(), "part"), nil)
	defer p.Release()
	if blocks, err := p.AppendBlocks(nil, 0, everything()); err != nil || len(blocks) > 0 || p.Meta().Rows != 0 {
		t.Errorf("%d blocks, %v, %+v", len(blocks), err, p.Meta())
	}
	w, err := NewWriter(vfs.OS(), filepath.Join(t.TempDir(), "merged"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Merge(t.Context(), w, []*Part{p}, compareIDs, &MergeRules{Keep: everything()}); err != nil {
		t.Fatal(err)
	}
	if err := w.Abort(); err != nil {
		t.Fatal(err)
	}
}

func TestMergeAgainstModel(t *testing.T) {
	r := newRand(t)
	for round := range 40 {
		dir := t.TempDir()
		var parts []*Part
		bySeries := map[uint32][]tsblock.Samples{}
		for i := range 1 + r.IntN(5) {
			all := randomPart(r, 40)
			for _, s := range all {
				bySeries[s.id] = append(bySeries[s.id], s.blocks...)
			}
			parts = append(parts, writePart(t, vfs.OS(), filepath.Join(dir, fmt.Sprint(i)), all))
		}
		keep := everything()
		if r.IntN(2) == 0 {
			keep.Min = r.Int64N(5e5)
			keep.Max = keep.Min + r.Int64N(1e6)
		}
		interval := []int64{0, 0, 100}[r.IntN(3)]
		out := filepath.Join(dir, "out")
		w, err := NewWriter(vfs.OS(), out)
		if err != nil {
			t.Fatal(err)
		}
		if err := Merge(t.Context(), w, parts, compareIDs, &MergeRules{Keep: keep, MinIntervalMs: interval}); err != nil {
			t.Fatal(err)
		}
		p := finishPart(t, vfs.OS(), out, w)
		var ids []uint32
		p.Series(func(id uint32) bool { ids = append(ids, id); return true })
		if !slices.IsSortedFunc(ids, compareIDs) {
			t.Fatalf("round %d: series are out of order: %v", round, ids)
		}
		for id, sources := range bySeries {
			got, want := readSeries(t, p, id, everything()), modelRead(sources, keep, interval)
			if !sameSamples(&got, &want) {
				t.Fatalf("round %d: series %d differs; %d samples, want %d; keep %v, interval %d", round, id, got.Len(), want.Len(), keep, interval)
			}
			if (want.Len() > 0) != slices.Contains(ids, id) {
				t.Fatalf("round %d: series %d of %d samples", round, id, want.Len())
			}
		}
		for _, p := range append(parts, p) {
			p.Release()
		}
	}
}

// longSeries returns count samples cut into blocks of the given length.
func longSeries(id uint32, start int64, count, blockLen int) series {
	s := series{id: id}
	for count > 0 {
		n := min(count, blockLen)
		var b tsblock.Samples
		for range n {
			b.Append(start, float64(start%977))
			start += 15000
		}
		s.blocks = append(s.blocks, b)
		count -= n
	}
	return s
}

func TestMergeCutsBlocksAnew(t *testing.T) {
	for name, c := range map[string]struct {
		first, second series
		interval      int64
		want          []int
	}{
		"small blocks are joined":  {first: longSeries(1, 0, 10000, 100), second: longSeries(1, 10000*15000, 10000, 100), want: []int{8192, 8192, 3616}},
		"large blocks are copied":  {first: longSeries(1, 0, 10000, 5000), second: longSeries(1, 10000*15000, 4500, 4500), want: []int{5000, 5000, 4500}},
		"a small one is filled up": {first: longSeries(1, 0, 100, 100), second: longSeries(1, 100*15000, 10000, 5000), want: []int{5100, 5000}},
		"full ones after a small one are cut": {first: longSeries(1, 0, 100, 100), second: longSeries(1, 100*15000, 20000, 8192),
			want: []int{8192, 8192, 3716}},
		"equal parts are one": {first: longSeries(1, 0, 10000, 5000), second: longSeries(1, 0, 10000, 3000), want: []int{8192, 1808}},
		"one per interval":    {first: longSeries(1, 15000, 10000, 5000), second: longSeries(1, 10001*15000, 10000, 5000), interval: 30000, want: []int{8192, 1808}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a := writePart(t, vfs.OS(), filepath.Join(dir, "a"), []series{c.first})
			defer a.Release()
			b := writePart(t, vfs.OS(), filepath.Join(dir, "b"), []series{c.second})
			defer b.Release()
			w, err := NewWriter(vfs.OS(), filepath.Join(dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			if err := Merge(t.Context(), w, []*Part{b, a}, compareIDs, &MergeRules{Keep: everything(), MinIntervalMs: c.interval}); err != nil {
				t.Fatal(err)
			}
			p := finishPart(t, vfs.OS(), filepath.Join(dir, "out"), w)
			defer p.Release()
			blocks, err := p.AppendBlocks(nil, 1, everything())
			if err != nil {
				t.Fatal(err)
			}
			var counts []int
			for _, b := range blocks {
				counts = append(counts, b.Count)
			}
			if !slices.Equal(counts, c.want) {
				t.Errorf("blocks of %v samples; want %v", counts, c.want)
			}
			got := readSeries(t, p, 1, everything())
			want := modelRead(append(c.first.blocks, c.second.blocks...), everything(), c.interval)
			if !sameSamples(&got, &want) {
				t.Error("samples differ")
			}
		})
	}
}

func TestMergeCanceled(t *testing.T) {
	dir := t.TempDir()
	p := writePart(t, vfs.OS(), filepath.Join(dir, "a"), []series{longSeries(1, 0, 10, 10)})
	defer p.Release()
	out := filepath.Join(dir, "out")
	w, err := NewWriter(vfs.OS(), out)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Merge(ctx, w, []*Part{p}, compareIDs, &MergeRules{Keep: everything()}); errkind.Of(err) != errkind.Canceled {
		t.Errorf("got %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left behind: %v", err)
	}
}

func TestReferences(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "part")
	p := writePart(t, vfs.OS(), dir, []series{longSeries(1, 0, 10, 10)})
	p.Acquire()
	p.DeleteOnRelease()
	p.Release()
	if s := readSeries(t, p, 1, everything()); s.Len() != 10 {
		t.Errorf("%d samples while a reference is held", s.Len())
	}
	p.Release()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the part is not deleted: %v", err)
	}
}

func TestWriterRefusesSplitSeries(t *testing.T) {
	w, err := NewWriter(vfs.OS(), filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint32{1, 2, 1} {
		s := longSeries(id, 0, 10, 10).blocks[0]
		_, b := tsblock.AppendEncode(nil, &s)
		if err := w.AddBlock(id, &b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(); errkind.Of(err) != errkind.Internal {
		t.Errorf("Finish gives %v", err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
}

func TestColumnTableIsBounded(t *testing.T) {
	var table columnTable
	for i := range uint32(6*tableMaxColumns + 10) {
		column := fmt.Appendf(nil, "%d", i)
		if _, ok := table.find(column); ok {
			t.Fatal("a column which was never added is found")
		}
		table.add(column, i)
		if len(table.byBytes) > tableMaxColumns {
			t.Fatalf("%d columns are kept", len(table.byBytes))
		}
	}
	const recent = 6*tableMaxColumns - 5
	if c, ok := table.find(fmt.Appendf(nil, "%d", recent)); !ok || c != recent {
		t.Error("a full table does not start over when all that comes is new")
	}
}

// corruptionPart is a small part which has some of everything.
func corruptionPart() []series {
	r := rand.New(rand.NewPCG(5, 6))
	all := randomPart(r, 12)
	return append(all, longSeries(1000, 0, 30, 7))
}

// TestCorruption flips every byte of every file: that is an error, or has no effect.
func TestCorruption(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "part")
	all := corruptionPart()
	p := writePart(t, vfs.OS(), dir, all)
	meta := p.Meta()
	p.Release()
	for _, name := range []string{MetaName, blocksName, timestampsName, valuesName} {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		step := max(1, len(data)/300)
		for at := 0; at < len(data); at += step {
			damaged := slices.Clone(data)
			damaged[at] ^= 0x10
			overwrite(t, path, damaged)
			checkDamaged(t, dir, all, meta, fmt.Sprintf("%s, byte %d", name, at))
		}
		for _, size := range []int{0, 1, len(data) - 1, len(data) + 1} {
			overwrite(t, path, append(slices.Clone(data), 0)[:size])
			checkDamaged(t, dir, all, meta, fmt.Sprintf("%s, %d of %d bytes", name, size, len(data)))
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(vfs.OS(), dir); errkind.Of(err) != errkind.Corrupt {
			t.Errorf("without %s: %v", name, err)
		}
		overwrite(t, path, data)
	}
}

func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func checkDamaged(t *testing.T, dir string, all []series, meta Meta, what string) {
	t.Helper()
	p, err := Open(vfs.OS(), dir)
	if err != nil {
		if errkind.Of(err) != errkind.Corrupt {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	defer p.Release()
	if p.Meta().Rows != meta.Rows || p.Meta().Series != meta.Series {
		t.Errorf("%s: opens with meta %+v", what, p.Meta())
	}
	for _, s := range all {
		blocks, err := p.AppendBlocks(nil, s.id, everything())
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt || len(blocks) > 0 {
				t.Errorf("%s: %d blocks, %v", what, len(blocks), err)
			}
			continue
		}
		var got tsblock.Samples
		var scratch tsblock.Scratch
		if err := tsblock.ReadRange(&got, blocks, everything(), 0, &scratch); err != nil {
			t.Errorf("%s: damage is found only when decoding: %v", what, err)
		}
		if want := modelRead(s.blocks, everything(), 0); !sameSamples(&got, &want) {
			t.Errorf("%s: wrong samples without an error", what)
		}
	}
}

func TestGolden(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "part")
	p := writePart(t, vfs.OS(), dir, corruptionPart())
	p.Release()
	golden := filepath.Join("testdata", "v1")
	for _, name := range []string{MetaName, blocksName, timestampsName, valuesName} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.MkdirAll(golden, 0o755); err != nil {
				t.Fatal(err)
			}
			overwrite(t, filepath.Join(golden, name), got)
		}
		want, err := os.ReadFile(filepath.Join(golden, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("the bytes of %s have changed: existing parts could not be read; see git diff after -update", name)
		}
	}
	p, err := Open(vfs.OS(), golden)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	for _, s := range corruptionPart() {
		got, want := readSeries(t, p, s.id, everything()), modelRead(s.blocks, everything(), 0)
		if !sameSamples(&got, &want) {
			t.Errorf("series %d of the golden part differs", s.id)
		}
	}
}

// FuzzBlockIndex parses index bytes without a checksum in front of them.
func FuzzBlockIndex(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "v1", blocksName))
	if err != nil {
		f.Fatal(err)
	}
	column := bytes.Repeat([]byte{1}, chunkSize)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Part
		p.times.mapping, p.values.mapping = memory(column), memory(column)
		p.times.setUp("timestamps")
		p.values.setUp("values")
		if err := p.index.parse(data, chunkSize, chunkSize); err != nil {
			return
		}
		for rank := range min(100, p.index.ids.Len()) {
			blocks, err := p.AppendBlocks(nil, uint32(p.index.ids.At(rank)), everything())
			if err != nil && errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("%d blocks, %v", len(blocks), err)
			}
		}
	})
}

func FuzzUnmarshalMeta(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("testdata", "v1", MetaName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := ParseMeta(data); err != nil && errkind.Of(err) != errkind.Corrupt && errkind.Of(err) != errkind.Unsupported {
			t.Fatal(err)
		}
	})
}

// memory is a mapping of bytes in memory.
type memory []byte

func (m memory) Bytes() []byte { return m }
func (m memory) Close() error  { return nil }
