package selectapi

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/httpserver"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/querysource"
)

const dayMs = 24 * 3600 * 1000

// query serves /api/v1/query.
func (a *API) query(w http.ResponseWriter, r *request) error {
	if done, err := a.otherDialect(w, r, "/api/v1/query"); done {
		return err
	}
	now := a.o.Now()
	req, err := a.queryRequest(r)
	if err != nil {
		return err
	}
	if r.Form.Get("step") == "" {
		req.Step = a.o.Engine.InstantStep(req)
	}
	// Whole seconds, so that answers to the same dashboard line up.
	at, err := timeArg(r.Request, "time", now.Unix()*1000, now)
	if err != nil {
		return err
	}
	req.Start, req.End = at, at
	return a.evaluate(w, r, req, a.o.Engine.Query)
}

// evaluateFunc is one of the two ways to evaluate a query.
type evaluateFunc func(ctx context.Context, req *query.Request) (*query.Result, error)

// queryRange serves /api/v1/query_range.
func (a *API) queryRange(w http.ResponseWriter, r *request) error {
	if done, err := a.otherDialect(w, r, "/api/v1/query_range"); done {
		return err
	}
	now := a.o.Now()
	req, err := a.queryRequest(r)
	if err != nil {
		return err
	}
	nowMs := now.UnixMilli()
	if req.Start, err = timeArg(r.Request, "start", nowMs-defaultStepMs, now); err != nil {
		return err
	}
	if req.End, err = timeArg(r.Request, "end", nowMs, now); err != nil {
		return err
	}
	if req.Start > req.End {
		req.End = req.Start + defaultStepMs
	}
	return a.evaluate(w, r, req, a.o.Engine.QueryRange)
}

func (a *API) queryRequest(r *request) (*query.Request, error) {
	text := r.Form.Get("query")
	if text == "" {
		return nil, errkind.New(errkind.BadRequest, "missing `query` arg")
	}
	req := &query.Request{Tenant: r.tenant, AllTenants: r.all, Query: text, NoCache: boolArg(r.Request, "nocache"), NoPushDown: r.FormValue("pushdown") == "0"}
	var err error
	if req.Step, err = stepArg(r.Request); err != nil {
		return nil, err
	}
	if req.LatencyOffset, err = durationArg(r.Request, "latency_offset"); err != nil {
		return nil, err
	}
	if req.MaxLookback, err = durationArg(r.Request, "max_lookback"); err != nil {
		return nil, err
	}
	if r.Form.Get("round_digits") != "" {
		digits, err := intArg(r.Request, "round_digits", 0)
		if err != nil {
			return nil, err
		}
		req.RoundDigits = &digits
	}
	if req.EnforcedFilters, err = enforcedFilters(r.Request); err != nil {
		return nil, err
	}
	return req, nil
}

// evaluate runs a query and writes its result.
func (a *API) evaluate(w http.ResponseWriter, r *request, req *query.Request, run evaluateFunc) error {
	limit, err := intArg(r.Request, "limit", 0)
	if err != nil {
		return err
	}
	memory := int64(0)
	req.HoldMemory = true
	ended := a.queries.begin(r, req)
	defer func() { ended(memory) }()
	failures := &querysource.Failures{}
	step := r.trace.Begin("evaluate")
	result, err := run(querysource.WithFailures(step.Within(r.Context()), failures), req)
	defer result.Release() // when it has been written
	step.End("%s", failedText(failures.Coverage().Failed))
	elapsed := a.o.Now().Sub(r.started)
	a.logSlow(r, req, elapsed)
	a.logStats(r, req, &queryStats{elapsed, result, err})
	if err != nil {
		return err
	}
	memory = result.MemoryBytes
	a.logHeavy(r, req, result)
	if result.Partial && (result.Raw || a.denyPartial(r)) {
		return partialError(failures.Coverage())
	}
	if limit > 0 && len(result.Series) > limit {
		result.Series = result.Series[:limit]
	}
	if result.Raw {
		return writeRaw(w, result)
	}
	return a.writeResult(w, r, result, elapsed)
}

func (a *API) logSlow(r *request, req *query.Request, elapsed time.Duration) {
	limit := a.o.Config.LogSlowQueryDuration.D()
	if limit <= 0 || elapsed < limit {
		return
	}
	a.slowQueries.Inc()
	a.o.Logger.Warnf("slow query according to -search.logSlowQueryDuration=%s: remoteAddr=%s, duration=%.3f seconds; requestURI: %q; start: %d; end: %d; step: %d; query: %q",
		limit, r.RemoteAddr, elapsed.Seconds(), httpserver.LoggedURI(r.Request), req.Start, req.End, req.Step, req.Query)
}

// logHeavy logs queries which took much memory.
func (a *API) logHeavy(r *request, req *query.Request, result *query.Result) {
	limit := int64(a.o.Config.LogQueryMemoryUsage)
	if limit <= 0 || result.MemoryBytes <= limit {
		return
	}
	a.heavyQueries.Inc()
	a.o.Logger.Warnf("memory-intensive query according to -search.logQueryMemoryUsage=%d: remoteAddr=%s, memory=%d bytes, series=%d, samples=%d; requestURI: %q; start: %d; end: %d; step: %d; query: %q",
		limit, r.RemoteAddr, result.MemoryBytes, result.SeriesFetched, result.SamplesRead, httpserver.LoggedURI(r.Request), req.Start, req.End, req.Step, req.Query)
}

func (a *API) denyPartial(r *request) bool {
	return a.o.Config.DenyPartialResponse || boolArg(r.Request, "deny_partial_response")
}

// partialField returns the member of answers which says whether they are partial. A single node's answers, which never
// are, have none.
func (a *API) partialField(partial bool) string {
	if a.o.SingleNode {
		return ""
	}
	return `"isPartial":` + strconv.FormatBool(partial) + `,`
}

// flushBytes is how much of an answer is collected before it is sent.
const flushBytes = 64 << 10

// writeResult writes the result in the form of the Prometheus API.
func (a *API) writeResult(w http.ResponseWriter, r *request, result *query.Result, elapsed time.Duration) error {
	w.Header().Set("Content-Type", "application/json")
	buf := a.buffers.Get()
	defer a.buffers.Put(buf)
	b := append(buf.B, `{"status":"success",`...)
	b, err := writeData(w, append(b, a.partialField(result.Partial)...), result)
	if err != nil {
		return err
	}
	b = append(b, `},"stats":{"seriesFetched": "`...)
	b = strconv.AppendInt(b, int64(result.SeriesFetched), 10)
	b = append(b, `","executionTimeMsec":`...)
	b = strconv.AppendInt(b, elapsed.Milliseconds(), 10)
	buf.B = append(r.appendTrace(append(b, '}')), '}')
	_, err = w.Write(buf.B)
	return clientGone(err)
}

// writeRaw writes stored samples, which are always whole and cost no evaluation.
func writeRaw(w http.ResponseWriter, result *query.Result) error {
	w.Header().Set("Content-Type", "application/stream+json; charset=utf-8")
	b, err := writeData(w, []byte(`{"status":"success",`), result)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '}', '}'))
	return clientGone(err)
}

// writeData appends the data object without its closing brace to b, sends what
// has become large, and returns the rest.
func writeData(w http.ResponseWriter, b []byte, result *query.Result) ([]byte, error) {
	b = append(b, `"data":{"resultType":"`...)
	b = append(b, result.Type.String()...)
	b = append(b, `","result":[`...)
	for i := range result.Series {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendSeriesJSON(b, &result.Series[i], result.Type)
		if len(b) < flushBytes {
			continue
		}
		if _, err := w.Write(b); err != nil {
			return nil, clientGone(err)
		}
		b = b[:0]
	}
	return append(b, ']'), nil
}

// series serves /api/v1/series.
func (a *API) series(w http.ResponseWriter, r *request) error {
	q, limit, err := a.metadataQuery(r)
	if err != nil {
		return err
	}
	if len(r.Form["match[]"])+len(r.Form["match"]) == 0 {
		return errkind.New(errkind.BadRequest, "missing `match[]` arg")
	}
	q.MaxSeries = a.o.Config.MaxSeries
	search := traceSearch(r.trace, q)
	it, err := a.o.Searcher.Search(search.within(r.Context()), q)
	if err != nil {
		return limitError(err, "search.maxSeries", q.MaxSeries)
	}
	defer closeIterator(a.o.Logger, it)
	buf := a.buffers.Get()
	defer a.buffers.Put(buf)
	list := append(buf.B, '[')
	var labels []model.Label
	n := 0
	for (limit <= 0 || n < limit) && it.Next() {
		if _, labels, err = model.ParseSeriesKey(labels[:0], it.At().Key); err != nil {
			return err
		}
		if n > 0 {
			list = append(list, ',')
		}
		n++
		list = appendMetric(list, labels)
	}
	if err := it.Err(); err != nil {
		return limitError(err, "search.maxSeries", q.MaxSeries)
	}
	coverage := it.Coverage()
	if coverage.Partial && a.denyPartial(r) {
		return partialError(coverage)
	}
	if search != nil {
		search.series = n
	}
	search.end(failedText(coverage.Failed))
	buf.B = append(list, ']')
	return a.writeList(w, r, coverage.Partial, buf.B)
}

// metadataQuery parses the arguments shared by series and labels.
func (a *API) metadataQuery(r *request) (*model.SearchQuery, int, error) {
	limit, err := intArg(r.Request, "limit", 0)
	if err != nil {
		return nil, 0, err
	}
	q, err := parseMetadataQuery(r.Request, r.scope, a.o.Now())
	return q, limit, err
}

// labelsQuery is metadataQuery of the labels API.
func (a *API) labelsQuery(r *request) (*model.SearchQuery, int, error) {
	if a.o.Config.IgnoreExtraFilters {
		for _, name := range []string{"extra_label", "extra_filters", "extra_filters[]"} {
			r.Form.Del(name)
		}
	}
	return a.metadataQuery(r)
}

func (a *API) writeList(w http.ResponseWriter, r *request, partial bool, list []byte) error {
	b := append([]byte(`{"status":"success",`), a.partialField(partial)...)
	if err := writeJSON(w, append(b, `"data":`...)); err != nil {
		return err
	}
	_, err := w.Write(append(r.appendTrace(list), '}')) // not copied: it may be long
	return clientGone(err)
}

// labels serves /api/v1/labels.
func (a *API) labels(w http.ResponseWriter, r *request) error {
	q, limit, err := a.labelsQuery(r)
	if err != nil {
		return err
	}
	step := r.trace.Begin("search label names in %s", q.Range)
	names, err := a.o.Searcher.LabelNames(step.Within(r.Context()), q, a.labelsLimit(limit))
	step.End(": found %d%s", len(names.Values), failedText(names.Coverage.Failed))
	if err != nil {
		return err
	}
	if names.Coverage.Partial && a.denyPartial(r) {
		return partialError(names.Coverage)
	}
	return a.writeList(w, r, names.Coverage.Partial, appendStringsJSON(nil, names.Values))
}

// labelsLimit returns how many names or values to answer. More are left out without an error, since that is what users
// of completion want, and what the flag has always meant.
func (a *API) labelsLimit(asked int) int {
	limit := a.o.Config.MaxLabelsAPISeries
	if limit <= 0 || asked > 0 && asked < limit {
		return asked
	}
	return limit
}

// labelValues serves /api/v1/label/<name>/values.
func (a *API) labelValues(w http.ResponseWriter, r *request, name string) error {
	q, limit, err := a.labelsQuery(r)
	if err != nil {
		return err
	}
	step := r.trace.Begin("search values of label %q in %s", name, q.Range)
	values, err := a.o.Searcher.LabelValues(step.Within(r.Context()), q, name, a.labelsLimit(limit))
	step.End(": found %d%s", len(values.Values), failedText(values.Coverage.Failed))
	if err != nil {
		return err
	}
	if values.Coverage.Partial && a.denyPartial(r) {
		return partialError(values.Coverage)
	}
	return a.writeList(w, r, values.Coverage.Partial, appendStringsJSON(nil, values.Values))
}

// tenants serves /admin/tenants.
func (a *API) tenants(w http.ResponseWriter, r *request) error {
	now := a.o.Now()
	start, err := timeArg(r.Request, "start", minTimeMs, now)
	if err != nil {
		return err
	}
	end, err := timeArg(r.Request, "end", now.UnixMilli()+2*dayMs, now)
	if err != nil {
		return err
	}
	tenants, err := a.o.Searcher.Tenants(r.Context(), model.TimeRange{Min: start, Max: max(start, end)})
	if err != nil {
		return err
	}
	if tenants.Coverage.Partial { // the answer has no place to say so
		return partialError(tenants.Coverage)
	}
	names := make([]string, len(tenants.Values))
	for i, t := range tenants.Values {
		names[i] = t.String()
	}
	slices.Sort(names) // as texts, which is what scripts have seen so far
	b := append([]byte(`{"status":"success","data":`), appendStringsJSON(nil, names)...)
	return writeJSON(w, append(b, '}'))
}
