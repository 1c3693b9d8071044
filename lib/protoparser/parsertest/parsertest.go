package parsertest

import (
	"flag"
	"fmt"
	"strings"
	"testing"

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

// Parse parses a body and returns the rows that were stored, each as series@timestamp=value.
func Parse(parse func(*protoparser.Request) (protoparser.Result, error), req protoparser.Request, body string) (rows []string, result protoparser.Result, err error) {
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
