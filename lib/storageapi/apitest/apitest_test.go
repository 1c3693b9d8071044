package apitest

import "testing"

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Target {
		m := NewMemory()
		return Target{Ingester: m, Searcher: m, Admin: m, Catalog: m}
	})
}
