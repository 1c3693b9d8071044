package opentsdb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/parsertest"
)

func newParser(t testing.TB, args ...string) (*Parser, *metrics.Set) {
	t.Helper()
	var c Config
	in, set := parsertest.NewIntake(t, args, c.RegisterFlags)
	return New(in, c), set
}

const now = 1700000000123

func parse(p *Parser, body string) (rows []string, result protoparser.Result, err error) {
	return parsertest.Parse(p.Parse, protoparser.Request{DefaultTimestamp: now}, body)
}

// TestLines writes each line between two others, the second time as a series which is known.
func TestLines(t *testing.T) {
	for line, want := range map[string]string{
		"put m 1717200000 1":                      "m@1717200000000=1",
		"put m 1717200000123 1":                   "m@1717200000123=1",
		"put m 1717200000.5 1":                    "m@1717200000500=1",
		" put  m\t1717200000  1.5e3  a=b\tc=d=e ": `m{a="b",c="d=e"}@1717200000000=1500`,
		"put m 1717200000 1 a=":                   "m@1717200000000=1",
		"put m":                                   "",
		"put m 1717200000":                        "",
		"put m x 1":                               "",
		"put m 0 1":                               "",
		"put m -5 1":                              "",
		"put m 1717200000 x":                      "",
		"put m 1717200000 1 a":                    "",
		"put m 1717200000 1 =a":                   "",
		"m 1717200000 1":                          "",
		"version":                                 "",
	} {
		p, set := newParser(t, "-opentsdbTrimTimestamp=1ms")
		for range 2 {
			rows, result, err := parse(p, "put first 1717200000 1\n"+line+"\r\n\nput last 1717200000 2")
			all := []string{"first@1717200000000=1", want, "last@1717200000000=2"}
			if want == "" {
				all = slices.Delete(all, 1, 2)
			}
			if err != nil || !slices.Equal(rows, all) || (result.Invalid == 1) != (want == "") || (result.Reason != "") != (want == "") {
				t.Errorf("%s: rows %q, %+v, error %v; want %q", line, rows, result, err, all)
			}
		}
		if n := set.Counter(`vm_rows_invalid_total{type="opentsdb"}`).Get(); (n == 2) != (want == "") {
			t.Errorf("%s: %d invalid lines counted", line, n)
		}
	}
}

func TestLongLine(t *testing.T) {
	p, _ := newParser(t)
	rows, result, err := parse(p, "put first 1717200000 1\nput long 1717200000 1 a="+strings.Repeat("x", MaxLineLen)+" 1\nput last 1717200000 2")
	if err != nil || len(rows) != 2 || result.Invalid != 1 {
		t.Errorf("%d rows, %+v, error %v", len(rows), result, err)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f, "-opentsdbTrimTimestamp=1ms")
	for _, s := range []string{"put m 1717200000 1 a=b", "put", "put a 1 2 c= d=e", "put m 1 1 a=b a=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var before []string
		for range 2 { // the second time series are known
			rows, result, err := parse(p, body)
			if err != nil || len(rows) != result.Rows || before != nil && !slices.Equal(rows, before) {
				t.Fatalf("rows %q, before %q, %+v, error %v", rows, before, result, err)
			}
			before = rows
		}
	})
}

func TestTrim(t *testing.T) {
	p, _ := newParser(t)
	if rows, _, err := parse(p, "put m 1717200000999 2"); err != nil || !slices.Equal(rows, []string{"m@1717200000000=2"}) {
		t.Errorf("rows %q, error %v", rows, err)
	}
}

func BenchmarkParse(b *testing.B) {
	const lines = 5000
	p, _ := newParser(b)
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "put sys.cpu.nice 1717200000 %d.5 host=web%d.example.com dc=lga cpu=%d\n", i, i, i%64)
	}
	body := text.String()
	r := strings.NewReader(body)
	req := &protoparser.Request{Body: r, Sink: func(*model.Batch) error { return nil }}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r.Reset(body)
		if result, err := p.Parse(req); err != nil || result.Rows != lines {
			b.Fatal(result, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/sample")
}
