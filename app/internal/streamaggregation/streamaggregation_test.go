package streamaggregation

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stored is an Ingester which remembers the names of series.
type stored struct {
	mu    sync.Mutex
	names []string
}

func (s *stored) Ingest(_ context.Context, b *model.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range b.Len() {
		_, labels, err := model.ParseSeriesKey(nil, b.Key(i))
		if err != nil {
			return err
		}
		s.names = append(s.names, model.LabelsString(labels))
	}
	return nil
}

// take returns the names since the last call.
func (s *stored) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := s.names
	s.names = nil
	slices.Sort(names)
	return names
}

func start(t *testing.T, sink *stored, args ...string) (*Aggregation, *service.Env, error) {
	t.Helper()
	var c Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	env := &service.Env{Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 30)}
	a, err := Start(env, &c, sink)
	t.Cleanup(func() {
		if a.reloader != nil {
			_ = a.reloader.Close()
		}
		_ = a.Close()
	})
	return a, env, err
}

func ingest(t *testing.T, a *Aggregation, at time.Time, names ...string) {
	t.Helper()
	var b model.Batch
	for _, name := range names {
		if err := b.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: name}, {Name: "replica", Value: "1"}}); err != nil {
			t.Fatal(err)
		}
		b.AddSample(at.UnixMilli(), 1)
	}
	if err := a.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.WriteFile(path+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

const rule = "- {interval: 1h, match: taken, flush_on_shutdown: true, outputs: [count_samples]}\n"

// TestFlags: each flag does what its name says.
func TestFlags(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yml")
	write(t, path, rule)
	const taken, other, sum = `taken{replica="1"}`, `other{replica="1"}`, `taken:1h_count_samples{replica="1"}`
	for args, want := range map[string][2][]string{ // what is stored at once, and in the end
		"":                                   {{other, taken}, nil},
		"-streamAggr.keepInput":              {{other, taken}, nil},
		"-streamAggr.dedupInterval=1h":       {nil, {other, taken}},
		"-streamAggr.config=":                {{other, taken}, nil},
		"-streamAggr.config":                 {{other}, {sum}},
		"-streamAggr.config keepInput":       {{other, taken}, {sum}},
		"-streamAggr.config dropInput":       {nil, {sum}},
		"-streamAggr.config dropInputLabels": {{other}, {"taken:1h_count_samples"}},
		"-streamAggr.config ignoreFirst":     {{other}, nil},
		"-streamAggr.config ignoreOld":       {{other}, nil},
		"-streamAggr.config enableWindows":   {{other}, nil},
	} {
		text := strings.NewReplacer("-streamAggr.config ", "-streamAggr.config="+path+" -streamAggr.", "ignoreFirst", "ignoreFirstIntervals=5", "ignoreOld", "ignoreOldSamples", "Labels", "Labels=replica").Replace(args)
		if text == "-streamAggr.config" {
			text += "=" + path
		}
		sink := &stored{}
		a, _, err := start(t, sink, strings.Fields(text)...)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if strings.Contains(args, "ignoreOld") || strings.Contains(args, "Windows") {
			at = at.Add(-2 * time.Hour)
		}
		ingest(t, a, at, "taken", "other")
		atOnce := sink.take()
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if end := sink.take(); !slices.Equal(atOnce, want[0]) || !slices.Equal(end, want[1]) {
			t.Errorf("%s: stored are %q and in the end %q; want %q and %q", text, atOnce, end, want[0], want[1])
		}
	}
}

// TestReload: rules are read again now and then, and when asked to.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yml")
	write(t, path, rule)
	sink := &stored{}
	a, _, err := start(t, sink, "-streamAggr.config="+path, "-streamAggr.configCheckInterval=1ms")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Replace(rule, "taken", "other", 1))
	for deadline := time.Now().Add(30 * time.Second); !slices.Equal(sink.take(), []string{`taken{replica="1"}`}); {
		ingest(t, a, time.Now(), "taken")
		if time.Now().After(deadline) {
			t.Fatal("new rules are not in use")
		}
	}
	write(t, path, rule+"- nonsense")
	if err := a.Reload(); err == nil || !strings.Contains(err.Error(), `-streamAggr.config="`+path+`": rule 2 in line 2`) {
		t.Errorf("error %v", err)
	}
}

// TestRefused: what cannot be used keeps a process from starting.
func TestRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.yml")
	write(t, path, "- {interval: 1m}")
	for args, want := range map[string]string{
		"-streamAggr.config=" + path:         "the key outputs is missing",
		"-streamAggr.config=" + path + ".no": "no such file",
		"-streamAggr.dedupInterval=1ms":      "cannot deduplicate with the interval 1ms",
	} {
		if _, _, err := start(t, &stored{}, args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want %q", args, err, want)
		}
	}
}
