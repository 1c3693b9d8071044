package promqlapi

import (
	"context"
	"errors"
	"flag"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storage"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs/memfs"
)

// env is a read API with the dialect over a real storage.
type env struct {
	api    *selectapi.API
	promql *Handlers
	store  *watched
	budget *memory.Budget
	now    time.Time
}

// watched is a storage which notes what is asked of it, and answers with a failed node when told to.
type watched struct {
	storageapi.Searcher
	db       *storage.Storage
	failed   bool
	searches []model.SearchQuery
	onSearch func()
	shift    int64 // milliseconds by which samples are stored later than they seem to be, since the first day of 1970 is not stored
}

type partialIterator struct{ storageapi.SeriesIterator }

func (partialIterator) Coverage() storageapi.Coverage {
	return storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: "node-2:8401", Err: errors.New("connection refused")}}}
}

func (s *watched) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	s.searches = append(s.searches, *q)
	if s.onSearch != nil {
		s.onSearch()
	}
	shifted := *q
	shifted.Range = model.TimeRange{Min: q.Range.Min + s.shift, Max: q.Range.Max + s.shift}
	it, err := s.db.Search(ctx, &shifted)
	if err == nil && s.failed {
		it = partialIterator{it}
	}
	if err == nil && s.shift != 0 {
		it = &shiftedIterator{SeriesIterator: it, shift: s.shift}
	}
	return it, err
}

// shiftedIterator shifts samples back.
type shiftedIterator struct {
	storageapi.SeriesIterator
	shift   int64
	current storageapi.Series
}

func (it *shiftedIterator) At() *storageapi.Series {
	found := it.SeriesIterator.At()
	it.current = storageapi.Series{Key: found.Key}
	for _, b := range found.Blocks {
		if b.Content() == tsblock.Histograms {
			var h tsblock.HistogramSamples
			if err := b.DecodeHistograms(&h); err != nil {
				panic(err)
			}
			for i := range h.Timestamps {
				h.Timestamps[i] -= it.shift
			}
			_, b = (&tsblock.Encoder{}).AppendHistograms(nil, &h)
			it.current.Blocks = append(it.current.Blocks, b)
			continue
		}
		var s tsblock.Samples
		if err := tsblock.ReadRange(&s, []tsblock.Block{b}, model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64}, 0, &tsblock.Scratch{}); err != nil {
			panic(err)
		}
		for i := range s.Timestamps {
			s.Timestamps[i] -= it.shift
		}
		_, b = tsblock.AppendEncode(nil, &s)
		it.current.Blocks = append(it.current.Blocks, b)
	}
	return &it.current
}

// flagValues are all flags of a test.
type flagValues struct {
	sel        selectapi.Config
	query      query.Config
	promql     Config
	dedup      time.Duration
	singleNode bool
	budget     int64
}

func parseFlags(t testing.TB, args []string) *flagValues {
	t.Helper()
	v := &flagValues{}
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	v.sel.RegisterFlags(fs)
	v.query.RegisterFlags(fs)
	v.promql.RegisterFlags(fs)
	fs.DurationVar(&v.dedup, "dedup", 0, "")
	fs.BoolVar(&v.singleNode, "singleNode", false, "")
	fs.Int64Var(&v.budget, "budget", 1<<30, "")
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return v
}

func newEnv(t testing.TB, args ...string) *env {
	t.Helper()
	v := parseFlags(t, args)
	e := &env{now: time.Unix(1717200000, 0), budget: memory.NewBudget(v.budget)}
	now := func() time.Time { return e.now }
	cfg := storage.DefaultConfig("/data")
	cfg.RetentionPeriod.Millis = 100 * 365 * 24 * 3600_000
	db, err := storage.Open(cfg, storage.Options{FS: memfs.New(memfs.Options{}), Logger: logger.Discard(), Metrics: metrics.NewSet(), Budget: memory.NewBudget(1 << 30), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	e.store = &watched{Searcher: db, db: db}
	set := metrics.NewSet()
	source := selectapi.NewSource(e.store, nil, v.dedup.Milliseconds(), set)
	engine := query.New(&v.query, query.Options{Source: source, Logger: logger.Discard(), Metrics: set, Budget: e.budget, Now: now})
	h := New(Options{Config: &v.promql, Limits: &v.query, Reading: source.Reading(), Budget: e.budget, Logger: logger.Discard(), MaxDuration: v.sel.MaxQueryDuration.D()})
	e.promql = h
	e.api = selectapi.New(selectapi.Options{
		Config: &v.sel, Searcher: e.store, Catalog: db, Exemplars: db, Engine: engine, Logger: logger.Discard(), Metrics: set, Now: now, SingleNode: v.singleNode, PromQL: h.Routes(),
	})
	t.Cleanup(func() {
		if n := e.budget.Used(); n != 0 {
			t.Errorf("%d bytes of the budget were not given back", n)
		}
		if err := errors.Join(h.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// ingest stores samples of a series.
func (e *env) ingest(t testing.TB, tenant model.TenantID, labels map[string]string, times []int64, values []float64) {
	t.Helper()
	samples := make([]naiveSample, len(times))
	for i, at := range times {
		samples[i] = naiveSample{at: at, value: values[i]}
	}
	e.put(t, tenant, labels, samples)
}

// put stores samples and native histograms of a series.
func (e *env) put(t testing.TB, tenant model.TenantID, labels map[string]string, samples []naiveSample) {
	t.Helper()
	var list []model.Label
	for name, value := range labels {
		list = append(list, model.Label{Name: name, Value: value})
	}
	var b model.Batch
	if err := b.AddSeries(tenant, list); err != nil {
		t.Fatal(err)
	}
	for _, s := range samples {
		switch {
		case s.bytes != nil:
			b.AddHistogram(s.at+e.store.shift, s.bytes)
		case s.h != nil:
			b.AddHistogram(s.at+e.store.shift, payload(s.h))
		default:
			b.AddSample(s.at+e.store.shift, s.value)
		}
	}
	if err := e.store.db.Ingest(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
}

// ask sends a request and returns the status and the body without what takes time.
func (e *env) ask(method, path string, args url.Values) (int, string) {
	r := httptest.NewRequest(method, path+"?"+args.Encode(), nil)
	if method == http.MethodPost {
		r = httptest.NewRequest(method, path, strings.NewReader(args.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	w := httptest.NewRecorder()
	if !e.api.Handle(w, r) {
		return 0, ""
	}
	return w.Code, regexp.MustCompile(`"executionTimeMsec":\d+`).ReplaceAllString(w.Body.String(), `"executionTimeMsec":0`)
}
