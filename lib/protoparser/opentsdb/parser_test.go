package opentsdb

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
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
		all := strings.Join(strings.Fields("first@1717200000000=1 "+want+" last@1717200000000=2"), " ")
		if want == "" {
			all += " !1"
		}
		if kind := parsertest.CheckTwice(t, p.Parse, protoparser.Request{DefaultTimestamp: now}, "put first 1717200000 1\n"+line+"\r\n\nput last 1717200000 2", all); kind != errkind.OK {
			t.Errorf("%s: an error of kind %v", line, kind)
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
	parsertest.Fuzz(f, p.Parse, protoparser.Request{DefaultTimestamp: now}, "put m 1717200000 1 a=b", "put", "put a 1 2 c= d=e", "put m 1 1 a=b a=c")
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
	parsertest.Benchmark(b, p.Parse, protoparser.Request{}, text.String(), lines)
}
