package storage

import (
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/wal"
)

// Native histograms of a batch take the way of its samples, in runs of their own behind those of samples, so that batches without any pay nothing. Start and
// end of such a run are places in writer.histograms.

// splitHistograms is split for the native histograms of the batch.
func (w *writer) splitHistograms(b *model.Batch) {
	w.histograms = w.histograms[:0]
	if b.HistogramRows() == 0 {
		return
	}
	accepted := w.s.accepted()
	for i := range b.Len() {
		start, first := len(w.histograms), len(w.runs)
		w.histograms = b.AppendHistograms(w.histograms, i)
		open := false // the last run goes on
		for j := start; j < len(w.histograms); j++ {
			x := &w.histograms[j]
			if !w.takes(b, i, x, accepted) {
				open = false
				continue
			}
			w.oldest = min(w.oldest, x.Timestamp)
			if month := partition.MonthOf(x.Timestamp); !open || month != w.runs[len(w.runs)-1].month {
				w.runs = append(w.runs, run{series: i, start: j, month: month})
				open = true
			}
			w.runs[len(w.runs)-1].end = j + 1
		}
		if w.s.limits != nil && len(w.runs) > first && !w.s.limits.pass(b, i, w.runs[first:]) {
			w.runs = w.runs[:first]
		}
		w.identify(b, i, first)
	}
}

// takes reports whether a native histogram of series i is taken.
func (w *writer) takes(b *model.Batch, i int, x *model.Histogram, accepted model.TimeRange) bool {
	if !accepted.Contains(x.Timestamp) {
		w.s.ignore(b.Key(i), x.Timestamp, accepted)
		return false
	}
	if len(x.Payload) == 0 || len(x.Payload) > tsblock.MaxHistogramBytes {
		w.s.m.ignoredLarge.Inc()
		w.s.largeWarn.Warnf("ignoring a native histogram of %s with %d bytes: the limit is %d; use fewer buckets", keyText(b.Key(i)), len(x.Payload), tsblock.MaxHistogramBytes)
		return false
	}
	return true
}

// logHistograms puts all native histograms into the log, behind what is in the frame already.
func (w *writer) logHistograms(position wal.Position) (_ wal.Position, err error) {
	for i := range w.runs[w.samples:] {
		r := &w.runs[w.samples+i]
		for _, x := range w.histograms[r.start:r.end] {
			w.frame.AddHistogram(uint32(r.month), r.id, x.Timestamp, x.Payload)
			if w.frame.Len() < frameTarget {
				continue
			}
			if position, err = w.appendFrame(); err != nil {
				return 0, err
			}
		}
	}
	return position, nil
}
