package main

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"vmcluster/lib/metrics"
)

// kindMetrics are about the backups of one kind, latest included.
type kindMetrics struct {
	errors, deleted *metrics.Counter
	failed          atomic.Bool
	successAt       gauge // Unix seconds of the instant which the newest whole one shows; 0: there is none
	duration, size  gauge
}

// gauge is a number that is set.
type gauge struct{ bits atomic.Uint64 }

func (g *gauge) set(v float64)  { g.bits.Store(math.Float64bits(v)) }
func (g *gauge) value() float64 { return math.Float64frombits(g.bits.Load()) }

func (g *gauge) setTime(t time.Time) {
	if t.IsZero() {
		g.set(0)
		return
	}
	g.set(float64(t.Unix()))
}

func newKindMetrics(set *metrics.Set, kind string) *kindMetrics {
	name := func(metric string) string { return fmt.Sprintf("%s{type=%q}", metric, kind) }
	m := &kindMetrics{errors: set.Counter(name("vm_backup_errors_total"))}
	if kind != latest {
		m.deleted = set.Counter(name("vm_backup_retention_deleted_total"))
	}
	set.Gauge(name("vm_backup_last_run_failed"), func() float64 { return number(m.failed.Load()) })
	set.Gauge(name("vm_backup_last_success_at"), m.successAt.value)
	set.Gauge(name("vm_backup_last_duration_seconds"), m.duration.value)
	set.Gauge(name("vm_backup_last_size_bytes"), m.size.value)
	return m
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// ended takes note of how a backup has ended, or a deletion has.
func (m *kindMetrics) ended(err error) {
	m.failed.Store(err != nil)
	if err != nil {
		m.errors.Inc()
	}
}

// made takes note of a whole backup of the instant at.
func (m *kindMetrics) made(at time.Time, took time.Duration, bytes int64) {
	m.successAt.setTime(at)
	m.duration.set(took.Seconds())
	m.size.set(float64(bytes))
}
