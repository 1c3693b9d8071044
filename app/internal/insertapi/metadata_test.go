package insertapi

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

// describer remembers what it was told of metrics, and may fail.
type describer struct {
	got []model.Metadata
	err error
}

func (d *describer) AddMetadata(_ context.Context, list []model.Metadata) error {
	d.got = append(d.got, list...)
	return d.err
}

func TestMetadata(t *testing.T) {
	for _, c := range []struct {
		flag string
		err  error
		want int
	}{{"-enableMetadata", nil, 1}, {"-enableMetadata", errors.New("away"), 1}, {"-enableMetadata=false", nil, 0}} {
		var config Config
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		config.RegisterFlags(fs)
		if err := fs.Parse([]string{c.flag}); err != nil {
			t.Fatal(err)
		}
		d := &describer{err: c.err}
		s := &server{recorder: &recorder{}, set: metrics.NewSet()}
		s.API = New(Options{Ingester: s.recorder, Metadata: d, Logger: logger.Discard(), Metrics: s.set, Config: &config, PathStyle: Cluster})
		w := s.do("POST", "/insert/7:9/prometheus/api/v1/import/prometheus", strings.NewReader("# TYPE m counter\nm 1 1"))
		if rows := s.take(); w.Code != 204 || len(rows) != 1 || len(d.got) != c.want {
			t.Errorf("%s, %v: status %d, rows %q, metadata %+v", c.flag, c.err, w.Code, rows, d.got)
		}
		if c.want > 0 && (d.got[0] != model.Metadata{Tenant: model.TenantID{AccountID: 7, ProjectID: 9}, Metric: "m", Type: model.TypeCounter}) {
			t.Errorf("metadata %+v", d.got)
		}
	}
}
