package router

import (
	"fmt"

	"vmcluster/lib/metrics"
)

// routerMetrics counts what did not go the ordinary way.
type routerMetrics struct {
	reroutes   *metrics.Counter
	processed  *metrics.Counter
	incomplete *metrics.Counter
	dropped    *metrics.Counter
}

func newMetrics(set *metrics.Set) *routerMetrics {
	return &routerMetrics{
		reroutes:   set.Counter(`vm_rpc_reroutes_total{name="vminsert"}`),
		processed:  set.Counter(`vm_rpc_rerouted_rows_processed_total{name="vminsert"}`),
		incomplete: set.Counter(`vm_rpc_rows_incompletely_replicated_total{name="vminsert"}`),
		dropped:    set.Counter(`vm_rpc_rows_dropped_on_overload_total{name="vminsert"}`),
	}
}

// nodeMetrics counts the rows of one node that were sent where they did not belong.
type nodeMetrics struct{ from, to *metrics.Counter }

func newNodeMetrics(set *metrics.Set, name string) nodeMetrics {
	labels := fmt.Sprintf(`{name="vminsert", addr=%q, rpc_call="metric_rows"}`, name)
	return nodeMetrics{
		from: set.Counter("vm_rpc_rows_rerouted_from_here_total" + labels),
		to:   set.Counter("vm_rpc_rows_rerouted_to_here_total" + labels),
	}
}
