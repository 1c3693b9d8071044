package part

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

var partDirs = flag.String("part", "", "comma-separated directories of parts whose bytes TestSpace counts")

// TestSpace prints where the bytes of parts go: go test ./lib/storage/internal/part -run TestSpace -v -part DIR,DIR.
func TestSpace(t *testing.T) {
	if *partDirs == "" {
		t.Skip("no -part is given")
	}
	for _, dir := range strings.Split(*partDirs, ",") {
		p, err := Open(vfs.OS(), dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s\n%s", filepath.Base(dir), spaceTable(t, p))
		p.Release()
	}
}

// spaceTable lists what takes how many bytes, in all and per sample.
func spaceTable(t *testing.T, p *Part) string {
	t.Helper()
	m := p.Meta()
	var out strings.Builder
	fmt.Fprintf(&out, "%d series, %d blocks, %d columns of timestamps, %d repeated columns of values, %d samples\n",
		m.Series, m.Blocks, m.Columns, p.index.repeats.columns.Len(), m.Rows)
	line := func(name string, n int64, bytes int64) {
		fmt.Fprintf(&out, "%-32s %10d %12d B %9.5f B/sample\n", name, n, bytes, float64(bytes)/float64(m.Rows))
	}
	formats, sizes := map[string]int64{}, map[string]int64{}
	for i := range p.index.values.sizes.Len() {
		offset, size := p.index.values.at(i)
		column, err := p.values.bytes(offset, size, &p.index.valuesCRC)
		if err != nil {
			t.Fatal(err)
		}
		name := valueFormat(column)
		formats[name]++
		sizes[name] += size
	}
	for _, name := range []string{"raw", "constant", "decimals", "ordered bits", "split"} {
		line("values: "+name, formats[name], sizes[name])
	}
	line("timestamps", m.Columns, int64(len(p.times.mapping.Bytes())))
	for i, a := range p.index.arrays(t, p.blocks.Bytes()) {
		line("index: "+arrayNames[i], int64(a.n), int64(a.size))
	}
	line("all", m.Blocks, m.SizeBytes)
	return out.String()
}

func valueFormat(column []byte) string {
	names := []string{"raw", "constant", "decimals", "ordered bits", "split"}
	if f := int(column[0] & 15); f < len(names) {
		return names[f]
	}
	return "unknown"
}

var arrayNames = []string{
	"ids", "byID", "extraBlocks", "blockColumn", "repeat words", "repeats before", "repeat columns", "value sizes", "value offsets",
	"column sizes", "column offsets", "columnMin", "columnSpan", "columnCount", "values checksums", "timestamps checksums",
}

type arraySize struct{ n, size int }

// arrays returns the sizes of the arrays of a blocks file.
func (x *blockIndex) arrays(t *testing.T, data []byte) []arraySize {
	t.Helper()
	var out []arraySize
	at := headerSize + 6*8
	for _, n := range []int{
		x.ids.Len(), x.byID.Len(), x.extraBlocks.Len(), x.blockColumn.Len(), x.repeats.words.Len(), x.repeats.before.Len(), x.repeats.columns.Len(),
		x.values.sizes.Len(), x.values.offsets.Len(), x.timestamps.sizes.Len(), x.timestamps.offsets.Len(),
		x.columnMin.Len(), x.columnSpan.Len(), x.columnCount.Len(), x.valuesCRC.Len(), x.timesCRC.Len(),
	} {
		size := 1 + 8 + (n*int(data[at])+7)/8 + 8
		out = append(out, arraySize{n, size})
		at += size
	}
	if at != len(data) {
		t.Fatalf("the arrays take %d bytes of %d", at, len(data))
	}
	return out
}

// TestRepeatedValues checks that equal columns of values are written once and read by all.
func TestRepeatedValues(t *testing.T) {
	r := newRand(t)
	fsys := vfs.OS()
	const kinds, count = 3, 200
	var all []series
	for id := range uint32(count) {
		values := rand.New(rand.NewPCG(uint64(r.IntN(kinds)), 1))
		var s tsblock.Samples
		for i := range 300 {
			s.Append(int64(i*1000), float64(values.IntN(1000)))
		}
		all = append(all, series{id: id, blocks: []tsblock.Samples{s}})
	}
	p := writePart(t, fsys, filepath.Join(t.TempDir(), "part"), all)
	defer p.Release()
	if own := p.index.values.sizes.Len(); own != kinds {
		t.Errorf("%d columns of values are written; want %d", own, kinds)
	}
	if got := binary.LittleEndian.Uint64(p.blocks.Bytes()[headerSize+3*8:]); got != count-kinds {
		t.Errorf("%d blocks repeat a column; want %d", got, count-kinds)
	}
	for _, s := range all {
		if got := readSeries(t, p, s.id, everything()); !sameSamples(&got, &s.blocks[0]) {
			t.Fatalf("series %d differs", s.id)
		}
	}
}
