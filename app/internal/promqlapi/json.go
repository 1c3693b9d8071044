package promqlapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/stats"

	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/errkind"
)

// answer is an evaluated query.
type answer struct {
	args   *evalArgs
	query  promql.Query
	result *promql.Result
}

// maxNotes is the most warnings, and the most infos, of an answer.
const maxNotes = 10

// flushBytes is how much of an answer is collected before it is sent.
const flushBytes = 64 << 10

// writer sends an answer piece by piece.
type writer struct {
	w   http.ResponseWriter
	b   []byte
	err error
}

// flush sends what there is, if that is much.
func (w *writer) flush(least int) {
	if w.err != nil || len(w.b) < least {
		return
	}
	_, w.err = w.w.Write(w.b)
	w.b = w.b[:0]
}

// writeResult writes the answer in the form of Prometheus, with isPartial in a cluster.
func writeResult(w http.ResponseWriter, c *selectapi.Call, a *answer) error {
	warnings, infos := a.result.Warnings.AsStrings(a.args.text, maxNotes, maxNotes)
	if a.truncate() {
		warnings = append(warnings, "results truncated due to limit")
	}
	if c.Partial() {
		warnings = append(warnings, "some of the storage nodes did not answer: the result may lack data")
	}
	var statistics []byte
	if a.args.stats {
		var err error
		if statistics, err = json.Marshal(stats.NewQueryStats(a.query.Stats())); err != nil {
			return errkind.New(errkind.Internal, "cannot encode the statistics of the query: %w", err)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	out := &writer{w: w, b: append([]byte(`{"status":"success",`), c.PartialField()...)}
	out.b = append(append(out.b, `"data":{"resultType":"`...), a.result.Value.Type()...)
	out.b = append(out.b, `","result":`...)
	out.value(a.result)
	if statistics != nil {
		out.b = append(append(out.b, `,"stats":`...), statistics...)
	}
	out.b = append(out.b, '}')
	out.notes("warnings", warnings)
	out.notes("infos", infos)
	out.b = append(c.AppendTrace(out.b), '}')
	out.flush(0)
	return selectapi.Sent(out.err)
}

// truncate applies the limit argument.
func (a *answer) truncate() bool {
	limit := a.args.limit
	if limit <= 0 {
		return false
	}
	switch v := a.result.Value.(type) {
	case promql.Vector:
		a.result.Value = v[:min(limit, len(v))]
		return len(v) > limit
	case promql.Matrix:
		a.result.Value = v[:min(limit, len(v))]
		return len(v) > limit
	}
	return false
}

func (w *writer) notes(name string, list []string) {
	if len(list) == 0 {
		return
	}
	w.b = append(append(append(w.b, `,"`...), name...), `":[`...)
	for i, s := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = selectapi.AppendJSONString(w.b, s)
	}
	w.b = append(w.b, ']')
}

// value appends the result of any type.
func (w *writer) value(res *promql.Result) {
	switch v := res.Value.(type) {
	case promql.Scalar:
		w.b = appendPoint(w.b, v.T, v.V)
	case promql.String:
		w.b = append(appendTime(append(w.b, '['), v.T), ',')
		w.b = append(selectapi.AppendJSONString(w.b, v.V), ']')
	case promql.Vector:
		w.b = append(w.b, '[')
		for i := range v {
			w.sample(i, &v[i])
		}
		w.b = append(w.b, ']')
	case promql.Matrix:
		w.b = append(w.b, '[')
		for i := range v {
			w.series(i, &v[i])
		}
		w.b = append(w.b, ']')
	}
}

func (w *writer) sample(i int, s *promql.Sample) {
	w.begin(i, s.Metric)
	if s.H != nil {
		w.b = append(w.b, `,"histogram":`...)
		w.histogram(promql.HPoint{T: s.T, H: s.H})
	} else {
		w.b = appendPoint(append(w.b, `,"value":`...), s.T, s.F)
	}
	w.b = append(w.b, '}')
	w.flush(flushBytes)
}

func (w *writer) series(i int, s *promql.Series) {
	w.begin(i, s.Metric)
	if len(s.Floats) > 0 {
		w.b = append(w.b, `,"values":[`...)
		for k, p := range s.Floats {
			if k > 0 {
				w.b = append(w.b, ',')
			}
			w.b = appendPoint(w.b, p.T, p.F)
		}
		w.b = append(w.b, ']')
	}
	if len(s.Histograms) > 0 {
		w.b = append(w.b, `,"histograms":[`...)
		for k, p := range s.Histograms {
			if k > 0 {
				w.b = append(w.b, ',')
			}
			w.histogram(p)
		}
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, '}')
	w.flush(flushBytes)
}

// begin starts element i of a result with its labels.
func (w *writer) begin(i int, metric labels.Labels) {
	if i > 0 {
		w.b = append(w.b, ',')
	}
	w.b = append(w.b, `{"metric":{`...)
	first := true
	metric.Range(func(l labels.Label) {
		if !first {
			w.b = append(w.b, ',')
		}
		first = false
		w.b = append(selectapi.AppendJSONString(w.b, l.Name), ':')
		w.b = selectapi.AppendJSONString(w.b, l.Value)
	})
	w.b = append(w.b, '}')
}

// appendPoint appends [seconds,"value"].
func appendPoint(dst []byte, ms int64, v float64) []byte {
	dst = appendTime(append(dst, '['), ms)
	dst = appendFloat(append(dst, ',', '"'), v)
	return append(dst, '"', ']')
}

// appendTime appends milliseconds as seconds, with three decimals or none.
func appendTime(dst []byte, ms int64) []byte {
	if ms < 0 {
		dst, ms = append(dst, '-'), -ms
	}
	dst = strconv.AppendInt(dst, ms/1000, 10)
	if rest := ms % 1000; rest != 0 {
		dst = append(dst, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return dst
}

// appendFloat appends the shortest decimal that reads back to v, with an exponent where Prometheus has one.
func appendFloat(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "NaN"...)
	case math.IsInf(v, 1):
		return append(dst, "+Inf"...)
	case math.IsInf(v, -1):
		return append(dst, "-Inf"...)
	}
	format := byte('f')
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, 64)
}
