package selectrpc

import (
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
)

func TestExemplarConformance(t *testing.T) {
	n := inMemory()
	apitest.RunExemplars(t, func(t *testing.T) apitest.ExemplarTarget {
		store := apitest.NewMemory()
		_, addr := serve(t, n, ServerOptions{Searcher: store, Exemplars: store})
		return apitest.ExemplarTarget{Writer: store, Reader: dial(t, n, addr)}
	})
}

func TestExemplarsNotOffered(t *testing.T) {
	n := inMemory()
	_, addr := serve(t, n, ServerOptions{Searcher: apitest.NewMemory()})
	if _, err := dial(t, n, addr).Exemplars(t.Context(), apitest.ExemplarQuery(model.TenantID{})); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("error %v", err)
	}
}
