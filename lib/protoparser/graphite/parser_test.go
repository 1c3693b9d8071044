package graphite

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
		"m 1":                         "m@1700000000123=1",
		"m 1 1717200000":              "m@1717200000000=1",
		" m\t1.5e3  1717200000.25 ":   "m@1717200000250=1500",
		"m 1 -1":                      "m@1700000000123=1",
		"m 1 0":                       "m@1700000000123=1",
		"a.b-c/d:e 1 1717200000":      "a.b-c/d:e@1717200000000=1",
		"m;a=b;c=d=e;f= 1 1717200000": `m{a="b",c="d=e"}@1717200000000=1`,
		"m -0.25 1717200000":          "m@1717200000000=-0.25",
		"m nan 1717200000":            "m@1717200000000=NaN",
		"m inf 1717200000":            "m@1717200000000=+Inf",
		"ü;ä=ö 1 1717200000":          `ü{ä="ö"}@1717200000000=1`,
		"m":                           "",
		"m x":                         "",
		"m 1 x":                       "",
		"m 1 nan":                     "",
		"m 1 1e300":                   "",
		"m 1 1717200000 x":            "",
		"m;a 1 1717200000":            "",
		"m;=a 1 1717200000":           "",
		"m; 1 1717200000":             "",
		";a=b 1 1717200000":           "",
	} {
		p, set := newParser(t, "-graphiteTrimTimestamp=1ms")
		all := strings.Join(strings.Fields("first@1717200000000=1 "+want+" last@1717200000000=2"), " ")
		if want == "" {
			all += " !1"
		}
		if kind := parsertest.CheckTwice(t, p.Parse, protoparser.Request{DefaultTimestamp: now}, "first 1 1717200000\n"+line+"\r\n\nlast 2 1717200000", all); kind != errkind.OK {
			t.Errorf("%s: an error of kind %v", line, kind)
		}
		if n := set.Counter(`vm_rows_invalid_total{type="graphite"}`).Get(); (n == 2) != (want == "") {
			t.Errorf("%s: %d invalid lines counted", line, n)
		}
	}
}

func TestLongLine(t *testing.T) {
	p, _ := newParser(t)
	rows, result, err := parse(p, "first 1 1717200000\nlong."+strings.Repeat("x", MaxLineLen)+" 1\nlast 2 1717200000")
	if err != nil || len(rows) != 2 || result.Invalid != 1 {
		t.Errorf("%d rows, %+v, error %v", len(rows), result, err)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f, "-graphiteTrimTimestamp=1ms")
	parsertest.Fuzz(f, p.Parse, protoparser.Request{DefaultTimestamp: now}, "m 1", "m;a=b 1.5 1717200000\nx 1 -1", ";", "m;a=b;a=c 1", "m 1 1e18")
}

func TestTrimAndSanitize(t *testing.T) {
	p, _ := newParser(t)
	if rows, _, err := parse(p, "m 1\nm 2 1717200000.9"); err != nil || !slices.Equal(rows, []string{"m@1700000000000=1", "m@1717200000000=2"}) {
		t.Errorf("rows %q, error %v", rows, err)
	}
	p, _ = newParser(t, "-graphite.sanitizeMetricName")
	for range 2 {
		if rows, _, err := parse(p, "a..b...c-d:e_/ü;t-a..g=v-1..x 1 1717200000"); err != nil || !slices.Equal(rows, []string{`a.b.c_d:e____{t_a.g="v-1..x"}@1717200000000=1`}) {
			t.Errorf("rows %q, error %v", rows, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	const lines = 5000
	p, _ := newParser(b)
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "servers.eu-west-1.host-%d.cpu.idle;env=prod;cluster=production %d.5 1717200000\n", i, i)
	}
	parsertest.Benchmark(b, p.Parse, protoparser.Request{}, text.String(), lines)
}
