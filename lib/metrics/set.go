package metrics

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Set is a collection of metrics. All methods are safe for concurrent use.
type Set struct {
	mu struct {
		sync.Mutex
		metrics    map[string]metric
		collectors []func(w *Writer)
	}
}

// metric is one named value, or one family member made of several lines.
type metric interface {
	write(w *Writer, name string)
	kind() string
}

// NewSet returns an empty set.
func NewSet() *Set {
	s := &Set{}
	s.mu.metrics = map[string]metric{}
	return s
}

func getOrCreate[M metric](s *Set, name string, create func() M) M {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.mu.metrics[name]; ok {
		typed, ok := m.(M)
		if !ok {
			panic(fmt.Sprintf("metric %q exists as a %s and is asked for as another type", name, m.kind()))
		}
		return typed
	}
	m := create()
	s.mu.metrics[name] = m
	return m
}

// Counter returns the counter with the given name, created when missing.
func (s *Set) Counter(name string) *Counter {
	return getOrCreate(s, name, func() *Counter { return &Counter{} })
}

// FloatCounter returns the fractional counter with the given name, created when missing.
func (s *Set) FloatCounter(name string) *FloatCounter {
	return getOrCreate(s, name, func() *FloatCounter { return &FloatCounter{} })
}

// Gauge registers a gauge whose value f returns at scrape time. Registering a
// name again replaces the function. F must not call back into the set.
func (s *Set) Gauge(name string, f func() float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.metrics[name] = gauge(f)
}

// CounterFunc registers a counter whose value f returns at scrape time.
func (s *Set) CounterFunc(name string, f func() float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.metrics[name] = counterFunc(f)
}

// Histogram returns the histogram with the given name, created when missing.
func (s *Set) Histogram(name string) *Histogram {
	return getOrCreate(s, name, func() *Histogram { return &Histogram{} })
}

// Summary returns the summary with the given name, created when missing.
func (s *Set) Summary(name string) *Summary {
	return getOrCreate(s, name, func() *Summary { return &Summary{now: time.Now} })
}

// Remove deletes the metric with the given name, for label values that go away.
func (s *Set) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.metrics, name)
}

// AddCollector registers a function which writes metrics at scrape time, for
// families whose members come and go.
func (s *Set) AddCollector(f func(w *Writer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.collectors = append(s.mu.collectors, f)
}

// Write writes all metrics in the text exposition format, sorted by name
// within the set; collectors follow. With metadata, a TYPE line
// precedes each family.
func (s *Set) Write(out io.Writer, metadata bool) error {
	s.mu.Lock()
	names := make([]string, 0, len(s.mu.metrics))
	for name := range s.mu.metrics {
		names = append(names, name)
	}
	metrics := make(map[string]metric, len(names))
	for name, m := range s.mu.metrics {
		metrics[name] = m
	}
	collectors := slices.Clone(s.mu.collectors)
	s.mu.Unlock()

	slices.SortFunc(names, compareNames)
	w := &Writer{metadata: metadata}
	for _, name := range names {
		w.typeLine(name, metrics[name].kind())
		metrics[name].write(w, name)
	}
	for _, collect := range collectors {
		collect(w)
	}
	_, err := out.Write(w.buf.Bytes())
	return err
}

// compareNames orders by family first, so that a family stays together.
func compareNames(a, b string) int {
	fa, fb := family(a), family(b)
	if fa != fb {
		return strings.Compare(fa, fb)
	}
	return strings.Compare(a, b)
}

func family(name string) string {
	f, _, _ := strings.Cut(name, "{")
	return f
}

// Writer collects lines of the text exposition format.
type Writer struct {
	buf      bytes.Buffer
	metadata bool
	last     string // family of the last TYPE line
}

func (w *Writer) typeLine(name, kind string) {
	f := family(name)
	if !w.metadata || f == w.last {
		return
	}
	w.last = f
	fmt.Fprintf(&w.buf, "# TYPE %s %s\n", f, kind)
}

// Gauge writes one gauge.
func (w *Writer) Gauge(name string, value float64) {
	w.typeLine(name, "gauge")
	w.line(name, value)
}

// Counter writes one counter.
func (w *Writer) Counter(name string, value float64) {
	w.typeLine(name, "counter")
	w.line(name, value)
}

func (w *Writer) line(name string, value float64) {
	w.buf.WriteString(name)
	w.buf.WriteByte(' ')
	w.buf.Write(appendValue(w.buf.AvailableBuffer(), value))
	w.buf.WriteByte('\n')
}

func appendValue(dst []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(dst, "+Inf"...)
	case v == math.Trunc(v) && math.Abs(v) < 1e15:
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

// withLabel returns name with one more label and suffix appended to its family.
func withLabel(name, suffix, label string) string {
	f, rest, ok := strings.Cut(name, "{")
	switch {
	case label == "" && !ok:
		return f + suffix
	case label == "":
		return f + suffix + "{" + rest
	case !ok:
		return f + suffix + "{" + label + "}"
	}
	return f + suffix + "{" + strings.TrimSuffix(rest, "}") + "," + label + "}"
}

// Counter is a number which only grows.
type Counter struct{ n atomic.Uint64 }

// Inc adds one.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int) {
	if n < 0 {
		panic(fmt.Sprintf("counter is asked to add %d", n))
	}
	c.n.Add(uint64(n))
}

// Get returns the current value.
func (c *Counter) Get() uint64 { return c.n.Load() }

func (c *Counter) write(w *Writer, name string) { w.line(name, float64(c.n.Load())) }
func (c *Counter) kind() string                 { return "counter" }

// FloatCounter is a fractional number which only grows, such as seconds.
type FloatCounter struct{ bits atomic.Uint64 }

// Add adds v.
func (c *FloatCounter) Add(v float64) {
	for {
		old := c.bits.Load()
		if c.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// Get returns the current value.
func (c *FloatCounter) Get() float64 { return math.Float64frombits(c.bits.Load()) }

func (c *FloatCounter) write(w *Writer, name string) { w.line(name, c.Get()) }
func (c *FloatCounter) kind() string                 { return "counter" }

type gauge func() float64

func (g gauge) write(w *Writer, name string) { w.line(name, g()) }
func (g gauge) kind() string                 { return "gauge" }

type counterFunc func() float64

func (c counterFunc) write(w *Writer, name string) { w.line(name, c()) }
func (c counterFunc) kind() string                 { return "counter" }
