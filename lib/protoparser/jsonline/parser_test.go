package jsonline

import (
	"bytes"
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

func newParser(t testing.TB, args ...string) (*Parser, *metrics.Set) {
	t.Helper()
	in, set := parsertest.NewIntake(t, args)
	return New(in), set
}

func parse(p *Parser, body, encoding string) (rows []string, result protoparser.Result, err error) {
	return parsertest.Parse(p.Parse, protoparser.Request{Encoding: encoding}, body)
}

func TestLines(t *testing.T) {
	for line, want := range map[string]string{
		`{"metric":{"__name__":"m","a":"b"},"values":[1,2.5],"timestamps":[1000,-2]}`:                     `m{a="b"}@1000=1 m{a="b"}@-2=2.5`,
		`{"timestamps":[1],"values":["2"],"metric":{"a":"ü\n","__name__":"m"},"x":0}`:                     `m{a="ü\n"}@1=2`,
		`{"metric":{"__name__":"m"},"values":[1e3,"Infinity","-Infinity","+Inf"],"timestamps":[1,2,3,4]}`: `m@1=1000 m@2=+Inf m@3=-Inf m@4=+Inf`,
		"{\"metric\":{\"__name__\":\"m\"},\"values\":[1],\"timestamps\":[1]}\r":                           `m@1=1`,
		`{bad json`: "",
		`{"metric":{"__name__":"x"},"values":[1,2],"timestamps":[1]}`:     "",
		`{"metric":{"__name__":"x"},"timestamps":[1]}`:                    "",
		`{"metric":{"__name__":"x"},"values":[1]}`:                        "",
		`{"metric":{"__name__":"x"},"values":[],"timestamps":[]}`:         "",
		`{"metric":{"__name__":"x"},"values":["abc"],"timestamps":[1]}`:   "",
		`{"metric":{"__name__":"x"},"values":[true],"timestamps":[1]}`:    "",
		`{"metric":{"__name__":"x"},"values":[1],"timestamps":[1.5]}`:     "",
		`{"metric":{"__name__":"x"},"values":[1],"timestamps":["1"]}`:     "",
		`{"metric":{"__name__":"x","a":1},"values":[1],"timestamps":[1]}`: "",
		`{"metric":"x","values":[1],"timestamps":[1]}`:                    "",
		`{"metric":{"__name__":"x"},"values":{},"timestamps":[1]}`:        "",
		`{"metric":{"__name__":"x"},"values":[1],"timestamps":[1]} {}`:    "",
		`[]`:                      "",
		strings.Repeat("[", 1000): "",
		`{"metric":{"__name__":"x"},"values":[inf],"timestamps":[1]}`:             "",
		`{"metric":{"__name__":"x"},"values":[-inf],"timestamps":[1]}`:            "",
		`{"metric":{"__name__":"x"},"values":[+1],"timestamps":[1]}`:              "",
		`{"metric":{"__name__":"x"},"values":[1.],"timestamps":[1]}`:              "",
		`{"metric":{"__name__":"x"},"values":[1],"timestamps":[+1]}`:              "",
		`{"metric":{"__name__":"x"},"values":[1],"timestamps":[1,]}`:              "",
		`{"metric":{"__name__":"x"},"values":[1],"timestamps":[1,2]}`:             "",
		`{"metric":{"__name__":"x"},"values":["],"],"timestamps":[1]}`:            "",
		`{"metric":{"__name__":"x"},"values":[1],"timestamps":[1]}}`:              "",
		`{"metric":{"__name__" "x"},"values":[1],"timestamps":[1]}`:               "",
		`{"metric":{"__name__":"m"},"values":[ 1 ,"\u0032"],"timestamps":[1, 2]}`: `m@1=1 m@2=2`,
		`{"metric":{"__name__":"m","a":"}\"{"},"values":[1],"timestamps":[1]}`:    `m{a="}\"{"}@1=1`,
	} {
		p, set := newParser(t)
		const first, last = `{"metric":{"__name__":"first"},"values":[1],"timestamps":[1]}`, `{"metric":{"__name__":"last"},"values":[2],"timestamps":[2]}`
		rows, result, err := parse(p, first+"\n"+line+"\n\n"+last, "")
		all := []string{"first@1=1"}
		if want != "" {
			all = append(all, strings.Split(want, " ")...)
		}
		all = append(all, "last@2=2")
		if err != nil || !slices.Equal(rows, all) {
			t.Errorf("%s: rows %q, error %v; want %q", line, rows, err, all)
		}
		invalid := set.Counter(`vm_rows_invalid_total{type="vmimport"}`).Get()
		if (invalid == 1) != (want == "") || result.Invalid != int(invalid) || (want == "") != (result.Reason != "") {
			t.Errorf("%s: %d invalid lines counted, %+v", line, invalid, result)
		}
	}
}

func TestWhatIsDropped(t *testing.T) {
	p, set := newParser(t)
	rows, result, err := parse(p, `{"metric":{"__name__":"m"},"values":[1,"NaN",null,2],"timestamps":[1,2,3,4]}
{"metric":{"a":"b"},"values":[1],"timestamps":[1]}
{"metric":{},"values":[1,1],"timestamps":[1,2]}
{"metric":{"__name__":"m","a":"1","a":"2"},"values":[1],"timestamps":[1]}
`, "")
	if err != nil || !slices.Equal(rows, []string{"m@1=1", "m@2=NaN", "m@4=2"}) || result.Rows != 3 || result.Dropped != 5 {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
	for reason, want := range map[string]uint64{"null_value": 1, "empty_metric_name": 3, "duplicate_label_name": 1} {
		if got := set.Counter(fmt.Sprintf("vm_rows_ignored_total{reason=%q}", reason)).Get(); got != want {
			t.Errorf("%d rows ignored for %s; want %d", got, reason, want)
		}
	}
}

func TestLongLine(t *testing.T) {
	p, set := newParser(t, "-import.maxLineLen=100")
	line := `{"metric":{"__name__":"m"},"values":[1],"timestamps":[1]}`
	rows, result, err := parse(p, line+"\n"+strings.Replace(line, `"m"`, `"`+strings.Repeat("x", 100)+`"`, 1)+"\n"+line, "")
	if err != nil || len(rows) != 2 || result.Invalid != 1 || !strings.Contains(result.Reason, "-import.maxLineLen=100") {
		t.Errorf("%d rows, %+v, error %v", len(rows), result, err)
	}
	if n := set.Counter(`vm_rows_invalid_total{type="vmimport"}`).Get(); n != 1 {
		t.Errorf("%d invalid rows", n)
	}
}

func TestBrokenEncoding(t *testing.T) {
	p, _ := newParser(t)
	for _, encoding := range []string{"gzip", "br"} {
		if _, _, err := parse(p, "nogzip", encoding); errkind.Of(err) != errkind.BadRequest {
			t.Errorf("%s: error %v", encoding, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	f.Add(`{"metric":{"__name__":"m","a":"b"},"values":[1,null,"NaN"],"timestamps":[1,2,3]}`)
	f.Add("{}\n[]\n{\"metric\":{}}")
	f.Add(`{"metric":{"\u0000":"\ud800"},"values":[-0,1e-400],"timestamps":[-9223372036854775808,1]}`)
	f.Fuzz(func(t *testing.T, body string) {
		rows, result, err := parse(p, body, "")
		if err != nil || len(rows) != result.Rows {
			t.Fatalf("%d rows, %+v, error %v", len(rows), result, err)
		}
	})
}

// FuzzPlain: what is read as a plain line is JSON, and is read the same in the other way.
func FuzzPlain(f *testing.F) {
	f.Add(`{"metric":{"__name__":"m","a":"b"},"values":[1,-2.5e3],"timestamps":[1,2]}`)
	f.Add(` { "timestamps" : [ 5 ] , "values" : [ 0 ] , "metric" : { } } `)
	f.Add(`{"metric":{"a":"b" , "c" :"d" },"values":[1 ],"timestamps":[1] }`)
	f.Add(`{"metric":{},"values":[01],"timestamps":[1.5]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var plain, other line
		metric, ok := plain.parsePlain([]byte(text))
		if !ok {
			return
		}
		want, fault := other.parse([]byte(text))
		if fault != "" || !bytes.Equal(metric, want) || !slices.Equal(plain.samples, other.samples) || other.nulls > 0 || plain.parseLabels(metric) != "" {
			t.Errorf("%q: %s, %v; want %s, %v, %s", text, metric, plain.samples, want, other.samples, fault)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	const samples = 100
	p, _ := newParser(b)
	var values, timestamps []string
	for i := range samples {
		values = append(values, fmt.Sprintf("%d.25", i))
		timestamps = append(timestamps, fmt.Sprint(1717200000000+15000*i))
	}
	body := fmt.Sprintf(`{"metric":{"__name__":"m","job":"x"},"values":[%s],"timestamps":[%s]}`+"\n", strings.Join(values, ","), strings.Join(timestamps, ","))
	r := strings.NewReader(body)
	req := &protoparser.Request{Body: r, Sink: func(*model.Batch) error { return nil }}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r.Reset(body)
		result, err := p.Parse(req)
		if err != nil || result.Rows != samples {
			b.Fatal(result, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/samples, "ns/sample")
}
