package metrics

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// Buckets per decade, and the decades they cover: 1e-9 to 1e18.
const (
	bucketsPerDecade = 18
	decimalMin       = -9
	decimalMax       = 18
	bucketCount      = (decimalMax - decimalMin) * bucketsPerDecade
)

// Histogram counts values in 18 logarithmic buckets per decade, written as
// <name>_bucket{vmrange="lower...upper"}, <name>_sum and <name>_count. Buckets
// that never got a value are left out. Negative and NaN values are ignored.
type Histogram struct {
	mu struct {
		sync.Mutex
		buckets [bucketCount]uint64
		lower   uint64 // values in [0, 1e-9]
		upper   uint64 // values above 1e18
		sum     float64
	}
}

// Update counts one value.
func (h *Histogram) Update(v float64) { h.UpdateN(v, 1) }

// UpdateN counts a value n times.
func (h *Histogram) UpdateN(v float64, n int) {
	if math.IsNaN(v) || v < 0 || n <= 0 {
		return
	}
	i := BucketOf(v)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.sum += v * float64(n)
	switch i {
	case -1:
		h.mu.lower += uint64(n)
	case bucketCount:
		h.mu.upper += uint64(n)
	default:
		h.mu.buckets[i] += uint64(n)
	}
}

// BucketOf returns the bucket of a value that is not negative; -1 below the first, bucketCount above the last.
func BucketOf(v float64) int {
	position := (math.Log10(v) - decimalMin) * bucketsPerDecade
	switch i := int(position); {
	case position < 0:
		return -1
	case position >= bucketCount:
		return bucketCount
	case position == float64(i) && i > 0: // the upper bound belongs to its bucket
		return i - 1
	default:
		return i
	}
}

// UpdateDuration counts the seconds since start.
func (h *Histogram) UpdateDuration(start time.Time) { h.Update(time.Since(start).Seconds()) }

func (h *Histogram) write(w *Writer, name string) {
	h.mu.Lock()
	buckets, lower, upper, sum := h.mu.buckets, h.mu.lower, h.mu.upper, h.mu.sum
	h.mu.Unlock()
	var count uint64
	emit := func(n uint64, bucket int) {
		if n > 0 {
			count += n
			w.line(withLabel(name, "_bucket", fmt.Sprintf("vmrange=%q", BucketRange(bucket))), float64(n))
		}
	}
	emit(lower, -1)
	for i, n := range buckets {
		emit(n, i)
	}
	emit(upper, bucketCount)
	w.line(withLabel(name, "_sum", ""), sum)
	w.line(withLabel(name, "_count", ""), float64(count))
}

// BucketRange returns the range of a bucket as the label vmrange has it.
func BucketRange(i int) string {
	switch i {
	case -1:
		return fmt.Sprintf("0...%.3e", math.Pow10(decimalMin))
	case bucketCount:
		return fmt.Sprintf("%.3e...+Inf", math.Pow10(decimalMax))
	}
	return fmt.Sprintf("%.3e...%.3e", bound(i), bound(i+1))
}

func bound(i int) float64 {
	return math.Pow(10, decimalMin+float64(i)/bucketsPerDecade)
}

func (h *Histogram) kind() string { return "histogram" }
