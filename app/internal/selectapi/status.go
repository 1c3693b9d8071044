package selectapi

import (
	"net/http"
	"strconv"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

// statusRoutes are the routes which tell about series and queries.
func (a *API) statusRoutes() map[string]route {
	timeout := a.o.Config.MaxStatusRequestDuration.D()
	return map[string]route{
		"/api/v1/status/tsdb":               {serve: a.tsdbStatus, timeout: timeout},
		"/api/v1/series/count":              {serve: a.seriesCount, timeout: timeout},
		"/api/v1/status/metric_names_stats": {serve: a.nameStats, timeout: timeout, plainText: true},
		"/api/v1/status/active_queries":     {serve: a.activeQueries, unlimited: true},
		"/api/v1/status/top_queries":        {serve: a.topQueries, unlimited: true},
	}
}

// tsdbStatus serves /api/v1/status/tsdb.
func (a *API) tsdbStatus(w http.ResponseWriter, r *request) error {
	q, err := a.statusQuery(r)
	if err != nil {
		return err
	}
	step := r.trace.Begin("count series")
	s, err := a.o.Catalog.Status(step.Within(r.Context()), q)
	step.End(": found %d", s.TotalSeries)
	if err != nil {
		return limitError(err, "search.maxTSDBStatusSeries", q.Search.MaxSeries)
	}
	if s.Coverage.Partial && a.denyPartial(r) {
		return partialError(s.Coverage)
	}
	b := append([]byte(`{"status":"success",`), a.partialField(s.Coverage.Partial)...)
	b = append(b, `"data":{"totalSeries":`...)
	b = strconv.AppendUint(b, s.TotalSeries, 10)
	b = append(b, `,"totalLabelValuePairs":`...)
	b = strconv.AppendUint(b, s.TotalLabelPairs, 10)
	b = appendStatusList(b, "seriesCountByMetricName", s.SeriesByMetricName, true)
	b = appendStatusList(b, "seriesCountByLabelName", s.SeriesByLabelName, false)
	b = appendStatusList(b, "seriesCountByFocusLabelValue", s.SeriesByFocusLabelValue, false)
	b = appendStatusList(b, "seriesCountByLabelValuePair", s.SeriesByLabelPair, false)
	b = appendStatusList(b, "labelValueCountByLabelName", s.ValuesByLabelName, false)
	return writeJSON(w, append(r.appendTrace(append(b, '}')), '}'))
}

func appendStatusList(b []byte, name string, list []storageapi.StatusEntry, usage bool) []byte {
	b = append(append(append(b, ',', '"'), name...), `":[`...)
	for i, e := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"name":`...)
		b = appendJSONString(b, e.Name)
		b = append(b, `,"value":`...)
		b = strconv.AppendUint(b, e.Count, 10)
		if usage {
			b = append(b, `,"requestsCount":`...)
			b = strconv.AppendUint(b, e.Usage.Requests, 10)
			b = append(b, `,"lastRequestTimestamp":`...)
			b = strconv.AppendInt(b, e.Usage.LastRequestSecs, 10)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

const defaultTopN = 10

func (a *API) statusQuery(r *request) (*storageapi.StatusQuery, error) {
	day := a.o.Now().UTC()
	if s := r.Form.Get("date"); s != "" {
		var err error
		if day, err = time.ParseInLocation(time.DateOnly, s, time.UTC); err != nil {
			return nil, errkind.New(errkind.BadRequest, "cannot parse `date` arg %q: %w", s, err)
		}
	}
	topN, err := a.topNArg(r)
	if err != nil {
		return nil, err
	}
	filters, err := searchFilters(r.Request)
	if err != nil {
		return nil, err
	}
	start := day.UnixMilli() - day.UnixMilli()%dayMs
	return &storageapi.StatusQuery{
		Search: model.SearchQuery{
			Tenant: r.tenant, AllTenants: r.all, Range: model.TimeRange{Min: start, Max: start + dayMs - 1}, Filters: filters,
			MaxSeries: a.o.Config.MaxTSDBStatusSeries, KeysOnly: true,
		},
		FocusLabel: r.Form.Get("focusLabel"), TopN: topN,
	}, nil
}

// topNArg returns the length of the lists, within reason.
func (a *API) topNArg(r *request) (int, error) {
	s := r.Form.Get("topN")
	if s == "" {
		return defaultTopN, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errkind.New(errkind.BadRequest, "cannot parse `topN` arg %q: %w", s, err)
	}
	return max(1, min(n, a.o.Config.MaxTSDBStatusTopN)), nil
}

// seriesCount serves /api/v1/series/count.
func (a *API) seriesCount(w http.ResponseWriter, r *request) error {
	if r.all {
		return errkind.New(errkind.Unprocessable, "multi-tenant request to /api/v1/series/count is not supported; ask for one tenant, or /api/v1/status/tsdb for the series of a day")
	}
	step := r.trace.Begin("count all series of the tenant")
	n, err := a.o.Catalog.SeriesCount(step.Within(r.Context()), r.tenant)
	step.End(": found %d", n.Value)
	if err != nil {
		return err
	}
	if n.Coverage.Partial && a.denyPartial(r) {
		return partialError(n.Coverage)
	}
	return a.writeList(w, r, n.Coverage.Partial, append(strconv.AppendUint([]byte{'['}, n.Value, 10), ']'))
}

// nameStats serves /api/v1/status/metric_names_stats.
func (a *API) nameStats(w http.ResponseWriter, r *request) error {
	q := &storageapi.NameStatsQuery{Tenant: r.tenant, AllTenants: r.all, Pattern: r.Form.Get("match_pattern")}
	for _, x := range []struct {
		name string
		to   *int
		def  int
	}{{"limit", &q.Limit, 1000}, {"le", &q.MaxRequests, -1}} {
		*x.to = x.def
		if s := r.Form.Get(x.name); s != "" {
			var err error
			if *x.to, err = strconv.Atoi(s); err != nil {
				return errkind.New(errkind.BadRequest, "cannot parse `%s` arg %q: %w", x.name, s, err)
			}
		}
	}
	s, err := a.o.Catalog.NameStats(r.Context(), q)
	if err != nil {
		return err
	}
	b := append([]byte(`{"status":"success","statsCollectedSince":`), strconv.FormatInt(s.SinceSecs, 10)...)
	for _, x := range []struct {
		name  string
		value uint64
	}{{"statsCollectedRecordsTotal", s.Tracked}, {"trackerMemoryMaxSizeBytes", s.MaxBytes}, {"trackerCurrentMemoryUsageBytes", s.CurrentBytes}} {
		b = append(append(append(b, ',', '"'), x.name...), '"', ':')
		b = strconv.AppendUint(b, x.value, 10)
	}
	b = append(b, `,"records":[`...)
	for i, rec := range s.Records {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"metricName":`...)
		b = appendJSONString(b, rec.Name)
		b = append(b, `,"queryRequestsCount":`...)
		b = strconv.AppendUint(b, rec.Usage.Requests, 10)
		b = append(b, `,"lastQueryRequestTimestamp":`...)
		b = strconv.AppendInt(b, rec.Usage.LastRequestSecs, 10)
		b = append(b, '}')
	}
	return writeJSON(w, append(b, ']', '}'))
}
