package partition

import (
	"context"
	"math"
	"testing"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/vfs/memfs"
)

// withParts returns a partition with parts of one series each.
func withParts(t *testing.T, n int) *Partition {
	t.Helper()
	set := metrics.NewSet()
	stats := &Counters{CorruptParts: set.Counter("corrupt"), CorruptManifests: set.Counter("manifests"), Deduplicated: set.Counter("deduplicated")}
	for _, c := range []*MergeCounters{&stats.Small, &stats.Big} {
		c.Merges, c.Rows, c.Deleted = set.Counter("merges"), set.Counter("rows"), set.Counter("deleted")
	}
	month := MonthOf(1_700_000_000_000)
	p, err := Open(Options{FS: memfs.New(memfs.Options{}), DataDir: "/", Month: month, Logger: logger.Discard(), Metrics: set, Stats: stats})
	if err != nil {
		t.Fatal(err)
	}
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, []model.Label{{Name: "a", Value: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	id, _, _ := p.Index().Add(model.HashSeriesKey(key), key)
	for i := range n {
		var d head.Delta
		d.Reset()
		p.Head().Append(id, []model.Sample{{Timestamp: 1_700_000_000_000 + int64(i), Value: 1}}, &d)
		p.Head().Add(&d)
		p.Freeze()
		if _, err := p.FlushFrozen(context.Background(), month.Range()); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// TestMergeThatCannotSucceedIsGivenUp has parts whose merge fails though their checksums are right: they are left alone, so that
// others can be merged.
func TestMergeThatCannotSucceedIsGivenUp(t *testing.T) {
	ctx := context.Background()
	p := withParts(t, mergeFanout)
	p.findDamaged(ctx, p.snapshot())
	if more, err := p.MergeNext(ctx, p.Month().Range(), math.MaxInt64); more || err != nil {
		t.Errorf("merged %t, %v; want nothing to do", more, err)
	}
	if n := len(p.Infos()); n != mergeFanout {
		t.Errorf("%d parts; want %d", n, mergeFanout)
	}
	if err := p.Release(); err != nil {
		t.Error(err)
	}
}

func TestTryAcquire(t *testing.T) {
	p := withParts(t, 1)
	if !p.TryAcquire() {
		t.Fatal("want a reference")
	}
	for range 2 {
		if err := p.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if p.TryAcquire() {
		t.Error("a reference to a closed partition")
	}
}
