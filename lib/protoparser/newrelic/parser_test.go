package newrelic

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

// TestEvents writes each body twice, the second time as series which are known.
func TestEvents(t *testing.T) {
	for events, want := range map[string]string{
		`{"eventType":"S","timestamp":1717200000,"cpuPercent":25.05,"bool":true,"none":null,"list":[1],"x":{"y":2},"swapBytes":-7}`: `cpuPercent{eventType="S"}@1717200000000=25.05 swapBytes{eventType="S"}@1717200000000=-7`,
		`{"a":1,"t\"1":"v\\1","t2":"","timestamp":"1717200000123"}`:                                                                 `a{t"1="v\\1"}@1717200000123=1`,
		`{"a":1},{"b":2e3,"timestamp":null}`:                                                                                        `a@1700000000000=1 b@1700000000000=2000`,
		`{"t":"no number"},{},{"a":1}`:                                                                                              `a@1700000000000=1`,
		`5,"x",[{"b":1}],{"a":1}`:                                                                                                   `a@1700000000000=1 !3`,
		`{"a":1,"timestamp":"x"}`:                                                                                                   `!1`,
		`{"a":1,"timestamp":-5}`:                                                                                                    `!1`,
		`{"a":1e999}`:                                                                                                               `!1`,
		`{"t":"` + strings.Repeat("x", 1<<20) + `"` + strings.Repeat(`,"a":1`, 20) + `}`:                                            `!1`,
	} {
		p, set := newParser(t)
		for range 2 {
			rows, result, err := parse(p, `[{"EntityID": 1, "IsAgent": true, "Events": [`+events+`], "ReportingAgentID": 2}]`)
			got := strings.Join(rows, " ")
			if result.Invalid > 0 {
				got = strings.TrimSpace(fmt.Sprintf("%s !%d", got, result.Invalid))
			}
			if err != nil || got != want || (result.Invalid > 0) != (result.Reason != "") {
				t.Errorf("%.200s: %s, %+v, error %v; want %s", events, got, result, err, want)
			}
		}
		if n := set.Counter(`vm_rows_invalid_total{type="newrelic"}`).Get(); (n > 0) != strings.Contains(want, "!") {
			t.Errorf("%.200s: %d invalid events counted", events, n)
		}
	}
}

func TestBodies(t *testing.T) {
	p, _ := newParser(t, "-newrelic.maxInsertRequestSize=1000")
	for body, want := range map[string]errkind.Kind{
		``: errkind.BadRequest, `{bad`: errkind.BadRequest, `{}`: errkind.BadRequest, `[{"Events":[{"a":1}]},`: errkind.BadRequest, `[]`: errkind.OK, "[" + strings.Repeat(" ", 1000) + "]": errkind.TooLarge,
	} {
		if rows, _, err := parse(p, body); len(rows) > 0 || errkind.Of(err) != want {
			t.Errorf("%.50s: rows %q, error %v", body, rows, err)
		}
	}
	if rows, result, err := parse(p, `[5, {"Events": 5}, {}, {"Events": [{"a": 1}]}]`); err != nil || !slices.Equal(rows, []string{"a@1700000000000=1"}) || result.Invalid != 2 {
		t.Errorf("rows %q, %+v, error %v", rows, result, err)
	}
}

func FuzzParse(f *testing.F) {
	p, _ := newParser(f)
	parsertest.Fuzz(f, p.Parse, protoparser.Request{DefaultTimestamp: now}, `[{"Events":[{"a":1,"t":"x","timestamp":5}]}]`, `[{"Events":[{"\"":1,"":"\\"},{}]},{}]`, `[[],{"Events":[[1],{"a":{"b":"]"},"c":-0}]}]`)
}

func BenchmarkParse(b *testing.B) {
	const lines = 5000
	p, _ := newParser(b)
	var text strings.Builder
	for i := range lines / 5 {
		fmt.Fprintf(&text, `%c{"Events":[{"eventType":"SystemSample","timestamp":1717200000,"entityKey":"host-%d.example.com","cpuPercent":%d.5,"loadAverage":1.25,"memoryUsed":%d,"swapUsed":0,"diskFree":12345678}]}`, "[,"[min(i, 1)], i, i, i)
	}
	text.WriteString("]")
	parsertest.Benchmark(b, p.Parse, protoparser.Request{}, text.String(), lines)
}
