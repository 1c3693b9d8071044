package exposition

import (
	"fmt"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/parsertest"
)

// exemplarsOf parses a body and returns its exemplars as text.
func exemplarsOf(t testing.TB, p *Parser, body string) (list []string, result protoparser.Result) {
	t.Helper()
	_, result, err := parsertest.Parse(p.Parse, protoparser.Request{DefaultTimestamp: now, Exemplars: func(found []model.Exemplar) error {
		for _, e := range found {
			labels, err := model.ParseExemplarLabels(nil, e.Labels)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, fmt.Sprintf("%s %s@%d=%v", model.SeriesKeyString(e.Series), model.LabelsString(labels), e.Timestamp, e.Value))
		}
		return nil
	}}, body)
	if err != nil {
		t.Fatal(err)
	}
	return list, result
}

func TestExemplars(t *testing.T) {
	for line, want := range map[string]string{
		`m 1 # {trace_id="a"} 2 3.5`:                       `tenant 0:0 m {trace_id="a"}@3500=2`,
		`m 1 1717200000.5 # {trace_id="a"} 2`:              `tenant 0:0 m {trace_id="a"}@1717200000500=2`,
		`m 1 # {b="\"x\n",a=""} 2e3 1717200000.001`:        `tenant 0:0 m {b="\"x\n"}@1717200000001=2000`,
		`m_bucket{le="0.1"} 1 # {} 0.05`:                   `tenant 0:0 m_bucket{le="0.1"} {}@1700000000123=0.05`,
		`{"my.metric",a="b"} 1 # { trace_id = "a" , } 2 3`: `tenant 0:0 my.metric{a="b"} {trace_id="a"}@3000=2`,
	} {
		p, _ := newParser(t)
		for range 2 { // the series is known the second time
			got, result := exemplarsOf(t, p, line)
			if !slices.Equal(got, []string{want}) || result.Rows != 1 || result.Exemplars != 1 {
				t.Errorf("%s: %q, %+v; want %q", line, got, result, want)
			}
		}
	}
}

// TestWrongExemplars are left out without their samples.
func TestWrongExemplars(t *testing.T) {
	p, set := newParser(t)
	long := fmt.Sprintf("%0129d", 1)
	body := ""
	for _, x := range []string{` comment`, ` {a="b"}`, ` {a="b" 1`, ` {a="b"} x`, ` {a="b"} 1 x`, ` {a="b"} 1 NaN`, ` {a="b"} 1 1e30`, ` {a="b"} 1 1 1`, ` {a="` + long + `"} 1`, ` {a="1",a="2"} 1`, ` {__name__="x"} 1`, ` {a="` + "\xff" + `"} 1`} {
		body += "m 1 #" + x + "\n"
	}
	got, result := exemplarsOf(t, p, body+`m 1 # {a="good"} 1 1`)
	if len(got) != 1 || result.Rows != 13 || result.Invalid != 0 || result.Exemplars != 1 {
		t.Errorf("%q, %+v", got, result)
	}
	if n := set.Counter(`vm_exemplars_invalid_total{type="prometheus"}`).Get(); n != 12 {
		t.Errorf("%d exemplars are counted as invalid", n)
	}
}
