package streamaggr

import (
	"fmt"
	"math"

	"vmcluster/lib/metrics"
)

const maxTime = math.MaxInt64

// register registers what the rules tell of themselves. Rules come and go.
func (a *Aggregator) register(set *metrics.Set) {
	set.Gauge("vm_streamaggr_memory_bytes", func() float64 { return float64(a.held.Load()) })
	set.AddCollector(func(w *metrics.Writer) {
		rules := a.rules.Load().rules
		families := []struct {
			name, label string
			of          func(r *rule) *metrics.Counter
		}{
			{"vm_streamaggr_matched_samples_total", "", func(r *rule) *metrics.Counter { return &r.matched }},
			{"vm_streamaggr_ignored_samples_total", `reason="nan",`, func(r *rule) *metrics.Counter { return &r.nan }},
			{"vm_streamaggr_ignored_samples_total", `reason="too_old",`, func(r *rule) *metrics.Counter { return &r.old }},
			{"vm_streamaggr_ignored_samples_total", `reason="too_new",`, func(r *rule) *metrics.Counter { return &r.early }},
			{"vm_streamaggr_ignored_samples_total", `reason="out_of_order",`, func(r *rule) *metrics.Counter { return &r.late }},
			{"vm_streamaggr_ignored_samples_total", `reason="memory",`, func(r *rule) *metrics.Counter { return &r.full }},
			{"vm_streamaggr_dedup_dropped_samples_total", "", func(r *rule) *metrics.Counter { return &r.duplicates }},
			{"vm_streamaggr_counter_resets_total", "", func(r *rule) *metrics.Counter { return &r.resets }},
			{"vm_streamaggr_lost_samples_total", "", func(r *rule) *metrics.Counter { return &r.lost }},
			{"vm_streamaggr_flush_timeouts_total", "", func(r *rule) *metrics.Counter { return &r.slowFlushes }},
			{"vm_streamaggr_dedup_flush_timeouts_total", "", func(r *rule) *metrics.Counter { return &r.slowDedups }},
		}
		for _, f := range families {
			for _, r := range rules {
				w.Counter(f.name+"{"+f.label+r.labels()+"}", float64(f.of(r).Get()))
			}
		}
		for _, r := range rules {
			r.writeOutputs(w)
		}
		for _, r := range rules {
			w.Gauge("vm_streamaggr_series{"+r.labels()+"}", float64(r.held(func(sh *shard) int { return len(sh.all) })))
		}
		for _, r := range rules {
			w.Gauge("vm_streamaggr_groups{"+r.labels()+"}", float64(r.held(func(sh *shard) int { return len(sh.list) })))
		}
	})
}

// writeOutputs writes how many samples each output has come to.
func (r *rule) writeOutputs(w *metrics.Writer) {
	const name = "vm_streamaggr_output_samples_total"
	if r.passThrough {
		w.Counter(fmt.Sprintf("%s{output=\"deduplication\",%s}", name, r.labels()), float64(r.written[0].Get()))
	}
	for _, o := range r.outputs {
		w.Counter(fmt.Sprintf("%s{output=%q,%s}", name, kindNames()[o.kind], r.labels()), float64(r.written[o.kind].Get()))
	}
}

// held adds up what the shards hold.
func (r *rule) held(of func(sh *shard) int) int {
	n := 0
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		n += of(sh)
		sh.mu.Unlock()
	}
	return n
}
