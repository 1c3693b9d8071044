package selectrpc

import (
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/storageapi/apitest"
)

func TestMetadataConformance(t *testing.T) {
	n := inMemory()
	apitest.RunMetadata(t, func(t *testing.T) apitest.MetadataTarget {
		store := apitest.NewMemory()
		_, addr := serve(t, n, ServerOptions{Searcher: store, Metadata: store})
		return apitest.MetadataTarget{Writer: store, Reader: dial(t, n, addr)}
	})
}

func TestMetadataNotOffered(t *testing.T) {
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: apitest.NewMemory()})
	if _, err := dial(t, n, addr).Metadata(t.Context(), &storageapi.MetadataQuery{}); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("error %v", err)
	}
}

func TestMetadataFrames(t *testing.T) {
	m := model.Metadata{Metric: "m", Help: "h"}
	if list, err := appendMetadata(nil, m.AppendTo(m.AppendTo(nil))); err != nil || len(list) != 2 || list[1] != m {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := appendMetadata(nil, m.AppendTo(nil)[:5]); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("error %v", err)
	}
}
