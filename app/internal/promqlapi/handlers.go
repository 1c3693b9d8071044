package promqlapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"vmcluster/app/internal/held"
	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/query"
)

// Options are what the dialect needs.
type Options struct {
	Config *Config
	// Limits are those of queries in general; what they say about the meaning of MetricsQL is not looked at.
	Limits *query.Config
	// Reading says which samples count; NaN always do here.
	Reading query.Reading
	Budget  *memory.Budget
	Logger  *logger.Logger
	// MaxDuration is the longest run of a query.
	MaxDuration time.Duration
}

// Handlers answer queries in PromQL. They are safe for concurrent use.
type Handlers struct {
	o      Options
	engine *promql.Engine
	parser parser.Parser
}

// New starts an engine.
func New(o Options) *Handlers {
	o.Reading.KeepNaN = true
	c := o.Config
	h := &Handlers{o: o}
	h.parser = parser.NewParser(parser.Options{
		EnableExperimentalFunctions: c.Experimental, ExperimentalDurationExpr: c.Experimental,
		EnableExtendedRangeSelectors: c.Experimental, EnableBinopFillModifiers: c.Experimental,
	})
	interval := c.EvaluationInterval.D().Milliseconds()
	h.engine = promql.NewEngine(promql.EngineOpts{
		Logger:                   slog.New(forwarder{o.Logger}),
		MaxSamples:               memoryFor(o.Budget.Limit(), o.Limits),
		Timeout:                  o.MaxDuration,
		LookbackDelta:            c.LookbackDelta.D(),
		NoStepSubqueryIntervalFn: func(int64) int64 { return interval },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnableDelayedNameRemoval: c.DelayedNameRemoval,
		EnableTypeAndUnitLabels:  c.TypeAndUnitLabels,
		Parser:                   h.parser,
	})
	return h
}

// Close stops the engine.
func (h *Handlers) Close() error { return h.engine.Close() }

// Routes returns the handlers by path.
func (h *Handlers) Routes() map[string]selectapi.Handler {
	return map[string]selectapi.Handler{
		"/api/v1/query":           h.query,
		"/api/v1/query_range":     h.queryRange,
		"/api/v1/query_exemplars": h.exemplars,
		"/api/v1/format_query":    h.formatQuery,
	}
}

// evalArgs are the arguments of both kinds of queries.
type evalArgs struct {
	text             string
	start, end, step int64 // step is 0 for an instant query
	lookback         time.Duration
	limit            int
	stats            bool
}

// query serves /api/v1/query.
func (h *Handlers) query(w http.ResponseWriter, c *selectapi.Call) error {
	a, err := h.commonArgs(c)
	if err != nil {
		return err
	}
	if a.start, err = timeArg(c, "time", c.Now().UnixMilli(), true); err != nil {
		return err
	}
	a.end = a.start
	return h.serve(w, c, a)
}

// queryRange serves /api/v1/query_range.
func (h *Handlers) queryRange(w http.ResponseWriter, c *selectapi.Call) error {
	a, err := h.commonArgs(c)
	if err != nil {
		return err
	}
	if a.start, err = timeArg(c, "start", 0, false); err != nil {
		return err
	}
	if a.end, err = timeArg(c, "end", 0, false); err != nil {
		return err
	}
	if a.end < a.start {
		return badArg("end", errors.New("end timestamp must not be before start time"))
	}
	if a.step, err = stepArg(c); err != nil {
		return err
	}
	if points := (a.end-a.start)/a.step + 1; points > int64(h.o.Limits.MaxPointsPerSeries) {
		return errkind.New(errkind.BadRequest, "exceeded maximum resolution of %d points per timeseries. Try decreasing the query resolution (?step=XX), or raise -search.maxPointsPerTimeseries", h.o.Limits.MaxPointsPerSeries)
	}
	return h.serve(w, c, a)
}

// formatQuery serves /api/v1/format_query.
func (h *Handlers) formatQuery(w http.ResponseWriter, c *selectapi.Call) error {
	expr, err := h.parser.ParseExpr(c.Form.Get("query"))
	if err != nil {
		return badArg("query", err)
	}
	b := selectapi.AppendJSONString([]byte(`{"status":"success","data":`), expr.Pretty(0))
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(b, '}'))
	return selectapi.Sent(err)
}

// badArg is an error about an argument, in the words of Prometheus.
func badArg(name string, err error) error {
	return errkind.New(errkind.BadRequest, "invalid parameter %q: %w", name, err)
}

func (h *Handlers) commonArgs(c *selectapi.Call) (*evalArgs, error) {
	a := &evalArgs{text: c.Form.Get("query"), lookback: h.o.Config.LookbackDelta.D(), stats: c.Form.Get("stats") != ""}
	if limit := int(h.o.Limits.MaxQueryLen); limit > 0 && len(a.text) > limit {
		return nil, errkind.New(errkind.BadRequest, "cannot take a query of %d bytes: at most %d are allowed; shorten it or raise -search.maxQueryLen", len(a.text), limit)
	}
	lookback, err := c.Duration("lookback_delta")
	if err != nil {
		return nil, badArg("lookback_delta", err)
	}
	if lookback != nil && *lookback > 0 {
		a.lookback = time.Duration(*lookback) * time.Millisecond
	}
	if a.limit, err = c.Int("limit", 0); err == nil && a.limit < 0 {
		err = errors.New("limit must be non-negative")
	}
	if err != nil {
		return nil, badArg("limit", err)
	}
	return a, nil
}

// timeArg returns a time in milliseconds. Numbers are seconds, whatever their size; the rest is shared with the other dialect.
func timeArg(c *selectapi.Call, name string, def int64, optional bool) (int64, error) {
	s := c.Form.Get(name)
	if s == "" && optional {
		return def, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > -maxSeconds && f < maxSeconds {
		return millis(f), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UnixMilli(), nil
	}
	if s == "" || strings.EqualFold(s, "nan") || strings.Contains(strings.ToLower(s), "inf") {
		return 0, badArg(name, errors.New("cannot parse "+strconv.Quote(s)+" to a valid timestamp"))
	}
	ms, err := c.Time(name, def)
	if err != nil {
		return 0, badArg(name, err)
	}
	return ms, nil
}

// maxSeconds bounds times, such that ranges of them in milliseconds do not overflow: more than 100 000 years.
const maxSeconds = 1 << 42

func millis(seconds float64) int64 {
	whole := int64(seconds)
	rest := (seconds - float64(whole)) * 1000
	if rest < 0 {
		return whole*1000 + int64(rest-0.5)
	}
	return whole*1000 + int64(rest+0.5)
}

// stepArg returns the step in milliseconds. Numbers are seconds, rounded; the rest is shared with the other dialect.
func stepArg(c *selectapi.Call) (int64, error) {
	s := c.Form.Get("step")
	if s == "" {
		return 0, badArg("step", errors.New(`cannot parse "" to a valid duration`))
	}
	step := int64(0)
	if f, err := strconv.ParseFloat(s, 64); err == nil && f < maxSeconds {
		step = millis(max(f, 0))
	} else if d, err := c.Duration("step"); err == nil {
		step = *d
	} else {
		return 0, badArg("step", err)
	}
	if step <= 0 {
		return 0, badArg("step", errors.New("zero or negative query resolution step widths are not accepted. Try a positive integer"))
	}
	return step, nil
}

// serve evaluates a query and writes its result.
func (h *Handlers) serve(w http.ResponseWriter, c *selectapi.Call, a *evalArgs) error {
	r := &run{h: h, call: c, lookback: a.lookback.Milliseconds(), sets: map[string]*held.Set{}}
	defer r.release()
	q, err := h.newQuery(c.Context(), r, a)
	if err != nil {
		return badArg("query", err)
	}
	defer q.Close()
	if err := h.checkSubqueries(q); err != nil {
		return err
	}
	done := c.Running(a.text, a.start, a.end, a.step)
	step := c.Trace().Begin("evaluate in the engine of Prometheus")
	res := q.Exec(step.Within(c.Context()))
	step.End(": %d samples decoded, %d searches with %d bytes held", r.samples, len(r.sets), r.inSets)
	done(r.figures(), res.Err)
	if res.Err != nil {
		return h.evalError(res.Err)
	}
	if err := c.RefusePartial(isRaw(q)); err != nil {
		return err
	}
	if n, limit := seriesOf(res.Value), h.o.Limits.MaxResponseSeries; limit > 0 && n > limit {
		return errkind.New(errkind.Unprocessable, "cannot answer %d series: at most %d are allowed; aggregate or filter them, or raise -search.maxResponseSeries", n, limit)
	}
	if n, limit := seriesOf(res.Value), h.o.Limits.MaxSeriesPerAggrFunc; limit > 0 && n > limit && isAggregate(q) {
		return errkind.New(errkind.Unprocessable, "cannot aggregate into %d series: at most %d are allowed; group by fewer labels, or raise -search.maxSeriesPerAggrFunc", n, limit)
	}
	return writeResult(w, c, &answer{args: a, query: q, result: res})
}

func (h *Handlers) newQuery(ctx context.Context, r *run, a *evalArgs) (promql.Query, error) {
	opts := promql.NewPrometheusQueryOpts(false, a.lookback)
	if a.step == 0 {
		return h.engine.NewInstantQuery(ctx, r, opts, a.text, time.UnixMilli(a.start))
	}
	return h.engine.NewRangeQuery(ctx, r, opts, a.text, time.UnixMilli(a.start), time.UnixMilli(a.end), time.Duration(a.step)*time.Millisecond)
}

// seriesOf returns the number of series of a result.
func seriesOf(v parser.Value) int {
	switch v := v.(type) {
	case promql.Vector:
		return len(v)
	case promql.Matrix:
		return len(v)
	}
	return 1
}

// isRaw reports whether the answer is stored samples as they are, which must be whole.
func isRaw(q promql.Query) bool {
	_, ok := outermost(q).(*parser.MatrixSelector)
	return ok
}

// evalError gives an error of the engine its kind.
func (h *Handlers) evalError(err error) error {
	var storageErr promql.ErrStorage
	var timeout promql.ErrQueryTimeout
	var canceled promql.ErrQueryCanceled
	var samples promql.ErrTooManySamples
	switch {
	case errors.As(err, &timeout):
		return errkind.New(errkind.Timeout, "%w", err)
	case errors.As(err, &canceled):
		return errkind.New(errkind.Canceled, "%w", err)
	case errors.As(err, &samples):
		return errkind.New(errkind.Unprocessable, "%w: at most %d are allowed, from -search.maxSamplesPerQuery and half of the memory budget; select fewer series, or shorten the range", err,
			memoryFor(h.o.Budget.Limit(), h.o.Limits))
	case errors.As(err, &storageErr):
		return storageErr.Err
	case errkind.Of(err) == errkind.Internal:
		return errkind.New(errkind.Unprocessable, "%w", err)
	}
	return err
}

// forwarder hands messages of the engine, which are about its own faults, to our log.
type forwarder struct{ log *logger.Logger }

// Enabled implements slog.Handler.
func (forwarder) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements slog.Handler.
func (f forwarder) Handle(_ context.Context, r slog.Record) error {
	var attrs strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		attrs.WriteString("; " + a.String())
		return true
	})
	if r.Level >= slog.LevelError {
		f.log.Errorf("PromQL engine: %s%s", r.Message, attrs.String())
		return nil
	}
	f.log.Warnf("PromQL engine: %s%s", r.Message, attrs.String())
	return nil
}

// WithAttrs implements slog.Handler. The engine passes its attributes with each message.
func (f forwarder) WithAttrs([]slog.Attr) slog.Handler { return f }

// WithGroup implements slog.Handler.
func (f forwarder) WithGroup(string) slog.Handler { return f }
