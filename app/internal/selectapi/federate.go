package selectapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/query/rollup"
)

// federate serves /federate: the newest sample of each series that has not gone stale, as text exposition.
func (a *API) federate(w http.ResponseWriter, r *request) error {
	q, err := a.federateQuery(r)
	if err != nil {
		return err
	}
	it, err := a.o.Parts.Search(r.Context(), q)
	if err != nil {
		return limitError(err, "search.maxFederateSeries", q.MaxSeries)
	}
	defer closeIterator(a.o.Logger, it)
	quoted := strings.Contains(r.Header.Get("Accept"), "allow-utf-8")
	out := &exportWriter{w: w, format: &exportFormat{contentType: "text/plain; charset=utf-8", appendSeries: func(dst []byte, s *query.RawSeries) []byte {
		return appendNewest(dst, s, quoted)
	}}, logger: a.o.Logger}
	d := query.Decoder{Range: q.Range, Reading: query.Reading{DedupIntervalMs: a.o.DedupIntervalMs}}
	for err == nil && it.Next() {
		s := it.At()
		var series *query.RawSeries
		if series, err = d.Decode(s.Key, s.Blocks); series == nil || err != nil {
			continue
		}
		if err := out.add(series); err != nil {
			return err
		}
	}
	if err == nil {
		err = it.Err()
	}
	return out.finish(limitError(searchEnd(err, it), "search.maxFederateSeries", q.MaxSeries))
}

func (a *API) federateQuery(r *request) (*model.SearchQuery, error) {
	now := a.o.Now()
	filters, err := selected(r.Request)
	if err != nil {
		return nil, err
	}
	lookback := int64(defaultStepMs)
	asked, err := durationArg(r.Request, "max_lookback")
	if err != nil {
		return nil, err
	}
	if asked != nil && *asked > 0 {
		lookback = *asked
	}
	end, err := timeArg(r.Request, "end", now.UnixMilli(), now)
	if err != nil {
		return nil, err
	}
	start, err := timeArg(r.Request, "start", end-lookback, now)
	if err != nil {
		return nil, err
	}
	return &model.SearchQuery{
		Tenant: r.tenant, AllTenants: r.all, Range: model.TimeRange{Min: min(start, end), Max: end}, Filters: filters,
		MaxSeries: a.o.Config.MaxFederateSeries, Detail: model.NewestSample,
	}, nil
}

// appendNewest appends the newest sample, or nothing if the series has ended.
func appendNewest(dst []byte, s *query.RawSeries, quoted bool) []byte {
	last := len(s.Values) - 1
	if rollup.IsStale(s.Values[last]) {
		return dst
	}
	dst = appendSeriesName(dst, s.Labels, quoted)
	dst = append(dst, ' ')
	dst = appendFloat(dst, s.Values[last])
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, s.Timestamps[last], 10)
	return append(dst, '\n')
}

// appendSeriesName appends the labels as text exposition has them. In the quoted form, for scrapers which take any names, a series
// with a name that could not stand there else has all names in quotes, that of the metric as the first thing in the braces.
func appendSeriesName(dst []byte, labels []model.Label, quoted bool) []byte {
	name := labelValue(labels, model.MetricNameLabel)
	quoted = quoted && slices.ContainsFunc(labels, func(l model.Label) bool {
		return l.Name == model.MetricNameLabel && !isPlainName(l.Value, true) || !isPlainName(l.Name, false)
	})
	if !quoted {
		dst = append(dst, name...)
	}
	if name != "" && !quoted && len(labels) == 1 {
		return dst
	}
	dst = append(dst, '{')
	if quoted {
		dst = appendLabelText(dst, name)
	}
	for _, l := range labels {
		if l.Name == model.MetricNameLabel {
			continue
		}
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		if quoted {
			dst = appendLabelText(dst, l.Name)
		} else {
			dst = append(dst, l.Name...)
		}
		dst = append(dst, '=')
		dst = appendLabelText(dst, l.Value)
	}
	return append(dst, '}')
}

// appendLabelText appends a text in quotes with the escapes of the exposition format.
func appendLabelText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// isPlainName reports whether a name of a metric or label can stand without quotes.
func isPlainName(s string, metric bool) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || metric && c == ':'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
