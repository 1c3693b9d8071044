package partition

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

const publishedAt = 1_700_000_000_000

// openOn opens the partition of the tests in this file.
func openOn(t *testing.T, fsys vfs.FS) *Partition {
	t.Helper()
	set := metrics.NewSet()
	stats := &Counters{CorruptParts: set.Counter("corrupt"), CorruptManifests: set.Counter("manifests"), Deduplicated: set.Counter("deduplicated")}
	for _, c := range []*MergeCounters{&stats.Small, &stats.Big} {
		c.Merges, c.Rows, c.Deleted = set.Counter("merges"), set.Counter("rows"), set.Counter("deleted")
	}
	p, err := Open(Options{FS: fsys, DataDir: "/", Month: MonthOf(publishedAt), Logger: logger.Discard(), Metrics: set, Stats: stats})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testKey(t *testing.T, name string) []byte {
	t.Helper()
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, []model.Label{{Name: "a", Value: name}})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// flushRows flushes parts of one sample each.
func flushRows(t *testing.T, p *Partition, from, n int) {
	t.Helper()
	key := testKey(t, "b")
	id, _, err := p.Index().Add(model.HashSeriesKey(key), key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var d head.Delta
		d.Reset()
		p.Head().Append(id, []model.Sample{{Timestamp: publishedAt + int64(from+i), Value: 1}}, &d)
		p.Head().Add(&d)
		p.Freeze()
		if _, err := p.FlushFrozen(context.Background(), p.Month().Range()); err != nil {
			t.Fatal(err)
		}
	}
}

// wantRows opens what is on the disk and counts.
func wantRows(t *testing.T, fsys vfs.FS, want int64, what string) {
	t.Helper()
	p := openOn(t, fsys)
	defer func() {
		if err := p.Release(); err != nil {
			t.Error(err)
		}
	}()
	if err := p.Lost(p.Month().Range()); err != nil {
		t.Fatalf("%s: %s", what, err)
	}
	if got := p.Stats().Small.Rows; got != want {
		t.Fatalf("%s: %d samples; want %d", what, got, want)
	}
}

// TestPublicationOfUnknownOutcome lets each operation of a merge fail in turn, among them the fsync of the directory behind the new MANIFEST: then nobody knows which
// list is on the disk. Whatever happens to the process and the power then, every sample is in a part which is listed.
func TestPublicationOfUnknownOutcome(t *testing.T) {
	const rows = 4
	failed := 0
	for at := int64(1); ; at++ {
		mem := memfs.New(memfs.Options{})
		faulty := faultfs.New(mem)
		p := openOn(t, faulty)
		flushRows(t, p, 0, rows)
		faulty.SetFault(faultfs.Fault{At: at, Kinds: []faultfs.Kind{faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.SyncDir, faultfs.Rename}})
		err := p.MergeAll(context.Background(), p.Month().Range(), math.MaxInt64)
		faulty.SetFault(faultfs.Fault{})
		for seed := range uint64(10) {
			wantRows(t, mem.Crash(rand.New(rand.NewPCG(seed, 1))), rows, "after a power failure")
		}
		// The process is killed: the next one finds what the system still has in memory, and then the power fails.
		for seed := range uint64(10) {
			copied := mem.Crash(rand.New(rand.NewPCG(seed, 2)))
			wantRows(t, copied, rows, "after a start")
			wantRows(t, copied.Crash(rand.New(rand.NewPCG(seed, 3))), rows, "after a start and a power failure")
		}
		faulty.SetFault(faultfs.Fault{At: 1, Sticky: true}) // nothing reaches the disk from here on
		_ = p.Release()
		wantRows(t, mem, rows, "after a kill")
		for seed := range uint64(10) {
			wantRows(t, mem.Crash(rand.New(rand.NewPCG(seed, 4))), rows, "after a kill, a start and a power failure")
		}
		if err == nil {
			break
		}
		failed++
	}
	if failed < 10 {
		t.Errorf("only %d operations of a merge can fail", failed)
	}
}

// TestIDsOfPartsAreReserved loses the index. A new series must not get the samples of an old one.
func TestIDsOfPartsAreReserved(t *testing.T) {
	mem := memfs.New(memfs.Options{})
	p := openOn(t, mem)
	flushRows(t, p, 0, 1)
	old, _ := p.mu.parts[0].MaxID()
	dir := p.indexDir()
	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
	if err := mem.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	p = openOn(t, mem)
	key := testKey(t, "other")
	if id, _, _ := p.Index().Add(model.HashSeriesKey(key), key); id <= old {
		t.Errorf("a new series has id %d; parts have ids up to %d", id, old)
	}
	if err := p.Release(); err != nil {
		t.Error(err)
	}
}
