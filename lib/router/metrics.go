package router

import (
	"fmt"

	"vmcluster/lib/metrics"
)

// routerMetrics counts what was sent where it did not belong.
type routerMetrics struct {
	from      []*metrics.Counter // by node
	to        []*metrics.Counter
	reroutes  *metrics.Counter
	processed *metrics.Counter
}

func newMetrics(set *metrics.Set, names []string) *routerMetrics {
	m := &routerMetrics{
		reroutes:  set.Counter(`vm_rpc_reroutes_total{name="vminsert"}`),
		processed: set.Counter(`vm_rpc_rerouted_rows_processed_total{name="vminsert"}`),
	}
	// Dashboards read it. Each row has one copy, so it stays 0.
	set.Counter(`vm_rpc_rows_incompletely_replicated_total{name="vminsert"}`)
	for _, name := range names {
		labels := fmt.Sprintf(`{name="vminsert", addr=%q, rpc_call="metric_rows"}`, name)
		m.from = append(m.from, set.Counter("vm_rpc_rows_rerouted_from_here_total"+labels))
		m.to = append(m.to, set.Counter("vm_rpc_rows_rerouted_to_here_total"+labels))
	}
	return m
}

// detoured counts the rows of a share which prefer other nodes.
func (m *routerMetrics) detoured(node int, s *share) {
	for preferred, rows := range s.detoured {
		if rows > 0 {
			m.from[preferred].Add(rows)
			m.to[node].Add(rows)
		}
	}
}
