package otlp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
)

// message makes a message of fields, which are numbers of 64 bits, or bytes.
func message(fields ...any) (b []byte) {
	for i := 0; i < len(fields); i += 2 {
		number := protowire.Number(fields[i].(int))
		switch v := fields[i+1].(type) {
		case float64:
			b = protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), math.Float64bits(v))
		case uint64:
			b = protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), v)
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
		}
	}
	return b
}

func attributeOf(key, value string) []byte { return message(1, key, 2, message(1, value)) }

const (
	testTrace = "0102030405060708090a0b0c0d0e0f10"
	testSpan  = "1112131415161718"
)

func exemplarOf(t *testing.T, value float64, attributes ...[]byte) []byte {
	t.Helper()
	trace, err := hex.DecodeString(testTrace)
	if err != nil {
		t.Fatal(err)
	}
	span, err := hex.DecodeString(testSpan)
	if err != nil {
		t.Fatal(err)
	}
	b := message(2, uint64(1_700_000_000_123_456_789), 3, value, 4, span, 5, trace)
	for _, a := range attributes {
		b = append(b, message(7, a)...)
	}
	return b
}

func exemplarsOf(t *testing.T, p *Parser, body []byte, format string) (list []string) {
	t.Helper()
	result, err := p.Parse(&protoparser.Request{Body: bytes.NewReader(body), Format: format, Sink: func(*model.Batch) error { return nil }, Exemplars: func(found []model.Exemplar) error {
		for _, e := range found {
			labels, err := model.ParseExemplarLabels(nil, e.Labels)
			if err != nil {
				t.Error(err)
			}
			list = append(list, fmt.Sprintf("%s %s@%d=%v", model.SeriesKeyString(e.Series), model.LabelsString(labels), e.Timestamp, e.Value))
		}
		return nil
	}})
	if err != nil || result.Exemplars != len(list) {
		t.Fatalf("%q, %+v, %v", list, result, err)
	}
	return list
}

func TestExemplars(t *testing.T) {
	number := message(3, uint64(1e18), 4, 5.0, 7, attributeOf("job", "x"), 5, exemplarOf(t, 7, attributeOf("user", "ü")))
	tooMuch := message(3, uint64(1e18), 4, 5.0, 5, exemplarOf(t, 8, attributeOf("user", strings.Repeat("x", 70))))
	explicit := message(3, uint64(1e18), 4, uint64(3), 5, 1.0, 6, uint64(1), 6, uint64(1), 6, uint64(1), 7, 0.1, 7, 1.0,
		8, exemplarOf(t, 0.1), 8, exemplarOf(t, 0.5), 8, exemplarOf(t, 9))
	exponential := message(3, uint64(1e18), 4, uint64(2), 11, exemplarOf(t, 3), 11, exemplarOf(t, 0), 11, exemplarOf(t, -4))
	body := message(1, message(2, message(
		2, message(1, "c", 7, message(1, number, 1, tooMuch)),
		2, message(1, "h", 9, message(1, explicit)),
		2, message(1, "e", 10, message(1, exponential)),
	)))
	p, _ := newParser(t)
	const ids, at = `span_id="` + testSpan + `",trace_id="` + testTrace + `"`, "@1700000000123"
	want := []string{
		`tenant 0:0 c{job="x"} {` + ids + `,user="ü"}` + at + `=7`,
		`tenant 0:0 c {` + ids + `}` + at + `=8`,
		`tenant 0:0 h_bucket{le="0.1"} {` + ids + `}` + at + `=0.1`,
		`tenant 0:0 h_bucket{le="1"} {` + ids + `}` + at + `=0.5`,
		`tenant 0:0 h_bucket{le="+Inf"} {` + ids + `}` + at + `=9`,
		`tenant 0:0 e_bucket{vmrange="2.000e+00...4.000e+00"} {` + ids + `}` + at + `=3`,
		`tenant 0:0 e_bucket{vmrange="0.000e+00...0.000e+00"} {` + ids + `}` + at + `=0`,
		`tenant 0:0 e_bucket{vmrange="-4.000e+00...-2.000e+00"} {` + ids + `}` + at + `=-4`,
	}
	for range 2 {
		got := exemplarsOf(t, p, body, "protobuf")
		for i := range got {
			got[i] = strings.Replace(got[i], "-0.000e+00", "0.000e+00", 1)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestExemplarsInJSON(t *testing.T) {
	p, _ := newParser(t)
	got := exemplarsOf(t, p, []byte(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"c","sum":{"isMonotonic":true,"dataPoints":[{"timeUnixNano":"1700000000000000000","asInt":"3",
		"exemplars":[{"timeUnixNano":"1700000000123000000","asInt":"2","spanId":"`+testSpan+`","traceId":"`+testTrace+`","filteredAttributes":[{"key":"a","value":{"boolValue":true}}]}]}]}}]}]}]}`), "json")
	if want := `tenant 0:0 c {a="true",span_id="` + testSpan + `",trace_id="` + testTrace + `"}@1700000000123=2`; !slices.Equal(got, []string{want}) {
		t.Errorf("%q; want %q", got, want)
	}
}
