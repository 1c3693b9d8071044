package parsertest

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// NewIntake returns an intake with its metrics. The arguments may have flags which register adds.
func NewIntake(t testing.TB, args []string, register ...func(fs *flag.FlagSet)) (*protoparser.Intake, *metrics.Set) {
	t.Helper()
	var c protoparser.Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	for _, f := range register {
		f(fs)
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	set := metrics.NewSet()
	return protoparser.New(protoparser.Options{Config: &c, Logger: logger.Discard(), Metrics: set}), set
}

// ParseFunc is what parsers do with a request.
type ParseFunc = func(*protoparser.Request) (protoparser.Result, error)

// Parse parses a body and returns the rows that were stored, each as series@timestamp=value.
func Parse(parse ParseFunc, req protoparser.Request, body string) (rows []string, result protoparser.Result, err error) {
	req.Body = strings.NewReader(body)
	req.Sink = func(b *model.Batch) error {
		for i := range b.Len() {
			for _, s := range b.Samples(i) {
				rows = append(rows, fmt.Sprintf("%s@%d=%v", strings.TrimPrefix(model.SeriesKeyString(b.Key(i)), "tenant 0:0 "), s.Timestamp, s.Value))
			}
		}
		return nil
	}
	result, err = parse(&req)
	return rows, result, err
}

// CheckTwice parses a body twice, the second time as series which are known. Both times the rows must be the wanted ones, with a space between them; behind
// them stand ! and the number of invalid lines or series when there are some. It returns the kind of the error.
func CheckTwice(t *testing.T, parse ParseFunc, req protoparser.Request, body, want string) errkind.Kind {
	t.Helper()
	var kind errkind.Kind
	for range 2 {
		rows, result, err := Parse(parse, req, body)
		if result.Invalid > 0 {
			rows = append(rows, fmt.Sprintf("!%d", result.Invalid))
		}
		kind = errkind.Of(err)
		if got := strings.Join(rows, " "); got != want || (result.Invalid+result.Dropped > 0) != (result.Reason != "") {
			t.Errorf("%.300q: %s, %+v, error %v; want %s", body, got, result, err, want)
		}
	}
	return kind
}

// Fuzz parses any body twice, the second time as series which are known. Errors must be those of bad requests, and what is stored the same.
func Fuzz(f *testing.F, parse ParseFunc, req protoparser.Request, seeds ...string) {
	f.Helper()
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var before []string
		for range 2 {
			rows, result, err := Parse(parse, req, body)
			if err != nil && errkind.Of(err) != errkind.BadRequest || len(rows) != result.Rows || before != nil && !slices.Equal(rows, before) {
				t.Fatalf("rows %q, before %q, %+v, error %v", rows, before, result, err)
			}
			before = rows
		}
	})
}

// Benchmark parses a body with so many samples again and again.
func Benchmark(b *testing.B, parse ParseFunc, req protoparser.Request, body string, samples int) {
	b.Helper()
	r := strings.NewReader(body)
	req.Body, req.Sink = r, func(*model.Batch) error { return nil }
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r.Reset(body)
		if result, err := parse(&req); err != nil || result.Rows != samples {
			b.Fatal(result, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(samples), "ns/sample")
}
