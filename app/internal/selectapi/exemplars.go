package selectapi

import (
	"bytes"
	"cmp"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// maxExemplarSelectors is how many selectors the expression of a request for exemplars may have. Each of them looks at all series with exemplars.
const maxExemplarSelectors = 1000

const exemplarsPath = "/api/v1/query_exemplars"

// exemplars serves /api/v1/query_exemplars: the exemplars of all series which an expression selects, whatever it does with them.
func (a *API) exemplars(w http.ResponseWriter, r *request) error {
	if done, err := a.otherDialect(w, r, exemplarsPath); done {
		return err
	}
	text := r.Form.Get("query")
	if text == "" {
		return errkind.New(errkind.BadRequest, "missing `query` arg")
	}
	expr, err := metricsql.Parse(text)
	if err != nil {
		return err
	}
	var sets [][]model.TagFilter
	metricsql.Visit(expr, func(e metricsql.Expr) bool {
		if m, ok := e.(*metricsql.MetricExpr); ok {
			sets = append(sets, m.FilterSets...)
		}
		return true
	})
	now := a.o.Now()
	var in model.TimeRange
	if in.Min, err = timeArg(r.Request, "start", minTimeMs, now); err != nil {
		return err
	}
	if in.Max, err = timeArg(r.Request, "end", math.MaxInt64/1_000_000, now); err != nil {
		return err
	}
	if in.Max < in.Min {
		return errkind.New(errkind.BadRequest, "cannot search exemplars: end=%q is before start=%q", r.Form.Get("end"), r.Form.Get("start"))
	}
	return (&Call{Request: r.Request, api: a, request: r, now: now}).WriteExemplars(w, sets, in)
}

// WriteExemplars answers with the exemplars within a range of the series which pass one of the sets of filters, as Prometheus does.
func (c *Call) WriteExemplars(w http.ResponseWriter, sets [][]model.TagFilter, in model.TimeRange) error {
	if len(sets) > maxExemplarSelectors {
		return errkind.New(errkind.BadRequest, "cannot search exemplars of an expression with %d selectors: at most %d are allowed", len(sets), maxExemplarSelectors)
	}
	list, err := c.findExemplars(sets, in)
	if err != nil {
		return err
	}
	if list.Coverage.Partial && c.api.denyPartial(c.request) {
		return partialError(list.Coverage)
	}
	body, err := appendExemplars(nil, list.Items)
	if err != nil {
		return err
	}
	return c.api.writeList(w, c.request, list.Coverage.Partial, body)
}

func (c *Call) findExemplars(sets [][]model.TagFilter, in model.TimeRange) (list storageapi.ExemplarList, err error) {
	o := &c.api.o
	if o.Exemplars == nil || len(sets) == 0 {
		return list, nil
	}
	if !hasFilter(sets) {
		return list, errkind.New(errkind.BadRequest, "cannot search exemplars: a selector has no filters; at least one is needed")
	}
	enforced, err := enforcedFilters(c.Request)
	if err != nil {
		return list, err
	}
	q := &storageapi.ExemplarQuery{Limit: o.Config.MaxExemplars, Search: model.SearchQuery{
		Tenant: c.request.tenant, AllTenants: c.request.all, Range: model.TimeRange{Min: max(in.Min, minTimeMs), Max: in.Max}, Filters: combine(sets, enforced),
	}}
	step := c.request.trace.Begin("search exemplars in %s", q.Search.Range)
	list, err = o.Exemplars.Exemplars(step.Within(c.Context()), q)
	step.End(": found %d%s", len(list.Items), failedText(list.Coverage.Failed))
	return list, err
}

// exemplarSeries is a series with its exemplars.
type exemplarSeries struct {
	labels []model.Label // by name
	items  []model.Exemplar
}

// appendExemplars appends a list of series with their exemplars, ordered as Prometheus orders labels.
func appendExemplars(b []byte, list []model.Exemplar) ([]byte, error) {
	var all []exemplarSeries
	for len(list) > 0 {
		n := 1
		for n < len(list) && bytes.Equal(list[n].Series, list[0].Series) {
			n++
		}
		_, labels, err := model.ParseSeriesKey(nil, list[0].Series)
		if err != nil {
			return b, err
		}
		slices.SortFunc(labels, compareLabels)
		all = append(all, exemplarSeries{labels, list[:n]})
		list = list[n:]
	}
	slices.SortFunc(all, func(a, b exemplarSeries) int { return slices.CompareFunc(a.labels, b.labels, compareLabels) })
	b = append(b, '[')
	var labels []model.Label
	for i := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendMetric(append(b, `{"seriesLabels":`...), all[i].labels)
		b = append(b, `,"exemplars":[`...)
		for j := range all[i].items {
			e := &all[i].items[j]
			var err error
			if labels, err = model.ParseExemplarLabels(labels[:0], e.Labels); err != nil {
				return b, err
			}
			if j > 0 {
				b = append(b, ',')
			}
			b = appendMetric(append(b, `{"labels":`...), labels)
			b = appendPromFloat(append(b, `,"value":"`...), e.Value)
			b = appendSeconds(append(b, `","timestamp":`...), e.Timestamp)
			b = append(b, '}')
		}
		b = append(b, ']', '}')
	}
	return append(b, ']'), nil
}

func compareLabels(a, b model.Label) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
}

// appendPromFloat appends a value as Prometheus writes it: very large and very small ones have exponents.
func appendPromFloat(dst []byte, v float64) []byte {
	if abs := math.Abs(v); !math.IsInf(v, 0) && abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(dst, v, 'e', -1, 64)
	}
	return appendFloat(dst, v)
}
