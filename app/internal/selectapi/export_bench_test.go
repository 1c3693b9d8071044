package selectapi_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
)

// discard counts what is written.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

// BenchmarkExport exports 200 series of 5000 samples from parts.
func BenchmarkExport(b *testing.B) {
	const series, samples = 200, 5000
	db := openStore(b, []string{"-retentionPeriod=100y"})
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range series {
		var batch model.Batch
		if err := batch.AddSeries(model.TenantID{}, []model.Label{{Name: "__name__", Value: "m"}, {Name: "i", Value: fmt.Sprint(i)}}); err != nil {
			b.Fatal(err)
		}
		v := 0.0
		for j := range samples {
			v += float64(rng.IntN(100)) / 4
			batch.AddSample(base+int64(j)*15_000, v)
		}
		if err := db.Ingest(b.Context(), &batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	var c selectapi.Config
	var qc query.Config
	parseFlags(b, nil, func(fs *flag.FlagSet) {
		c.RegisterFlags(fs)
		qc.RegisterFlags(fs)
	})
	set := metrics.NewSet()
	engine := query.New(&qc, query.Options{Source: selectapi.NewSource(db, nil, 0, set), Logger: logger.Discard(), Metrics: set, Budget: memory.NewBudget(1 << 28), Now: time.Now})
	api := selectapi.New(selectapi.Options{Config: &c, Searcher: db, Catalog: db, Engine: engine, Logger: logger.Discard(), Metrics: set, Now: time.Now, SingleNode: true})
	for _, path := range []string{"export/native", "export", "export/csv", "federate"} {
		url := "/api/v1/" + path + "?match[]=m&start=0&format=__name__,i,__value__,__timestamp__"
		switch path {
		case "export":
			url = "/api/v1/export?match[]=m&start=0"
		case "federate":
			url = fmt.Sprintf("/federate?match[]=m&end=%d", (base+samples*15_000)/1000)
		}
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			w := &discard{header: http.Header{}}
			for b.Loop() {
				w.bytes = 0
				api.Handle(w, httptest.NewRequest("GET", url, nil))
			}
			b.ReportMetric(float64(w.bytes)/series/samples, "B/sample")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/series/samples, "ns/sample")
		})
	}
}
