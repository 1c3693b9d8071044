package insertapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"vmcluster/app/internal/tenantlimits"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/csvimport"
	"vmcluster/lib/protoparser/datadog"
	"vmcluster/lib/protoparser/exposition"
	"vmcluster/lib/protoparser/graphite"
	"vmcluster/lib/protoparser/influx"
	"vmcluster/lib/protoparser/jsonline"
	"vmcluster/lib/protoparser/native"
	"vmcluster/lib/protoparser/newrelic"
	"vmcluster/lib/protoparser/opentsdb"
	"vmcluster/lib/protoparser/opentsdbhttp"
	"vmcluster/lib/protoparser/otlp"
	"vmcluster/lib/protoparser/remotewrite"
	"vmcluster/lib/protoparser/zabbix"
	"vmcluster/lib/relabel"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tenantstat"
)

// Options are the arguments of New.
type Options struct {
	Ingester  storageapi.Ingester
	Metadata  storageapi.MetadataWriter // nil: nobody keeps it
	Exemplars storageapi.ExemplarWriter // nil: nobody keeps them
	Starts    storageapi.StartWriter    // nil: nobody wants to know when counters began
	Logger    *logger.Logger
	Metrics   *metrics.Set
	Config    *Config
	PathStyle PathStyle
	Limits    *tenantlimits.Limiter // nil: none
	Budget    *memory.Budget        // of the process; nil means none
}

// API answers write requests. It is safe for concurrent use, starts no goroutines and needs no Close.
type API struct {
	ingester      storageapi.Ingester
	metadata      storageapi.MetadataWriter // nil: nobody keeps it
	exemplars     storageapi.ExemplarWriter // nil: nobody keeps them
	starts        storageapi.StartWriter    // nil: nobody wants to know
	warn          *logger.Throttle
	style         PathStyle
	tenantHeaders bool
	limits        *tenantlimits.Limiter // nil: none
	budget        *memory.Budget        // nil: none
	limiter       *limiter
	intake        *protoparser.Intake
	routes        [formatCount]route
	helpers       [formatCount]helper
	influxMaxLine int // bytes
	unsupported   *metrics.Counter
	ignored       *metrics.Counter // samples of series beyond the limits of tenants
	bodies        sync.Pool        // *body
	batches       sync.Pool        // *model.Batch, of what limits let through
}

// route is what is particular to a format.
type route struct {
	parse     func(*protoparser.Request) (protoparser.Result, error)
	requests  *metrics.Counter
	errors    *metrics.Counter
	rows      *metrics.Counter
	perInsert *metrics.Histogram
	tenants   *tenantstat.Counters[metrics.Counter] // of rows; nil in the single node
	metadata  *metrics.Counter
	exemplars *metrics.Counter
}

// New returns an API with its metrics registered.
func New(o Options) *API {
	a := &API{
		ingester:      o.Ingester,
		warn:          logger.NewThrottle(o.Logger, 5*time.Second),
		style:         o.PathStyle,
		tenantHeaders: o.Config.TenantHeaders,
		limits:        o.Limits,
		budget:        o.Budget,
		limiter:       newLimiter(o.Config.MaxConcurrentInserts, o.Config.MaxQueueDuration.D(), o.Metrics),
		unsupported:   o.Metrics.Counter(`vm_http_request_errors_total{path="*", reason="unsupported"}`),
	}
	a.batches.New = func() any { return &model.Batch{} }
	if o.Limits != nil {
		a.ignored = o.Metrics.Counter(`vm_rows_ignored_total{reason="tenant_active_series"}`)
	}
	if o.Config.EnableMetadata {
		a.metadata = o.Metadata
	}
	if o.Config.EnableExemplars {
		a.exemplars = o.Exemplars
	}
	if o.Config.Limits.MaxStartAge > 0 {
		a.starts = o.Starts
	}
	in := protoparser.New(protoparser.Options{Config: &o.Config.Limits, Logger: o.Logger, Metrics: o.Metrics, Budget: o.Budget})
	a.intake = in
	a.addRoute(o.Metrics, remoteWrite, remotewrite.Format, remotewrite.New(in).Parse)
	a.addRoute(o.Metrics, textImport, exposition.Format, exposition.New(in).Parse)
	a.addRoute(o.Metrics, jsonImport, jsonline.Format, jsonline.New(in).Parse)
	a.addRoute(o.Metrics, csvImport, csvimport.Format, csvimport.New(in, o.Config.CSVTrimTimestamp.D().Milliseconds()).Parse)
	a.addRoute(o.Metrics, nativeImport, native.Format, native.New(in).Parse)
	a.addRoute(o.Metrics, influxWrite, influx.Format, influx.New(in, o.Config.Influx).Parse)
	a.addRoute(o.Metrics, graphiteLines, graphite.Format, graphite.New(in, o.Config.Graphite).Parse)
	a.addRoute(o.Metrics, openTSDBLines, opentsdb.Format, opentsdb.New(in, o.Config.OpenTSDB).Parse)
	a.addRoute(o.Metrics, openTSDBHTTP, opentsdbhttp.Format, opentsdbhttp.New(in, o.Config.OpenTSDBHTTP).Parse)
	a.addRoute(o.Metrics, otlpMetrics, otlp.Format, otlp.New(in, o.Config.OTLP).Parse)
	a.addRoute(o.Metrics, newRelicEvents, newrelic.Format, newrelic.New(in, o.Config.NewRelic).Parse)
	a.addRoute(o.Metrics, zabbixHistory, zabbix.Format, zabbix.New(in, o.Config.Zabbix).Parse)
	agent := datadog.New(in, o.Config.Datadog)
	a.addRoute(o.Metrics, datadogV1, datadog.V1, agent.ParseV1)
	a.addRoute(o.Metrics, datadogV2, datadog.V2, agent.ParseV2)
	a.addRoute(o.Metrics, datadogSketches, datadog.Sketches, agent.ParseSketches)
	a.influxMaxLine = int(o.Config.Influx.MaxLineSize)
	a.addHelpers(o.Metrics, o.Config.InfluxDatabases)
	return a
}

func (a *API) addRoute(set *metrics.Set, f format, kind string, parse func(*protoparser.Request) (protoparser.Result, error)) {
	requests, errors := requestCounters(a.style, f)
	var tenants *tenantstat.Counters[metrics.Counter]
	if a.style == Cluster {
		tenants = tenantstat.New(set.Counter, "vm_tenant_inserted_rows_total", fmt.Sprintf("type=%q", kind))
	}
	rt := route{
		parse:     parse,
		rows:      set.Counter(fmt.Sprintf("vm_rows_inserted_total{type=%q}", kind)),
		perInsert: set.Histogram(fmt.Sprintf("vm_rows_per_insert{type=%q}", kind)),
		tenants:   tenants,
		metadata:  set.Counter(fmt.Sprintf("vm_metadata_rows_inserted_total{type=%q}", kind)),
		exemplars: set.Counter(fmt.Sprintf("vm_exemplars_inserted_total{type=%q}", kind)),
	}
	if requests != "" {
		rt.requests, rt.errors = set.Counter(requests), set.Counter(errors)
	}
	a.routes[f] = rt
}

// requestCounters returns the names of a format's counters of requests and of those which failed.
func requestCounters(style PathStyle, f format) (requests, errors string) {
	path, protocol := metricLabels(style, f)
	labels := fmt.Sprintf(`{path=%q, protocol=%q}`, path, protocol)
	switch f {
	case graphiteLines, openTSDBLines: // whoever reads the lines counts
		return "", ""
	case openTSDBHTTP:
		labels = `{type="opentsdbhttp", name="write", net="tcp"}`
		return "vm_ingestserver_requests_total" + labels, "vm_ingestserver_request_errors_total" + labels
	}
	return "vm_http_requests_total" + labels, "vm_http_request_errors_total" + labels
}

// metricLabels returns the path and protocol labels of a format's request counters.
func metricLabels(style PathStyle, f format) (path, protocol string) {
	switch f {
	case remoteWrite:
		path, protocol = "/api/v1/write", "promremotewrite"
	case textImport:
		path, protocol = "/api/v1/import/prometheus", "prometheusimport"
	case jsonImport:
		path, protocol = "/api/v1/import", "vmimport"
	case csvImport:
		path, protocol = "/api/v1/import/csv", "csvimport"
	case nativeImport:
		path, protocol = "/api/v1/import/native", "nativeimport"
	case influxWrite:
		path, protocol = "/influx/write", influx.Format
	case influxQuery:
		path, protocol = "/influx/query", influx.Format
	case influxHealth:
		path, protocol = "/influx/health", influx.Format
	case influxPing:
		path, protocol = "/influx/ping", influx.Format
	case otlpMetrics:
		path, protocol = "/opentelemetry/v1/metrics", otlp.Format
	case newRelicEvents:
		path, protocol = "/newrelic/infra/v2/metrics/events/bulk", newrelic.Format
	case newRelicRoot:
		path, protocol = "/newrelic", newrelic.Format
	case newRelicInventory:
		path, protocol = "/newrelic/inventory/deltas", newrelic.Format
	case datadogV1:
		path, protocol = "/datadog/api/v1/series", "datadog"
	case datadogV2:
		path, protocol = "/datadog/api/v2/series", "datadog"
	case datadogSketches:
		path, protocol = "/datadog/api/beta/sketches", "datadog"
	case datadogValidate:
		path, protocol = "/datadog/api/v1/validate", "datadog"
	case datadogCheckRun:
		path, protocol = "/datadog/api/v1/check_run", "datadog"
	case datadogIntake:
		path, protocol = "/datadog/intake", "datadog"
	case datadogMetadata:
		path, protocol = "/datadog/api/v1/metadata", "datadog"
	case zabbixHistory:
		path, protocol = "/zabbixconnector/api/v1/history", zabbix.Format
	}
	if style == SingleNode {
		return path, protocol
	}
	if f > nativeImport {
		return "/insert/{}" + path, protocol
	}
	if f == remoteWrite {
		path = "/"
	}
	return "/insert/{}/prometheus" + path, protocol
}

// Relabel sets the rules for what is written from now on.
func (a *API) Relabel(rules *relabel.Rules) {
	if rules.Len() == 0 {
		a.intake.SetRelabeling(nil)
		return
	}
	a.intake.SetRelabeling(rules.Apply)
}

// Handle answers the request and returns true, or returns false when the path is
// not one of writes.
func (a *API) Handle(w http.ResponseWriter, r *http.Request) bool {
	t, ok, err := parsePath(a.style, r.URL.Path)
	if !ok && err == nil {
		return false
	}
	if err != nil {
		a.unsupported.Inc()
		a.fail(w, r, err)
		return true
	}
	if !a.handleHelper(w, r, &t) {
		a.handleWrite(w, r, &t)
	}
	return true
}

// handleWrite answers a request that writes.
func (a *API) handleWrite(w http.ResponseWriter, r *http.Request, t *target) {
	rt := &a.routes[t.format]
	rt.requests.Inc()
	if err := t.readContentType(r.Header); err != nil {
		rt.errors.Inc()
		a.warn.Warnf("cannot process write request to %q from %s: %s", r.URL.Path, r.RemoteAddr, err)
		http.Error(w, err.Error(), http.StatusUnsupportedMediaType)
		return
	}
	result, err := a.write(r, rt, t)
	rt.rows.Add(result.Rows)
	if result.Rows > 0 {
		rt.perInsert.Update(float64(result.Rows))
	}
	if t.symbolTable {
		noteWritten(w.Header(), &result)
		if err == nil {
			err = partialWrite(&result)
		}
	}
	if err != nil {
		rt.errors.Inc()
		a.fail(w, r, err)
		return
	}
	noteDropped(w.Header(), &result)
	switch {
	case t.format == otlpMetrics:
		acceptOTLP(w, r)
	case t.pushgateway, t.format == zabbixHistory:
		w.WriteHeader(http.StatusOK)
	case t.format == newRelicEvents, t.format == datadogV1, t.format == datadogV2:
		(&helper{http.StatusAccepted, "application/json", statusOK}).write(w)
	case t.format == datadogSketches:
		w.WriteHeader(http.StatusAccepted)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// ImportText stores samples in the text exposition format, which this process has made, with further labels and the given time.
func (a *API) ImportText(ctx context.Context, text io.Reader, at time.Time, labels []model.Label) error {
	rt := &a.routes[textImport]
	result, err := rt.parse(&protoparser.Request{
		Body: text, ExtraLabels: labels, DefaultTimestamp: at.UnixMilli(), Sink: func(b *model.Batch) error { return a.ingester.Ingest(ctx, b) },
	})
	rt.rows.Add(result.Rows)
	return err
}

// metadataTimeout is how long storing what a request says of metrics may hold up its answer.
const metadataTimeout = 3 * time.Second

// exemplarTimeout is how long storing some of the exemplars of a request may hold up its answer.
const exemplarTimeout = 5 * time.Second

// write parses the body and stores its rows.
func (a *API) write(r *http.Request, rt *route, t *target) (protoparser.Result, error) {
	body := a.getBody(r)
	defer a.putBody(body)
	req := protoparser.Request{
		Body:        body.buffered,
		Encoding:    contentEncoding(r.Header),
		SymbolTable: t.symbolTable,
	}
	var excess excess
	req.Sink = func(b *model.Batch) error { return a.store(r.Context(), rt, &req, b, &excess) }
	if a.metadata != nil {
		req.Metadata = func(list []model.Metadata) error {
			ctx, cancel := context.WithTimeout(r.Context(), metadataTimeout)
			defer cancel()
			err := a.metadata.AddMetadata(ctx, list)
			if err == nil {
				rt.metadata.Add(len(list))
			}
			return err
		}
	}
	if a.starts != nil {
		req.Starts = func(list []model.Start) error { return a.starts.AddStarts(r.Context(), list) }
	}
	if a.exemplars != nil {
		req.Exemplars = func(list []model.Exemplar) error { return a.addExemplars(r.Context(), rt, list) }
	}
	if err := a.readArgs(r, t, &req); err != nil {
		return protoparser.Result{}, err
	}
	if !req.TenantFromLabels {
		if err := a.limits.AdmitSamples(req.Tenant); err != nil {
			return protoparser.Result{}, err
		}
	}
	// Wait for the first byte before taking a slot, so that idle senders take none.
	if _, err := body.buffered.Peek(1); err != nil && err != io.EOF {
		kind := errkind.Of(err)
		if kind == errkind.Internal {
			kind = errkind.BadRequest // the body broke off
		}
		return protoparser.Result{}, errkind.New(kind, "cannot read request body: %w", err)
	}
	if err := body.begin(r); err != nil {
		return protoparser.Result{}, err
	}
	result, err := rt.parse(&req)
	return excess.settle(result, err)
}

// addExemplars stores exemplars. Those which cannot be stored in time do not hold up the answer about the samples.
func (a *API) addExemplars(ctx context.Context, rt *route, list []model.Exemplar) error {
	ctx, cancel := context.WithTimeout(ctx, exemplarTimeout)
	defer cancel()
	err := a.exemplars.AddExemplars(ctx, list)
	if err == nil {
		rt.exemplars.Add(len(list))
	}
	return err
}

func contentEncoding(h http.Header) string {
	return strings.ToLower(strings.TrimSpace(h.Get("Content-Encoding")))
}

// store hands a batch on, without what limits of tenants keep out, and counts its rows by tenant.
func (a *API) store(ctx context.Context, rt *route, req *protoparser.Request, b *model.Batch, excess *excess) error {
	if rt.tenants == nil {
		return a.ingester.Ingest(ctx, b)
	}
	of := seriesOfTenants{wanted: a.limits.LimitsSeries()}
	tenants := a.tenantsOf(req, b, of.adder())
	if req.TenantFromLabels {
		for _, x := range tenants {
			if err := a.limits.AdmitSamples(x.tenant); err != nil {
				return err
			}
		}
	}
	admitted := a.limitSeries(b, tenants, &of, excess)
	err := a.ingester.Ingest(ctx, admitted)
	if admitted != b {
		admitted.Reset()
		a.batches.Put(admitted)
	}
	if err != nil {
		return err
	}
	for _, x := range tenants {
		rt.tenants.Of(x.tenant).Add(x.rows)
		a.limits.CountSamples(x.tenant, x.rows)
	}
	return nil
}

// readArgs takes tenant, extra labels and the default timestamp from the request.
func (a *API) readArgs(r *http.Request, t *target, req *protoparser.Request) (err error) {
	if req.Tenant, req.TenantFromLabels, err = a.tenantOf(t, r.Header); err != nil {
		return err
	}
	args := r.URL.Query()
	if req.ExtraLabels, err = extraLabels(t.labels, args); err != nil {
		return err
	}
	req.DefaultTimestamp = time.Now().UnixMilli()
	req.Format = args.Get("format")
	switch t.format {
	case influxWrite:
		readInfluxArgs(r, args, req)
	case otlpMetrics:
		req.Format = otlpFormat(r.Header)
	case datadogV2:
		if mediaType(r.Header) == "application/x-protobuf" {
			req.Format = datadog.Protobuf
		}
	}
	if req.ValueBits, err = valueBits(args.Get("values")); err != nil {
		return err
	}
	if text := args.Get("timestamp"); text != "" && t.format == textImport {
		if req.DefaultTimestamp, err = strconv.ParseInt(text, 10, 64); err != nil {
			return errkind.New(errkind.BadRequest, "cannot parse query arg timestamp=%q: want Unix milliseconds: %w", text, err)
		}
	}
	return nil
}

// valueBits reads the values argument, which imports of JSON lines share with exports.
func valueBits(values string) (bool, error) {
	switch values {
	case "":
		return false, nil
	case "bits":
		return true, nil
	}
	return false, errkind.New(errkind.BadRequest, "cannot parse query arg values=%q: want bits, for values as the 16 hex digits of their float64, or nothing", values)
}

// noteDropped tells the sender what was left out of a request which succeeded otherwise.
func noteDropped(h http.Header, r *protoparser.Result) {
	if r.Dropped > 0 {
		h.Set("X-Rows-Dropped", strconv.Itoa(r.Dropped))
	}
	if r.Invalid > 0 {
		h.Set("X-Rows-Invalid", strconv.Itoa(r.Invalid))
	}
	if r.Reason != "" {
		h.Set("X-Drop-Reason", headerText(r.Reason))
	}
}

// headerText makes any text fit for a header.
func headerText(s string) string {
	const most = 400
	var b strings.Builder
	for _, c := range s[:min(len(s), most)] {
		if c < ' ' || c > '~' {
			c = '?'
		}
		b.WriteRune(c)
	}
	return b.String()
}

// fail answers with the status of the error's kind and its text.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	kind := errkind.Of(err)
	status := kind.HTTPStatus()
	if kind == errkind.Overloaded && !tenantlimits.IsLimit(err) {
		status = http.StatusServiceUnavailable // writers expect it; 429 stands for limits of their own
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", strconv.Itoa(retrySeconds(err)))
	}
	if r.Context().Err() == nil {
		a.warn.Warnf("cannot process write request to %q from %s: %s", r.URL.Path, r.RemoteAddr, err)
	}
	http.Error(w, err.Error(), status)
}

// retrySeconds returns the hint of the error in whole seconds, at least one.
func retrySeconds(err error) int {
	const usual = 5
	hint := errkind.RetryAfterOf(err)
	if hint <= 0 {
		return usual
	}
	return max(1, int((hint+time.Second-1)/time.Second))
}
