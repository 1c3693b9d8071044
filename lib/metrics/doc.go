// Package metrics holds counters, gauges and histograms and writes them in the
// text exposition format.
//
// A Set is a constructor argument; there is no process-wide one. Names carry
// their labels: set.Counter(`vm_rows_ignored_total{reason="big_timestamp"}`).
// A metric which others read is created at start, so that it is present at 0.
//
// Hot paths keep the *Counter; looking a name up costs a lock and a map access.
package metrics
