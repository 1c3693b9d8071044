package metrics

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"
)

// summaryPeriod is how long a period of a Summary is. Quantiles are of the current one and the one before.
const summaryPeriod = 5 * time.Minute

// Summary is a Histogram which also says quantiles of the last five to ten minutes: <name>{quantile="0.99"}. They are upper bounds
// of buckets, so up to 14 % too high. Systems that do not know vmrange buckets can show them. Without recent values there are none.
type Summary struct {
	Histogram
	now func() time.Time

	recent struct {
		sync.Mutex
		ends          time.Time // of the current period
		current, last *period
	}
}

// period counts values by bucket; the first and the last bucket are for those outside of all others.
type period struct {
	buckets [bucketCount + 2]uint32
	count   uint64
	largest float64
}

// Update counts one value.
func (s *Summary) Update(v float64) {
	if math.IsNaN(v) || v < 0 {
		return
	}
	s.Histogram.Update(v)
	s.recent.Lock()
	defer s.recent.Unlock()
	s.turnLocked()
	p := s.recent.current
	if p == nil {
		p = &period{}
		s.recent.current = p
	}
	p.buckets[BucketOf(v)+1]++
	p.count++
	p.largest = max(p.largest, v)
}

// turnLocked begins a new period when the current one has ended.
func (s *Summary) turnLocked() {
	now := s.now()
	if now.Before(s.recent.ends) {
		return
	}
	s.recent.last, s.recent.current = s.recent.current, nil
	if now.Sub(s.recent.ends) >= summaryPeriod {
		s.recent.last = nil
	}
	s.recent.ends = now.Add(summaryPeriod)
}

func (s *Summary) write(w *Writer, name string) {
	for i, v := range s.quantiles() {
		w.line(withLabel(name, "", fmt.Sprintf("quantile=%q", strconv.FormatFloat(summaryQuantiles()[i], 'g', -1, 64))), v)
	}
	s.Histogram.write(w, name)
}

// kind is that of the quantiles: readers which are strict about types take the buckets for a family of their own then.
func (s *Summary) kind() string { return "summary" }

func summaryQuantiles() [5]float64 { return [...]float64{0.5, 0.9, 0.97, 0.99, 1} }

// quantiles returns nothing when there are no recent values.
func (s *Summary) quantiles() []float64 {
	s.recent.Lock()
	defer s.recent.Unlock()
	s.turnLocked()
	var sum period
	for _, p := range []*period{s.recent.last, s.recent.current} {
		if p == nil {
			continue
		}
		sum.count += p.count
		sum.largest = max(sum.largest, p.largest)
		for i, n := range p.buckets {
			sum.buckets[i] += n
		}
	}
	if sum.count == 0 {
		return nil
	}
	var list []float64
	seen, i := uint64(sum.buckets[0]), 0
	for _, q := range summaryQuantiles() {
		for ; float64(seen) < q*float64(sum.count); i++ {
			seen += uint64(sum.buckets[i+1])
		}
		v := sum.largest
		if i <= bucketCount {
			v = min(v, bound(i))
		}
		list = append(list, v)
	}
	return list
}
