package selectapi

import (
	"context"
	"strconv"
	"strings"

	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/trace"
	"vmcluster/lib/tsblock"
)

// startTrace begins the trace of a request that asks for one.
func (a *API) startTrace(r *request) *trace.Span {
	if a.o.Config.DenyQueryTracing || !boolArg(r.Request, "trace") {
		return nil
	}
	args := make([]string, 0, len(r.Form))
	for _, name := range []string{"query", "match[]", "time", "start", "end", "step"} {
		for _, value := range r.Form[name] {
			args = append(args, name+"="+value)
		}
	}
	return trace.New(a.o.Now, r.started, r.URL.Path+": "+strings.Join(args, ", "))
}

// appendTrace appends the trace as the last member of an answer, if one was asked for.
func (r *request) appendTrace(dst []byte) []byte {
	if r.trace == nil {
		return dst
	}
	n := r.trace.Node()
	return appendStep(append(dst, `,"trace":`...), &n)
}

func appendStep(dst []byte, n *trace.Node) []byte {
	dst = append(dst, `{"duration_msec":`...)
	dst = strconv.AppendFloat(dst, float64(n.Duration.Microseconds())/1e3, 'f', -1, 64)
	dst = append(dst, `,"message":`...)
	dst = appendJSONString(dst, n.Message)
	for i := range n.Children {
		if i == 0 {
			dst = append(dst, `,"children":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendStep(dst, &n.Children[i])
	}
	if len(n.Children) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// searchTrace counts what a search finds.
type searchTrace struct {
	*trace.Span
	series, blocks, samples, bytes int
}

// traceSearch begins the step of a search.
func traceSearch(s *trace.Span, q *model.SearchQuery) *searchTrace {
	if s == nil {
		return nil
	}
	return &searchTrace{Span: s.Begin("search series of tenant %s with %s in %s", scope{q.Tenant, q.AllTenants}, filtersText(q), q.Range)}
}

// within returns a context in which the search notes its steps.
func (t *searchTrace) within(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	return t.Within(ctx)
}

// fail ends the step of a search which has not begun.
func (t *searchTrace) fail(err error) {
	if t != nil && err != nil {
		t.End(": %s", err)
	}
}

// filtersText renders the filters of a search.
func filtersText(q *model.SearchQuery) string {
	var sets []string
	for _, set := range q.Filters {
		var filters []string
		for _, f := range set {
			filters = append(filters, f.String())
		}
		sets = append(sets, "{"+strings.Join(filters, ",")+"}")
	}
	return strings.Join(sets, " or ")
}

// tracedSource notes the searches of queries that are traced.
type tracedSource struct{ query.Source }

// Select starts a search.
func (s *tracedSource) Select(ctx context.Context, q *model.SearchQuery) (query.SeriesIterator, error) {
	search := traceSearch(trace.From(ctx), q)
	it, err := s.Source.Select(search.within(ctx), q)
	if err != nil || search == nil {
		search.fail(err)
		return it, err
	}
	return &tracedIterator{SeriesIterator: it, search: search}, nil
}

// tracedIterator counts what it hands on.
type tracedIterator struct {
	query.SeriesIterator
	search *searchTrace
}

// At returns the current series, valid until the next call of Next.
func (it *tracedIterator) At() *query.EncodedSeries {
	s := it.SeriesIterator.At()
	it.search.count(s.Blocks)
	return s
}

// Close ends the search.
func (it *tracedIterator) Close() error {
	err := it.SeriesIterator.Close()
	missing := ""
	if it.Partial() {
		missing = ", and some storage nodes did not answer"
	}
	it.search.end(missing)
	return err
}

// tracedReducer notes what storage nodes aggregate, too.
type tracedReducer struct {
	tracedSource
	reducer query.Reducer
}

// Reduce evaluates a fragment.
func (s *tracedReducer) Reduce(ctx context.Context, f *fragment.Fragment) (*query.Reduced, error) {
	parent := trace.From(ctx)
	if parent == nil {
		return s.reducer.Reduce(ctx, f)
	}
	step := parent.Begin("aggregate %s(%s) of tenant %s with %s in %s at the storage nodes", f.Aggregate, f.Function, scope{f.Search.Tenant, f.Search.AllTenants}, filtersText(&f.Search), f.Search.Range)
	r, err := s.reducer.Reduce(step.Within(ctx), f)
	switch {
	case err != nil:
		step.End(": %s", err)
	case r.Declined != "":
		step.End(": the series are read instead: %s", r.Declined)
	default:
		endReduced(step, r)
	}
	return r, err
}

// failedText names the storage nodes that did not answer.
func failedText(failed []storageapi.NodeFailure) string {
	var b strings.Builder
	for i, f := range failed {
		if i == 0 {
			b.WriteString(", without storage nodes ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Node + ": " + f.Err.Error())
	}
	return b.String()
}

// endReduced ends the step of a fragment.
func endReduced(step *trace.Span, r *query.Reduced) {
	series, samples, groups, excluded := 0, 0, 0, 0
	for _, res := range r.Results {
		series += res.SeriesRead
		samples += res.SamplesRead
		groups += len(res.Groups)
		excluded += len(res.Excluded)
	}
	step.End(": %d nodes made %d groups of %d series with %d samples, and sent %d series that several of them hold", len(r.Results), groups, series, samples, excluded)
}

// count counts a series.
func (t *searchTrace) count(blocks []tsblock.Block) {
	if t == nil {
		return
	}
	t.series++
	t.blocks += len(blocks)
	for i := range blocks {
		t.samples += blocks[i].Count
		t.bytes += len(blocks[i].Timestamps) + len(blocks[i].Values)
	}
}

// end ends the step; missing says what the answer lacks.
func (t *searchTrace) end(missing string) {
	if t == nil {
		return
	}
	t.End(": found %d series with %d samples in %d blocks of %d bytes%s", t.series, t.samples, t.blocks, t.bytes, missing)
}
