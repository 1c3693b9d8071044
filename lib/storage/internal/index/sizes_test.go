package index

import (
	"fmt"
	"os"
	"testing"

	"vmcluster/lib/vfs"
)

// TestSizes logs where the bytes of an index go; set INDEX_BENCH_SERIES to run it.
func TestSizes(t *testing.T) {
	if os.Getenv("INDEX_BENCH_SERIES") == "" {
		t.Skip("INDEX_BENCH_SERIES is not set")
	}
	for name, keys := range map[string][][]byte{"simple": k8sKeys(t, benchSeries()), "real": realKeys(t, benchSeries())} {
		ix := mustOpen(t, vfs.OS(), t.TempDir())
		hashes := hashAll(keys)
		text := 0
		for i, key := range keys {
			id, _, _ := ix.Add(hashes[i], key)
			ix.MarkActive(id, 1)
			text += len(key)
		}
		must(t, ix.Flush())
		t.Logf("%s: %d series, key %d bytes, %.2f B/series", name, len(keys), text/len(keys), float64(ix.SizeBytes())/float64(len(keys)))
		for part, size := range sizesOf(t, ix.mu.state.segments[0]) {
			t.Logf("  %s %.2f", part, float64(size)/float64(len(keys)))
		}
		closed(t, ix)
	}
}

func sizesOf(t *testing.T, s *segment) map[string]uint64 {
	f := &s.footer
	sizes := map[string]uint64{
		"rows": f.rowIndex - f.rows, "row index": f.rowBlocks * rowEntrySize,
		"hash buckets": 4 << f.bucketBits, "hash entries": f.series * uint64(s.hashes.entrySize),
		"value block table": uint64(len(s.data)) - f.valueBlocks,
	}
	sizes["dictionary"] = f.rows - segmentHeader
	c := &dictCursor{s: s}
	for {
		ok, err := c.next()
		must(t, err)
		if !ok {
			return sizes
		}
		must(t, c.values.posting())
		if len(c.values.few) == 0 {
			sizes["of it bitmaps "+c.name.name] += c.values.place[1]
			sizes["of it bitmaps"] += c.values.place[1]
		}
		sizes[fmt.Sprintf("of it text of %s", c.name.name)] += uint64(len(c.values.texts.stored))
	}
}
