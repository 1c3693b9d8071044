package selectrpc

import (
	"context"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

func goldenVersions() []storageapi.Version {
	return []storageapi.Version{
		{Instance: 0x0102030405060708, Sequence: 300, Changed: 299, Until: 1794268800000, DedupIntervalMs: 15000},
		{Instance: math.MaxUint64, Changed: math.MaxUint64, Until: -1},
	}
}

func encodeVersions(list []storageapi.Version) (b []byte) {
	for i := range list {
		b = appendVersion(b, &list[i])
	}
	return b
}

func TestVersionsGolden(t *testing.T) {
	got := hex.EncodeToString(encodeVersions(goldenVersions())) + "\n"
	path := filepath.Join("testdata", "versions.hex")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("got %s; want %s, %v", got, want, err)
	}
}

type fakeVersioner struct {
	tenant model.TenantID
	r      model.TimeRange
}

func (f *fakeVersioner) Versions(_ context.Context, tenant model.TenantID, r model.TimeRange) ([]storageapi.Version, error) {
	f.tenant, f.r = tenant, r
	return goldenVersions(), nil
}

func TestVersions(t *testing.T) {
	n := inMemory()
	f := &fakeVersioner{}
	_, addr := serve(t, n, ServerOptions{Searcher: apitest.NewMemory(), Versioner: f})
	tenant, r := model.TenantID{AccountID: 7, ProjectID: 9}, model.TimeRange{Min: -5, Max: 1794268800000}
	got, err := dial(t, n, addr).Versions(t.Context(), tenant, r)
	if err != nil || !slices.Equal(got, goldenVersions()) || f.tenant != tenant || f.r != r {
		t.Errorf("%+v, %v; asked for %+v", got, err, f)
	}
	_, addr = serve(t, n, ServerOptions{Searcher: apitest.NewMemory()})
	if _, err := dial(t, n, addr).Versions(t.Context(), tenant, r); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("error %v", err)
	}
}

func FuzzVersions(f *testing.F) {
	f.Add(encodeVersions(goldenVersions()))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, src []byte) {
		list, err := appendVersions(nil, src)
		if err != nil {
			if errkind.Of(err) != errkind.Corrupt {
				t.Errorf("error %v", err)
			}
			return
		}
		again, err := appendVersions(nil, encodeVersions(list))
		if err != nil || !slices.Equal(again, list) {
			t.Errorf("%+v became %+v, %v", list, again, err)
		}
	})
}
