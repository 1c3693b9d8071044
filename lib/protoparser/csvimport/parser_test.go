package csvimport

import (
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/parsertest"
)

func newParser(t testing.TB, trimMs int64, args ...string) (*Parser, *metrics.Set) {
	t.Helper()
	in, set := parsertest.NewIntake(t, args)
	return New(in, trimMs), set
}

func parse(p *Parser, format, body string) (rows []string, result protoparser.Result, err error) {
	return parsertest.Parse(p.Parse, protoparser.Request{Format: format, DefaultTimestamp: 7}, body)
}

func TestRows(t *testing.T) {
	for _, c := range []struct {
		format, body string
		want         []string
		invalid      int
	}{
		{"1:label:ticker,2:metric:bid,3:metric:ask,4:label:mkt,5:time:unix_s", "GOOG,1.23,4.56,NYSE,1717200000\nMSFT,3.21,1.67,,1717200015\r\n",
			[]string{`bid{mkt="NYSE",ticker="GOOG"}@1717200000000=1.23`, `ask{mkt="NYSE",ticker="GOOG"}@1717200000000=4.56`,
				`bid{ticker="MSFT"}@1717200015000=3.21`, `ask{ticker="MSFT"}@1717200015000=1.67`}, 0},
		{"1:metric:x,2:time:rfc3339", "5,2024-06-01T00:00:00Z", []string{"x@1717200000000=5"}, 0},
		{"1:metric:x,2:time:custom:2006/01/02 15:04", "5,2024/06/01 00:00", []string{"x@1717200000000=5"}, 0},
		{"1:metric:x,2:time:unix_ns", "5,1717200000123456789", []string{"x@1717200000123=5"}, 0},
		{"1:metric:x,2:time:unix_s", "5,1717200000.125", []string{"x@1717200000125=5"}, 0},
		{"1:metric:x,2:time:unix_s,3:label:l", "val,t,lab\n5,1717200000,\"q,uo\"\"ted\"\n", []string{`x{l="q,uo\"ted"}@1717200000000=5`}, 0},
		{"1:metric:x,2:label:l", "5,\"two\nlines\"\n6,\n", []string{`x{l="two\nlines"}@7=5`, "x@7=6"}, 0},
		{"1:metric:x,2:time:unix_s,3:metric:y", ",1717200000,7\nbad,1717200000,8\n", []string{"y@1717200000000=7"}, 1},
		{"1:metric:x,2:time:unix_s", "1\n2,1717200000\n", []string{"x@1717200000000=2"}, 1},
		{"3:metric:x", "a,b,1,c\n\n \n,,2,\n", []string{"x@7=1", "x@7=2"}, 0},
		{"1:label:__name__,2:metric:value", "up,NaN\ndown,-Inf", []string{"up@7=NaN", "down@7=-Inf"}, 0},
		{"1:metric:x,2:label:l", "1,a\n2,\"open\n3,b", []string{`x{l="a"}@7=1`}, 1},
		{"1:metric:x,2:label:l", "1,\"a\"b\n", nil, 1},
		{"1:metric:x,2:time:unix_ms", "a;1717200000000\n", nil, 0},
	} {
		p, set := newParser(t, 1)
		for range 2 { // the second time series are known
			rows, result, err := parse(p, c.format, c.body)
			if err != nil || !slices.Equal(rows, c.want) || result.Invalid != c.invalid {
				t.Errorf("%s: %q: rows %q, %+v, error %v; want %q", c.format, c.body, rows, result, err, c.want)
			}
		}
		if n := set.Counter(`vm_rows_invalid_total{type="csvimport"}`).Get(); int(n) != 2*c.invalid {
			t.Errorf("%q: %d invalid rows counted", c.body, n)
		}
	}
}

func TestTrim(t *testing.T) {
	p, _ := newParser(t, 1000)
	if rows, _, err := parse(p, "1:metric:x,2:time:unix_ms", "5,1717200000999"); err != nil || !slices.Equal(rows, []string{"x@1717200000000=5"}) {
		t.Errorf("rows %q, error %v", rows, err)
	}
}

func TestBadFormats(t *testing.T) {
	p, _ := newParser(t, 1)
	for format, want := range map[string]string{
		"": "entry 1", "foo": "entry 1", "1:label:a": "no column of type metric", "1:metric:a,2:time:zz": "zz", "0:metric:a": "column", "1:metric:a,1:label:b": "twice",
		"1:metric:a,2:time:unix_s,3:time:unix_s": "more than one", "1:what:a": "what", "x:metric:a": "x", "1:metric:": "no name", "99999999:metric:a": "99999999",
		"1:metric:a,2:time:custom:": "custom:",
	} {
		if _, _, err := parse(p, format, "1,2"); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v", format, err)
		}
	}
}

func TestLongLine(t *testing.T) {
	p, _ := newParser(t, 1, "-import.maxLineLen=20")
	rows, result, err := parse(p, "1:metric:x,2:label:l", "1,a\n2,"+strings.Repeat("b", 20)+"\n3,c\n4,\"d\n"+strings.Repeat("ee\n", 20))
	if err != nil || !slices.Equal(rows[:2], []string{`x{l="a"}@7=1`, `x{l="c"}@7=3`}) || result.Invalid < 2 {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f, 1)
	f.Add("1:label:a,2:metric:b,3:time:unix_s", "x,1,2\n\"a\"\"b\",,3")
	f.Add("2:metric:b,3:time:custom:2006", "x,1,2024")
	f.Fuzz(func(t *testing.T, format, body string) {
		rows, result, err := parse(p, format, body)
		if err != nil && errkind.Of(err) != errkind.BadRequest || len(rows) != result.Rows {
			t.Fatalf("%d rows, %+v, error %v", len(rows), result, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	p, _ := newParser(b, 1)
	body := strings.Repeat("GOOG,1.23,NYSE,1717200000\n", 1000)
	req := &protoparser.Request{Format: "1:label:ticker,2:metric:bid,3:label:mkt,4:time:unix_s", Sink: func(*model.Batch) error { return nil }}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		req.Body = strings.NewReader(body)
		if result, err := p.Parse(req); err != nil || result.Rows != 1000 {
			b.Fatal(result, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/sample")
}
