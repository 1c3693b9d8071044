package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/memfs"
)

func TestExemplarConformance(t *testing.T) {
	apitest.RunExemplars(t, func(t *testing.T) apitest.ExemplarTarget {
		s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
		t.Cleanup(func() { closeTest(t, s) })
		return apitest.ExemplarTarget{Writer: s, Reader: s}
	})
}

func addExemplars(t *testing.T, s *Storage, list ...model.Exemplar) {
	t.Helper()
	if err := s.AddExemplars(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

func wantExemplars(t *testing.T, s *Storage, want ...model.Exemplar) {
	t.Helper()
	got, err := s.Exemplars(t.Context(), apitest.ExemplarQuery(model.TenantID{}))
	if err != nil || !apitest.SameExemplars(got.Items, want) {
		t.Errorf("exemplars are %+v, %v; want %+v", got.Items, err, want)
	}
}

func someExemplars(n int) (list []model.Exemplar) {
	for i := range n {
		list = append(list, apitest.Exemplar(model.TenantID{}, fmt.Sprintf("m%d", i), "test", fmt.Sprint(i), int64(i)))
	}
	return list
}

func TestExemplarsOutsideOfRetention(t *testing.T) {
	cfg := testConfig()
	s := openTest(t, cfg, testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	list := someExemplars(3)
	list[0].Timestamp = testNow().UnixMilli() - cfg.RetentionPeriod.Millis - 1
	list[1].Timestamp = testNow().UnixMilli() + cfg.FutureRetention.Millis + 1
	addExemplars(t, s, list...)
	wantExemplars(t, s, list[2])
	wantMetrics(t, s.o.Metrics, map[string]string{
		`vm_exemplars_ignored_total{reason="small_timestamp"}`: "1", `vm_exemplars_ignored_total{reason="big_timestamp"}`: "1", "vm_exemplars_storage_items": "1",
	})
}

// TestDeletedSeriesHaveNoExemplars deletes series, one of which has exemplars only.
func TestDeletedSeriesHaveNoExemplars(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli(), 1))
	list := someExemplars(4)
	addExemplars(t, s, list...)
	q := model.SearchQuery{Filters: [][]model.TagFilter{{{Name: model.MetricNameLabel, Op: model.Regexp, Value: "m[12]"}}}}
	if n, err := s.DeleteSeries(t.Context(), &q); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	wantExemplars(t, s, list[0], list[3])
	addExemplars(t, s, list[2]) // as a new series
	closeTest(t, s)
	s = openTest(t, testConfig(), testOptions(fsys))
	defer closeTest(t, s)
	wantExemplars(t, s, list[0], list[2], list[3])
}

// TestSnapshotHoldsExemplars takes two snapshots, goes on writing, and opens both as storages.
func TestSnapshotHoldsExemplars(t *testing.T) {
	fsys := memfs.New(memfs.Options{})
	s := openTest(t, testConfig(), testOptions(fsys))
	list := someExemplars(3)
	var dirs []string
	for i := range list {
		addExemplars(t, s, list[i])
		name, err := s.CreateSnapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, s.snapshotDir(name))
	}
	closeTest(t, s)
	for i, dir := range dirs {
		cfg := testConfig()
		cfg.DataPath = dir
		copied := openTest(t, cfg, testOptions(fsys))
		wantExemplars(t, copied, list[:i+1]...)
		addExemplars(t, copied, list[2])
		closeTest(t, copied)
	}
	s = openTest(t, testConfig(), testOptions(fsys))
	defer closeTest(t, s)
	wantExemplars(t, s, list...)
	files, err := ListFiles(fsys, dirs[1])
	if err != nil || len(files) == 0 || filepath.Dir(files[0].Path) != "data/exemplars" {
		t.Errorf("files %+v, %v", files, err)
	}
}

func TestReadOnlyStorageRefusesExemplars(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	list := someExemplars(2)
	addExemplars(t, s, list[0])
	s.readOnly.Store(true)
	if err := s.AddExemplars(t.Context(), list); errkind.Of(err) != errkind.ReadOnly {
		t.Errorf("error %v", err)
	}
	s.readOnly.Store(false)
	wantExemplars(t, s, list[0])
}

// failing is a file system on which nothing can be written to exemplars.
type failing struct{ vfs.FS }

func (f failing) Create(path string) (vfs.File, error) {
	if filepath.Base(filepath.Dir(path)) == exemplarsName {
		return nil, errkind.New(errkind.Internal, "cannot create %q: the disk is bad", path)
	}
	return f.FS.Create(path)
}

func TestFailedExemplarsDoNotHurtSamples(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(failing{memfs.New(memfs.Options{})}))
	defer closeTest(t, s)
	if err := s.AddExemplars(t.Context(), someExemplars(1)); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("error %v", err)
	}
	ingest(t, s, batchOf(t, 2, testNow().UnixMilli(), 1))
	if n, err := s.SeriesCount(t.Context(), model.TenantID{}); err != nil || n.Value != 2 {
		t.Errorf("%+v, %v", n, err)
	}
	wantExemplars(t, s)
}
