package index

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// goldenIndex returns an index with all kinds of postings, two tenants and two flushes.
func goldenIndex(t testing.TB, fs vfs.FS) *Index {
	ix := mustOpen(t, fs, "/golden")
	for round := range 2 {
		for i := range 150 {
			tenant := model.TenantID{AccountID: uint32(i % 3 / 2 * 7), ProjectID: uint32(i % 3 / 2)}
			key := testKey(t, tenant, model.MetricNameLabel, fmt.Sprintf("metric_%d", i%7), "instance", fmt.Sprintf("host-%03d:9100", i), "job", "node", "round", fmt.Sprint(round))
			id, _, _ := ix.Add(model.HashSeriesKey(key), key)
			ix.MarkActive(id, int32(20000+i%2+round))
		}
		key := testKey(t, model.TenantID{ProjectID: uint32(1 - round)})
		id, _, _ := ix.Add(model.HashSeriesKey(key), key)
		ix.MarkActive(id, 20000)
		must(t, ix.Flush())
	}
	must(t, ix.Delete(roaring.BitmapOf(3, 4, 5, 200)))
	return ix
}

func TestGolden(t *testing.T) {
	fs := memfs.New(memfs.Options{})
	ix := goldenIndex(t, fs)
	closed(t, ix)
	entries, err := fs.ReadDir("/golden")
	must(t, err)
	disk := memfs.New(memfs.Options{})
	must(t, disk.MkdirAll("/golden"))
	for _, e := range entries {
		got, err := fs.ReadFile(filepath.Join("/golden", e.Name))
		must(t, err)
		file := filepath.Join("testdata", "golden", e.Name)
		if *update {
			must(t, os.MkdirAll(filepath.Dir(file), 0o755))
			must(t, os.WriteFile(file, got, 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes differ from the golden file of %d bytes; run with -update if the format was changed on purpose", e.Name, len(got), len(want))
		}
		must(t, vfs.WriteFileDurable(disk, filepath.Join("/golden", e.Name), want))
	}
	// What an older release has written must stay readable.
	ix = mustOpen(t, disk, "/golden")
	ids, err := ix.Search(ctx, Query{Filters: [][]model.TagFilter{{{Name: "round", Value: "1"}}}, FirstDay: 20001, LastDay: 20001})
	if err != nil || ids.GetCardinality() != 50 {
		t.Errorf("golden index: found %v, %v; want 50 series", ids, err)
	}
	values, err := ix.LabelValues(ctx, Query{Tenant: model.TenantID{AccountID: 7, ProjectID: 1}, FirstDay: 20000, LastDay: 20002}, "instance", 2)
	if err != nil || !slices.Equal(values, []string{"host-002:9100", "host-005:9100"}) {
		t.Errorf("golden index: values %q, %v", values, err)
	}
	closed(t, ix)
}

func TestPickMerge(t *testing.T) {
	for _, tc := range []struct{ sizes, want []int }{
		{nil, nil},
		{[]int{5, 5, 5}, nil},
		{[]int{5, 5, 5, 5}, []int{0, 1, 2, 3}},
		{[]int{1000, 5, 6, 5, 5}, []int{1, 2, 3, 4}},
		{[]int{10000, 1000, 100, 10}, nil},
		{[]int{1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000}, []int{0, 1}},
	} {
		if got := pickMerge(tc.sizes); !slices.Equal(got, tc.want) {
			t.Errorf("pickMerge(%v) = %v; want %v", tc.sizes, got, tc.want)
		}
	}
	// Thousands of flushes leave few segments and rewrite every byte a few times only.
	var sizes []int
	written := 0
	const flushes = 5000
	for range flushes {
		sizes = append(sizes, 100)
		for picked := pickMerge(sizes); picked != nil; picked = pickMerge(sizes) {
			sum := 0
			for _, i := range slices.Backward(picked) {
				sum += sizes[i]
				sizes = slices.Delete(sizes, i, i+1)
			}
			sizes = append(sizes, sum)
			written += sum
		}
		if len(sizes) > maxSegments {
			t.Fatalf("%d segments", len(sizes))
		}
	}
	if written > 12*100*flushes {
		t.Errorf("every byte is rewritten %d times", written/100/flushes)
	}
}

func TestDisjointTenants(t *testing.T) {
	ix := mustOpen(t, memfs.New(memfs.Options{}), "/i")
	a, b := model.TenantID{AccountID: 1}, model.TenantID{AccountID: 2}
	for i, tenant := range []model.TenantID{a, b} {
		key := testKey(t, tenant, model.MetricNameLabel, "m", "own", fmt.Sprint(i))
		id, _, _ := ix.Add(model.HashSeriesKey(key), key)
		ix.MarkActive(id, 1)
	}
	for range 2 {
		q := Query{Tenant: a, FirstDay: 1, LastDay: 1}
		ids, err := ix.Search(ctx, q)
		if err != nil || !slices.Equal(ids.ToArray(), []uint32{0}) {
			t.Fatalf("tenant %v sees %v, %v", a, ids, err)
		}
		values, err := ix.LabelValues(ctx, q, "own", 0)
		if err != nil || !slices.Equal(values, []string{"0"}) {
			t.Fatalf("tenant %v sees the values %q, %v", a, values, err)
		}
		must(t, ix.Flush())
	}
	closed(t, ix)
}

func TestErrors(t *testing.T) {
	ix := mustOpen(t, memfs.New(memfs.Options{}), "/i")
	if _, err := ix.Search(ctx, Query{Filters: [][]model.TagFilter{{{Name: "a", Value: "(", Op: model.Regexp}}}}); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("bad regexp: %v", err)
	}
	if _, err := ix.AppendKey(nil, 7); errkind.Of(err) != errkind.NotFound {
		t.Errorf("unknown id: %v", err)
	}
	if err := ix.Keys(ctx, roaring.BitmapOf(7), func(uint32, []byte) bool { return true }); errkind.Of(err) != errkind.NotFound {
		t.Errorf("unknown id: %v", err)
	}
	if err := ix.Restore(1, []byte("short")); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("bad key: %v", err)
	}
	closed(t, ix)
}

// FuzzSegment gives damaged segments with a valid checksum to the decoder.
func FuzzSegment(f *testing.F) {
	fs := memfs.New(memfs.Options{})
	ix := goldenIndex(f, fs)
	ix.mu.state.deleted = roaring.New()
	must(f, ix.Merge(ctx))
	data, err := fs.ReadFile(ix.mu.state.segments[0].path)
	must(f, err)
	closed(f, ix)
	f.Add(data)
	dec, err := newRowDecoder()
	must(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 4 {
			return
		}
		data = binary.LittleEndian.AppendUint32(bytes.Clone(data[:len(data)-4]), checksum(data[:len(data)-4]))
		fs := memfs.New(memfs.Options{})
		must(t, vfs.WriteFileDurable(fs, "/seg-0", data))
		s, err := openSegment(fs, "/seg-0", dec)
		if err != nil {
			if k := errkind.Of(err); k != errkind.Corrupt && k != errkind.Unsupported {
				t.Fatalf("error %v of kind %v", err, errkind.Of(err))
			}
			return
		}
		exercise(s)
		w, err := newSegmentWriter(fs, "/merged", s.footer.firstID)
		must(t, err)
		if err := mergeInto(ctx, w, []*segment{s}, roaring.BitmapOf(3, 100)); err != nil {
			must(t, w.abort())
			return
		}
		_, err = w.finish()
		must(t, err)
	})
}

// exercise reads everything; errors are fine, crashes are not.
func exercise(s *segment) {
	st := &state{head: newHead(), segments: []*segment{s}, deleted: roaring.New()}
	for id := range uint32(400) {
		key, _, _ := s.appendKey(nil, id)
		_, _, _ = s.lookup(model.HashSeriesKey(key), key, st.deleted)
	}
	readAll(s)
	for i := range min(s.footer.tenantCount, 10) {
		src, ok, err := s.tenant(s.tenantAt(i).id)
		if !ok || err != nil {
			continue
		}
		names, _ := src.labelNames()
		for _, name := range names {
			var ids idSet
			_ = src.addMatching(ctx, &ids, valueMatch{name: name, prefix: "m"})
			_ = src.addLabel(&ids, name)
			_ = src.addValue(&ids, name, "host-003:9100")
		}
		_, _ = valuesByPosting(ctx, []tenantSource{src}, roaring.BitmapOf(1, 100), "instance", 0)
		set := filterSet{include: []term{}}
		_, _ = set.eval(ctx, st, src)
	}
}

func FuzzSmallFiles(f *testing.F) {
	m := manifest{nextSeq: 7, segments: []string{"seg-1", "seg-2"}, deleted: "deleted-3", days: []int32{-3, 0, 20000, 20001}}
	f.Add(m.appendTo(nil))
	day, err := appendDay(nil, 20000, roaring.BitmapOf(1, 2, 3, 70000))
	must(f, err)
	f.Add(day)
	deleted, err := appendDeleted(nil, roaring.BitmapOf(1, 2, 3, 70000))
	must(f, err)
	f.Add(deleted)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 4 {
			return
		}
		data = binary.LittleEndian.AppendUint32(bytes.Clone(data[:len(data)-4]), checksum(data[:len(data)-4]))
		if m, err := decodeManifest(data, "m"); err == nil {
			again, err := decodeManifest(m.appendTo(nil), "m")
			if err != nil || again.nextSeq != m.nextSeq || again.deleted != m.deleted || !slices.Equal(again.segments, m.segments) || !slices.Equal(again.days, m.days) {
				t.Fatalf("manifest %+v became %+v, %v", m, again, err)
			}
		}
		if ids, err := decodeDeleted(data, "d"); err == nil {
			again, err := appendDeleted(nil, ids.Clone())
			must(t, err)
			if ids2, err := decodeDeleted(again, "d"); err != nil || !ids2.Equals(ids) {
				t.Fatalf("deleted series %v became %v, %v", ids, ids2, err)
			}
		}
		if day, ids, err := decodeDay(data, "d"); err == nil {
			again, err := appendDay(nil, day, ids.Clone())
			must(t, err)
			day2, ids2, err := decodeDay(again, "d")
			if err != nil || day2 != day || !ids2.Equals(ids) {
				t.Fatalf("day %d became %d, %v", day, day2, err)
			}
		}
	})
}
