package metrics

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
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

// TestSummary: quantiles are of the values of this period and the one before, and bounded by the largest of them.
func TestSummary(t *testing.T) {
	s := NewSet()
	now := time.Unix(1e9, 0)
	m := s.Summary(`took{path="/x"}`)
	m.now = func() time.Time { return now }
	if got := render(t, s, true); got != "# TYPE took summary\ntook_sum{path=\"/x\"} 0\ntook_count{path=\"/x\"} 0\n" {
		t.Errorf("without values: %s", got)
	}
	wants := func(step string, median, most float64, count int) {
		t.Helper()
		got := m.quantiles()
		if len(got) != 5 || got[0] < median || got[0] > median*1.15 || got[4] != most {
			t.Errorf("%s: quantiles %v; want %v and %v", step, got, median, most)
		}
		if want := fmt.Sprintf("took_count{path=%q} %d\n", "/x", count); !strings.Contains(render(t, s, false), want) {
			t.Errorf("%s: %q is missing", step, want)
		}
	}
	for i := range 100 {
		m.Update(float64(i + 1))
	}
	m.Update(-1)
	wants("first period", 50, 100, 100)
	now = now.Add(summaryPeriod)
	wants("one later", 50, 100, 100)
	for range 300 {
		m.Update(1000)
	}
	wants("second period", 1000, 1000, 400)
	now = now.Add(summaryPeriod)
	m.Update(7)
	wants("the first is forgotten", 1000, 1000, 401)
	now = now.Add(3 * summaryPeriod)
	if got := m.quantiles(); got != nil {
		t.Errorf("after a long time without values: %v", got)
	}
	m.Update(0)
	m.Update(1e30)
	if got := m.quantiles(); got[0] > 1e-9 || got[4] != 1e30 {
		t.Errorf("values outside of all buckets: %v", got)
	}
}

func TestFSType(t *testing.T) {
	mounts := "22 1 8:1 / / rw shared:1 - ext4 /dev/root rw\n23 22 0:2 / /data rw - xfs /dev/b rw\n24 23 0:3 / /data/with\\040space rw master:1 - nfs4 s:/x rw\n" +
		"25 23 0:3 / /data rw - btrfs /dev/c rw\nnonsense\n"
	for path, want := range map[string]string{"/": "ext4", "/database": "ext4", "/data": "btrfs", "/data/x": "btrfs", "/data/with space/y": "nfs4", "relative": ""} {
		if got := fsType(mounts, path); got != want {
			t.Errorf("%s lies on %q; want %q", path, got, want)
		}
	}
}

// TestProcessTypes: what ends in _total is a counter, no metric comes twice, and those of the process are there.
func TestProcessTypes(t *testing.T) {
	s := NewSet()
	RegisterProcess(s, "x-v1.2.3-gabc")
	RegisterFS(s, t.TempDir())
	types, seen := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(render(t, s, true)) {
		if f := strings.Fields(line); f[0] == "#" {
			if types[f[2]] != "" {
				t.Errorf("%s has two lines with its type", f[2])
			}
			types[f[2]] = f[3]
			continue
		}
		name := line[:strings.LastIndex(line, " ")]
		if seen[name] {
			t.Errorf("%s comes twice", name)
		}
		seen[name] = true
	}
	for name, kind := range types {
		if strings.HasSuffix(name, "_total") != (kind == "counter") && !strings.HasSuffix(name, "_count") && !strings.HasSuffix(name, "_sum") {
			t.Errorf("%s is a %s", name, kind)
		}
	}
	for _, name := range []string{"vm_os_info", "vm_fs_info", "go_sched_latencies_seconds", "vm_gogc"} {
		if types[name] == "" {
			t.Errorf("there is no %s", name)
		}
	}
}

func BenchmarkWriteProcess(b *testing.B) {
	s := NewSet()
	RegisterProcess(s, "x")
	for b.Loop() {
		if err := s.Write(io.Discard, false); err != nil {
			b.Fatal(err)
		}
	}
}
