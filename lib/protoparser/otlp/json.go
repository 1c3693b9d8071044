package otlp

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// The messages in the JSON of protobuf, of which only what is used is read. 64-bit numbers are texts or numbers there, floats may be texts
// such as "NaN", and enumerations are numbers or names.
type (
	jsonRequest struct {
		ResourceMetrics []struct {
			Resource     struct{ Attributes []jsonAttribute }
			ScopeMetrics []jsonScope
		}
	}
	jsonScope struct {
		Scope *struct {
			Name, Version string
			Attributes    []jsonAttribute
		}
		Metrics []jsonMetric
	}
	jsonMetric struct {
		Name, Unit, Description string
		Gauge                   *jsonData
		Sum                     *jsonData
		Histogram               *jsonData
		ExponentialHistogram    *jsonData
		Summary                 *jsonData
	}
	jsonData struct {
		DataPoints             []jsonPoint
		IsMonotonic            bool
		AggregationTemporality json.RawMessage
	}
	jsonPoint struct {
		Attributes        []jsonAttribute
		TimeUnixNano      jsonUint
		StartTimeUnixNano jsonUint
		Flags             uint32
		AsDouble          *jsonFloat
		AsInt             *jsonInt
		Count             jsonUint
		Sum               *jsonFloat
		BucketCounts      []jsonUint
		ExplicitBounds    []jsonFloat
		Scale             int32
		ZeroCount         jsonUint
		ZeroThreshold     jsonFloat
		Positive          jsonBuckets
		Negative          jsonBuckets
		QuantileValues    []struct{ Quantile, Value jsonFloat }
		Exemplars         []jsonExemplar
	}
	jsonExemplar struct {
		FilteredAttributes []jsonAttribute
		TimeUnixNano       jsonUint
		AsDouble           *jsonFloat
		AsInt              *jsonInt
		SpanID, TraceID    jsonHex
	}
	jsonBuckets struct {
		Offset       int32
		BucketCounts []jsonUint
	}
	jsonAttribute struct {
		Key   string
		Value jsonValue
	}
	jsonValue struct {
		StringValue *string
		BoolValue   *bool
		IntValue    *jsonInt
		DoubleValue *jsonFloat
		BytesValue  *[]byte
		ArrayValue  *struct{ Values []jsonValue }
		KvlistValue *struct{ Values []jsonAttribute }
	}

	jsonUint  uint64
	jsonInt   int64
	jsonFloat float64
	jsonHex   []byte // other bytes are in base64
)

// unquoted returns a number, which may be a text.
func unquoted(b []byte) string {
	if len(b) >= 2 && b[0] == '"' {
		b = b[1 : len(b)-1]
	}
	return string(b)
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *jsonUint) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseUint(unquoted(b), 10, 64)
	*n = jsonUint(v)
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *jsonInt) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(unquoted(b), 10, 64)
	*n = jsonInt(v)
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *jsonFloat) UnmarshalJSON(b []byte) error {
	switch text := unquoted(b); text {
	case "NaN":
		*n = jsonFloat(math.NaN())
	case "Infinity":
		*n = jsonFloat(math.Inf(1))
	case "-Infinity":
		*n = jsonFloat(math.Inf(-1))
	default:
		v, err := strconv.ParseFloat(text, 64)
		*n = jsonFloat(v)
		return err
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (x *jsonHex) UnmarshalJSON(b []byte) (err error) {
	*x, err = hex.DecodeString(unquoted(b))
	return err
}

// json stores the points of a request in JSON.
func (w *writer) json(body []byte) error {
	var r jsonRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return errkind.New(errkind.BadRequest, "cannot decode OTLP request as JSON: %w", err)
	}
	for i := range r.ResourceMetrics {
		resource := &r.ResourceMetrics[i]
		attributes, err := labelsOf(nil, resource.Resource.Attributes)
		if err != nil {
			return err
		}
		w.setResource(attributes)
		for j := range resource.ScopeMetrics {
			if err := w.jsonScope(&resource.ScopeMetrics[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) jsonScope(scope *jsonScope) error {
	w.noScope()
	if s := scope.Scope; s != nil {
		attributes, err := labelsOf(nil, s.Attributes)
		if err != nil {
			return err
		}
		w.setScope(s.Name, s.Version, attributes)
	}
	return w.jsonMetrics(scope.Metrics)
}

func (w *writer) jsonMetrics(metrics []jsonMetric) error {
	var p point
	for i := range metrics {
		x := &metrics[i]
		m := metric{name: x.Name, unit: x.Unit, description: x.Description}
		data := x.data(&m)
		if data == nil {
			continue
		}
		m.monotonic = data.IsMonotonic
		temporality := unquoted(data.AggregationTemporality)
		m.delta = temporality == "AGGREGATION_TEMPORALITY_DELTA" || temporality == strconv.Itoa(deltaTemporality)
		w.setMetric(m)
		for j := range data.DataPoints {
			if err := w.c.Err(); err != nil {
				return err
			}
			p.reset()
			if err := data.DataPoints[j].read(&p); err != nil {
				return err
			}
			if err := w.add(&p); err != nil {
				return err
			}
		}
	}
	return nil
}

// data returns what holds the points of a metric and sets their kind; nil when there is none.
func (x *jsonMetric) data(m *metric) *jsonData {
	for k, data := range map[kind]*jsonData{gauge: x.Gauge, sum: x.Sum, histogram: x.Histogram, exponential: x.ExponentialHistogram, summary: x.Summary} {
		if data != nil {
			m.kind = k
			return data
		}
	}
	return nil
}

func (x *jsonPoint) read(p *point) (err error) {
	if p.attributes, err = labelsOf(p.attributes, x.Attributes); err != nil {
		return err
	}
	p.time, p.start, p.flags, p.count = uint64(x.TimeUnixNano), uint64(x.StartTimeUnixNano), x.Flags, uint64(x.Count)
	switch {
	case x.AsDouble != nil:
		p.value, p.hasValue = float64(*x.AsDouble), true
	case x.AsInt != nil:
		p.value, p.hasValue = float64(*x.AsInt), true
	}
	if x.Sum != nil {
		p.sum, p.hasSum = float64(*x.Sum), true
	}
	p.counts = appendUints(p.counts, x.BucketCounts)
	for _, bound := range x.ExplicitBounds {
		p.bounds = append(p.bounds, float64(bound))
	}
	p.scale, p.zeroCount, p.zeroThreshold = x.Scale, uint64(x.ZeroCount), float64(x.ZeroThreshold)
	p.positive = buckets{x.Positive.Offset, appendUints(p.positive.counts, x.Positive.BucketCounts)}
	p.negative = buckets{x.Negative.Offset, appendUints(p.negative.counts, x.Negative.BucketCounts)}
	for _, q := range x.QuantileValues {
		p.quantiles = append(p.quantiles, quantile{float64(q.Quantile), float64(q.Value)})
	}
	for i := range x.Exemplars {
		e, err := x.Exemplars[i].read()
		if err != nil {
			return err
		}
		p.exemplars = append(p.exemplars, e)
	}
	return nil
}

func (x *jsonExemplar) read() (e exemplar, err error) {
	e = exemplar{time: uint64(x.TimeUnixNano), traceID: x.TraceID, spanID: x.SpanID}
	switch {
	case x.AsDouble != nil:
		e.value = float64(*x.AsDouble)
	case x.AsInt != nil:
		e.value = float64(*x.AsInt)
	}
	e.attributes, err = labelsOf(nil, x.FilteredAttributes)
	return e, err
}

func appendUints(dst []uint64, list []jsonUint) []uint64 {
	for _, v := range list {
		dst = append(dst, uint64(v))
	}
	return dst
}

func labelsOf(dst []model.Label, attributes []jsonAttribute) ([]model.Label, error) {
	for i := range attributes {
		value, err := attributes[i].Value.value(0)
		if err != nil {
			return dst, err
		}
		if dst, err = appendLabels(dst, attributes[i].Key, value); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (x *jsonValue) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, errDepth()
	}
	switch {
	case x.StringValue != nil:
		return *x.StringValue, nil
	case x.BoolValue != nil:
		return *x.BoolValue, nil
	case x.IntValue != nil:
		return int64(*x.IntValue), nil
	case x.DoubleValue != nil:
		return number(float64(*x.DoubleValue)), nil
	case x.BytesValue != nil:
		return base64.StdEncoding.EncodeToString(*x.BytesValue), nil
	case x.ArrayValue != nil:
		list := []any{}
		for i := range x.ArrayValue.Values {
			item, err := x.ArrayValue.Values[i].value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	case x.KvlistValue != nil:
		o := object{}
		for i := range x.KvlistValue.Values {
			m := &x.KvlistValue.Values[i]
			value, err := m.Value.value(depth + 1)
			if err != nil {
				return nil, err
			}
			o = append(o, member{m.Key, value})
		}
		return o, nil
	}
	return nil, nil
}

// firehose is the envelope of Amazon Data Firehose.
type firehose struct {
	Records []struct{ Data []byte }
}

// envelope stores the points of requests in an envelope of Amazon Data Firehose. Each record is a run of requests with their sizes before
// them.
func (w *writer) envelope(body []byte, store func(request []byte) error) error {
	var f firehose
	if err := json.Unmarshal(body, &f); err != nil {
		return errkind.New(errkind.BadRequest, "cannot decode Firehose request as JSON: %w", err)
	}
	for i, record := range f.Records {
		for rest := record.Data; len(rest) > 0; {
			size, n := protowire.ConsumeVarint(rest)
			if n < 0 || size > uint64(len(rest)-n) {
				return errkind.New(errkind.BadRequest, "cannot decode Firehose request: record %d does not consist of OTLP requests with their sizes before them", i)
			}
			if err := store(rest[n : n+int(size)]); err != nil {
				return fmt.Errorf("record %d of the Firehose request: %w", i, err)
			}
			rest = rest[n+int(size):]
		}
	}
	return nil
}
