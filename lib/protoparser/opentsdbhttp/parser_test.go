package opentsdbhttp

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
	var c Config
	in, set := parsertest.NewIntake(t, args, c.RegisterFlags)
	return New(in, c), set
}

const now = 1700000000123

func parse(p *Parser, body string) (rows []string, result protoparser.Result, err error) {
	return parsertest.Parse(p.Parse, protoparser.Request{DefaultTimestamp: now}, body)
}

// TestRows writes each body twice, the second time as series which are known.
func TestRows(t *testing.T) {
	for body, want := range map[string]string{
		`{"metric": "m", "timestamp": 1717200000, "value": 45.34, "tags": {"t1": "v1", "t2": "v2"}}`: `m{t1="v1",t2="v2"}@1717200000000=45.34`,
		` [ { "value" : "2.5" , "tags" : { } , "timestamp" : "1717200000123" , "metric" : "m" } ] `:  `m@1717200000123=2.5`,
		`{"metric":"m","timestamp":1717200000.5,"value":-1e3}`:                                       `m@1717200000500=-1000`,
		`{"metric":"m","value":1,"tags":null}`:                                                       `m@1700000000000=1`,
		`{"metric":"m","value":1,"timestamp":0}`:                                                     `m@1700000000000=1`,
		`{"metric":"m","value":1,"timestamp":null}`:                                                  `m@1700000000000=1`,
		`{"metric":"m","value":1,"more":{"a":[1,"]}",{"b":"\"}"}]},"x":[],"y":true}`:                 `m@1700000000000=1`,
		`{"metric":"a\"\\\u00fcb","value":1,"tags":{"k\n":"}],\""}}`:                                 "a\"\\üb{k\n=\"}],\\\"\"}@1700000000000=1",
		`[{"metric":"m","value":1},{"metric":"n","value":2}]`:                                        `m@1700000000000=1 n@1700000000000=2`,
		`[{"metric":"m","value":1},{"value":2},5,"x",[1,{}],null,{"metric":"n","value":3}]`:          `m@1700000000000=1 n@1700000000000=3 !5`,
		`[]`:                          ``,
		`{"value":1}`:                 `!1`,
		`{}`:                          `!1`,
		`{"metric":5,"value":1}`:      `!1`,
		`{"metric":"m"}`:              `!1`,
		`{"metric":"m","value":null}`: `!1`,
		`{"metric":"m","value":true}`: `!1`,
		`{"metric":"m","value":"x"}`:  `!1`,
		`{"metric":"m","value":{}}`:   `!1`,
		`{"metric":"m","value":1,"timestamp":"x"}`: `!1`,
		`{"metric":"m","value":1,"timestamp":-5}`:  `!1`,
		`{"metric":"m","value":1,"tags":{"n":5}}`:  `!1`,
		`{"metric":"m","value":1,"tags":[]}`:       `!1`,
	} {
		p, set := newParser(t)
		for range 2 {
			rows, result, err := parse(p, body)
			got := strings.Join(rows, " ")
			if result.Invalid > 0 {
				got = strings.TrimSpace(fmt.Sprintf("%s !%d", got, result.Invalid))
			}
			if err != nil || got != want || (result.Invalid > 0) != (result.Reason != "") {
				t.Errorf("%s: %s, %+v, error %v; want %s", body, got, result, err, want)
			}
		}
		if n := set.Counter(`vm_rows_invalid_total{type="opentsdbhttp"}`).Get(); (n > 0) != strings.Contains(want, "!") {
			t.Errorf("%s: %d invalid rows counted", body, n)
		}
	}
}

// TestNoJSON checks that nothing of a body which is not JSON is stored.
func TestNoJSON(t *testing.T) {
	p, _ := newParser(t, "-opentsdbhttp.maxInsertRequestSize=1000")
	for body, want := range map[string]errkind.Kind{
		``: errkind.BadRequest, `{bad`: errkind.BadRequest, `5`: errkind.BadRequest, `"x"`: errkind.BadRequest, `[{"metric":"m","value":1},`: errkind.BadRequest,
		`[{"metric":"m","value":1}] x`: errkind.BadRequest, "[" + strings.Repeat(" ", 1000) + "]": errkind.TooLarge, strings.Repeat("[", 900): errkind.BadRequest,
	} {
		if rows, _, err := parse(p, body); len(rows) > 0 || errkind.Of(err) != want {
			t.Errorf("%.50s: rows %q, error %v", body, rows, err)
		}
	}
}

func TestTrim(t *testing.T) {
	p, _ := newParser(t, "-opentsdbhttpTrimTimestamp=1s")
	if rows, _, err := parse(p, `{"metric":"m","timestamp":1717200000999,"value":1}`); err != nil || !slices.Equal(rows, []string{"m@1717200000000=1"}) {
		t.Errorf("rows %q, error %v", rows, err)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	for _, s := range []string{`{"metric":"m","value":1,"tags":{"a":"b"}}`, `[{"metric":"m","value":"1"},{}]`, `{"metric":"\"","x":[[{}]],"value":1}`, `[ 1 , "a" , {"" :{ }}]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var before []string
		for range 2 { // the second time series are known
			rows, result, err := parse(p, body)
			if err != nil && errkind.Of(err) != errkind.BadRequest || len(rows) != result.Rows || before != nil && !slices.Equal(rows, before) {
				t.Fatalf("rows %q, before %q, %+v, error %v", rows, before, result, err)
			}
			before = rows
		}
	})
}

// FuzzPlain: what is read as a plain body is JSON, and is read the same in the other way.
func FuzzPlain(f *testing.F) {
	f.Add(`[{"metric":"m","timestamp":1717200000,"value":-2.5e3,"tags":{"a":"b","c":"d"}},{"value":1,"metric":"n"}]`)
	f.Add(` { "metric" : "m" , "value" : 0 , "tags" : { } } `)
	f.Add(`{"metric":"m","value":01,"timestamp":1717200000123}`)
	f.Fuzz(func(t *testing.T, text string) {
		plain, ok := appendPlain(nil, []byte(text))
		if !ok {
			return
		}
		if err := protoparser.ValidateJSON([]byte(text)); err != nil {
			t.Fatalf("%q is no JSON: %s", text, err)
		}
		s := protoparser.NewJSONScanner([]byte(text))
		if s.Next() == '[' {
			s.Enter()
		}
		for i, x := range plain {
			s.More(']')
			var got, want row
			fault := want.split(s)
			if len(x.tags) == 0 {
				x.tags = []byte("{}")
			}
			got.setRaw(x.metric, x.tags)
			if fault != "" || !bytes.Equal(got.raw, want.raw) || x.value != want.value || x.timestamp != want.timestamp || got.parseLabels(got.raw) != "" {
				t.Errorf("%q: row %d is %s %+v; want %s %+v, %s", text, i, got.raw, x, want.raw, want, fault)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	const lines = 5000
	p, _ := newParser(b)
	var text strings.Builder
	for i := range lines {
		fmt.Fprintf(&text, `%c{"metric":"sys.cpu.nice","timestamp":1717200000,"value":%d.5,"tags":{"host":"web%d.example.com","dc":"lga","cpu":"%d"}}`, "[,"[min(i, 1)], i, i, i%64)
	}
	text.WriteString("]")
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
