package protoparser_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/golang/snappy"

	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/exposition"
	"vmcluster/lib/protoparser/remotewrite"
)

func newMetadataIntake() (*protoparser.Intake, *metrics.Set) {
	set := metrics.NewSet()
	return protoparser.New(protoparser.Options{Config: &protoparser.Config{MaxLabelValueLen: 100, MaxInsertRequestSize: 1 << 20}, Logger: logger.Discard(), Metrics: set}), set
}

// describe parses a body and returns what it says of metrics.
func describe(t *testing.T, parse func(*protoparser.Request) (protoparser.Result, error), body string, fail error) []string {
	t.Helper()
	var got []string
	result, err := parse(&protoparser.Request{
		Body: strings.NewReader(body), Tenant: model.TenantID{AccountID: 7}, Sink: func(*model.Batch) error { return nil },
		Metadata: func(list []model.Metadata) error {
			for _, m := range list {
				got = append(got, fmt.Sprintf("%s %s %s|%s|%s", m.Tenant, m.Metric, m.Type, m.Unit, m.Help))
			}
			return fail
		},
	})
	if err != nil || result.Invalid > 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	return got
}

func TestExpositionMetadata(t *testing.T) {
	in, set := newMetadataIntake()
	parse := exposition.New(in).Parse
	got := describe(t, parse, `# HELP a_total Total \\ of\n"a".
# TYPE a_total counter
a_total{x="1"} 1
# a comment, no TYPE
#HELP b
# TYPE b histogram
# UNIT b seconds
# HELP "ü.c" of c\"
# TYPE long gauge
# HELP long `+strings.Repeat("x", 101)+`
# TYPE
# EOF`, nil)
	want := []string{"7:0 a_total counter||Total \\ of\n\"a\".", "7:0 b histogram|seconds|", "7:0 ü.c unknown||of c\""}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if n := set.Counter(`vm_rows_ignored_total{reason="too_long_metric_metadata_value"}`).Get(); n != 1 {
		t.Errorf("%d too long", n)
	}
	if got := describe(t, parse, "# TYPE a_total counter\n# HELP a_total new\n# TYPE b histogram\n# UNIT b seconds\n", nil); !slices.Equal(got, []string{"7:0 a_total counter||new"}) {
		t.Errorf("then got %q: what is known must not come again", got)
	}
	if n := set.Counter(`vm_protoparser_metadata_read_total{type="prometheus"}`).Get(); n != 6 {
		t.Errorf("%d read", n)
	}
}

// TestMetadataIsSentAgain has a store which fails: samples are not affected, and the description comes with the next request.
func TestMetadataIsSentAgain(t *testing.T) {
	in, set := newMetadataIntake()
	parse := exposition.New(in).Parse
	for _, fail := range []error{errors.New("away"), nil} {
		if got := describe(t, parse, "# TYPE a counter\na 1", fail); len(got) != 1 {
			t.Errorf("got %q", got)
		}
	}
	if n := set.Counter("vm_metadata_rows_dropped_total").Get(); n != 1 {
		t.Errorf("%d dropped", n)
	}
}

func TestRemoteWriteMetadata(t *testing.T) {
	in, set := newMetadataIntake()
	body := prompb.AppendMetadata(nil, &prompb.Metadata{Type: 1, Metric: "a_total", Help: "of a", Unit: "s"})
	body = prompb.AppendMetadata(body, &prompb.Metadata{Type: 300, Metric: "odd"})
	body = prompb.AppendMetadata(body, &prompb.Metadata{Type: 2, Help: "of nothing"})
	body = append(body, 3<<3|2, 2, 0xff, 0xff) // cannot be read
	got := describe(t, remotewrite.New(in).Parse, string(snappy.Encode(nil, body)), nil)
	if want := []string{"7:0 a_total counter|s|of a", "7:0 odd unknown||"}; !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if n := set.Counter(`vm_protoparser_metadata_read_total{type="promremotewrite"}`).Get(); n != 4 {
		t.Errorf("%d read", n)
	}
}

func BenchmarkKnownMetadata(b *testing.B) {
	in, _ := newMetadataIntake()
	p := exposition.New(in)
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "# HELP metric_%d What it is\n# TYPE metric_%d counter\n", i, i)
	}
	r := strings.NewReader("")
	req := &protoparser.Request{Body: r, Sink: func(*model.Batch) error { return nil }, Metadata: func([]model.Metadata) error { return nil }}
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(text.String())
		if _, err := p.Parse(req); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/item")
}
