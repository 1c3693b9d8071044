package metrics

import (
	"bytes"
	"strings"
	"testing"
)

func render(t *testing.T, s *Set, metadata bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Write(&b, metadata); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestWrite(t *testing.T) {
	s := NewSet()
	s.Counter(`rows_total{type="b"}`).Add(3)
	s.Counter(`rows_total{type="a"}`).Inc()
	s.Counter(`rows`).Inc()
	s.FloatCounter("seconds_total").Add(1.5)
	s.Gauge("free_bytes", func() float64 { return 1e14 })
	s.AddCollector(func(w *Writer) { w.Gauge(`node{addr="x"}`, 1) })
	h := s.Histogram(`size{p="/"}`)
	h.Update(0)
	h.Update(1)
	h.Update(1.1)
	h.Update(-1)
	want := `# TYPE free_bytes gauge
free_bytes 100000000000000
# TYPE rows counter
rows 1
# TYPE rows_total counter
rows_total{type="a"} 1
rows_total{type="b"} 3
# TYPE seconds_total counter
seconds_total 1.5
# TYPE size histogram
size_bucket{p="/",vmrange="0...1.000e-09"} 1
size_bucket{p="/",vmrange="8.799e-01...1.000e+00"} 1
size_bucket{p="/",vmrange="1.000e+00...1.136e+00"} 1
size_sum{p="/"} 2.1
size_count{p="/"} 3
# TYPE node gauge
node{addr="x"} 1
`
	if got := render(t, s, true); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := render(t, s, false); strings.Contains(got, "#") {
		t.Errorf("TYPE lines without metadata:\n%s", got)
	}
}

func TestWrongTypePanics(t *testing.T) {
	s := NewSet()
	s.Counter("x")
	defer func() {
		if recover() == nil {
			t.Error("asking for a counter as a histogram did not panic")
		}
	}()
	s.Histogram("x")
}
