package exposition

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/parsertest"
)

func newParser(t testing.TB) (*Parser, *metrics.Set) {
	t.Helper()
	in, set := parsertest.NewIntake(t, nil)
	return New(in), set
}

const now = 1700000000123

func parse(p *Parser, body, encoding string) (rows []string, result protoparser.Result, err error) {
	return parsertest.Parse(p.Parse, protoparser.Request{Encoding: encoding, DefaultTimestamp: now}, body)
}

func TestLines(t *testing.T) {
	for line, want := range map[string]string{
		`m 1`:                       `m@1700000000123=1`,
		`m 1 1717200000000`:         `m@1717200000000=1`,
		`m 1 -5`:                    `m@-5000=1`,
		"m\t1.5e3\t1717200000000  ": `m@1717200000000=1500`,
		`  m 1`:                     `m@1700000000123=1`,
		`m{} 1`:                     `m@1700000000123=1`,
		`m {a="b"} 1`:               `m{a="b"}@1700000000123=1`,
		`m{a="b",} 1`:               `m{a="b"}@1700000000123=1`,
		`m{ a = "b" , c = "d" } 1`:  `m{a="b",c="d"}@1700000000123=1`,
		`m{c="esc\"q\\ \n\x"} 1`:    `m{c="esc\"q\\ \n\\x"}@1700000000123=1`,
		`m{a="x\\",b="\"y"} 1`:      `m{a="x\\",b="\"y"}@1700000000123=1`,
		`m{a="}, #"} 1`:             `m{a="}, #"}@1700000000123=1`,
		`m{a="ü"} 1`:                `m{a="ü"}@1700000000123=1`,
		`m{a=""} 1`:                 `m@1700000000123=1`,
		`m{a="b"}1`:                 `m{a="b"}@1700000000123=1`,
		`m.with:all-sorts 1`:        `m.with:all-sorts@1700000000123=1`,
		`{"my.metric","lab.el"="x"} 1 1717200000000`: `my.metric{lab.el="x"}@1717200000000=1`,
		`{__name__="m",a="b"} 1`:                     `m{a="b"}@1700000000123=1`,
		`{a="b","quo\"ted"} 1`:                       `quo"ted{a="b"}@1700000000123=1`,
		`up +Inf`:                                    `up@1700000000123=+Inf`,
		`dn -Inf`:                                    `dn@1700000000123=-Inf`,
		`om 5 1717200000.5 # {trace_id="x"} 1 1717200000`: `om@1717200000500=5`,
		`om 5 1717200000`:         `om@1717200000000=5`,
		`om 5 # {trace_id="x"} 1`: `om@1700000000123=5`,
		`om 5 1717200000000.7`:    `om@1717200000000=5`,
		`bad{ 1`:                  "",
		`novalue`:                 "",
		`novalue{a="b"}`:          "",
		`x abc`:                   "",
		`x 1 abc`:                 "",
		`x 1 NaN`:                 "",
		`x 1 1e300`:               "",
		`x 1 123 456`:             "",
		`x 1e999`:                 "",
		`x{a} 1`:                  "",
		`x{a=b} 1`:                "",
		`x{a="b" c="d"} 1`:        "",
		`x{a="b} 1`:               "",
		`x{a="b\"} 1`:             "",
		`x{"a" "b"} 1`:            "",
		`x{"a"`:                   "",
		`x{a="b"`:                 "",
		`x{a=`:                    "",
	} {
		p, set := newParser(t)
		rows, result, err := parse(p, "first 1 1717200000000\n"+line+"\n# EOF\nlast 2 1717200000000", "")
		all := []string{"first@1717200000000=1", want, "last@1717200000000=2"}
		if want == "" {
			all = slices.Delete(all, 1, 2)
		}
		if err != nil || !slices.Equal(rows, all) {
			t.Errorf("%s: rows %q, error %v; want %q", line, rows, err, all)
		}
		invalid := set.Counter(`vm_rows_invalid_total{type="prometheus"}`).Get()
		if (invalid == 1) != (want == "") || result.Invalid != int(invalid) || (want == "") != (result.Reason != "") {
			t.Errorf("%s: %d invalid lines counted, %+v", line, invalid, result)
		}
	}
}

func TestSeriesThatAreDropped(t *testing.T) {
	p, set := newParser(t)
	rows, result, err := parse(p, "a NaN\n# HELP b text\n# TYPE b gauge\n\n{x=\"y\"} 1\nm{a=\"1\",a=\"2\"} 1\nm{=\"1\"} 1\nname{\"again\"} 1\nok 1\n", "")
	if err != nil || len(rows) != 2 || result.Rows != 2 || result.Dropped != 4 || result.Invalid != 0 {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
	for reason, want := range map[string]uint64{"empty_metric_name": 1, "duplicate_label_name": 2, "empty_label_name": 1} {
		if got := set.Counter(fmt.Sprintf("vm_rows_ignored_total{reason=%q}", reason)).Get(); got != want {
			t.Errorf("%d rows ignored for %s; want %d", got, reason, want)
		}
	}
}

func TestLongLine(t *testing.T) {
	p, _ := newParser(t)
	rows, result, err := parse(p, "a 1 1\nm{a=\""+strings.Repeat("x", 2*maxLineLen)+"\"} 1\nb 1 1\n", "")
	if err != nil || len(rows) != 2 || result.Invalid != 1 {
		t.Errorf("%d rows, %+v, error %v", len(rows), result, err)
	}
}

func TestBrokenEncoding(t *testing.T) {
	p, set := newParser(t)
	for _, encoding := range []string{"gzip", "br"} {
		if _, _, err := parse(p, "no gzip", encoding); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%s: error %v", encoding, err)
		}
	}
	if n := set.Counter(`vm_protoparser_read_errors_total{type="prometheus"}`).Get(); n != 2 {
		t.Errorf("%d read errors", n)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	for _, s := range []string{"m 1", "m{a=\"b\",c=\"d\\n\"} 1 2 # {x=\"y\"} 3", `{"a","b"="c"} +Inf`, "# EOF", "m{", "m{\"", "m{a=\"\\", "\"\\\"\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		rows, result, err := parse(p, body, "")
		if err != nil || len(rows) != result.Rows {
			t.Fatalf("%d rows, %+v, error %v", len(rows), result, err)
		}
		for line := range strings.SplitSeq(body, "\n") {
			var r row
			if line == "" {
				continue
			}
			if fault := r.parse([]byte(line)); fault == "" && len(r.labels) > len(line) {
				t.Fatalf("%q has %d labels", line, len(r.labels))
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	const lines = 5000
	p, _ := newParser(b)
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, "node_cpu_seconds_total{cluster=\"production-eu\",cpu=\"%d\",env=\"prod\",instance=\"10.0.0.%d:9100\",job=\"node-exporter\",mode=\"idle\",region=\"eu-west-1\"} %d.5 1717200000000\n", i%64, i, i)
	}
	body := text.String()
	r := strings.NewReader(body)
	req := &protoparser.Request{Body: r, Sink: func(*model.Batch) error { return nil }}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r.Reset(body)
		result, err := p.Parse(req)
		if err != nil || result.Rows != lines {
			b.Fatal(result, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/sample")
}
