package selectapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"vmcluster/lib/fragment"
	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/tsblock"
)

// span is a step of a request with how long it took, told with trace=1. All methods may be called on nil, which traces nothing.
type span struct {
	now     func() time.Time
	started time.Time

	mu struct {
		sync.Mutex
		message  string
		duration time.Duration // 0 until the end
		children []*span
	}
}

type spanKey struct{}

// startTrace begins the trace of a request that asks for one.
func (a *API) startTrace(r *request) *span {
	if a.o.Config.DenyQueryTracing || !boolArg(r.Request, "trace") {
		return nil
	}
	args := make([]string, 0, len(r.Form))
	for _, name := range []string{"query", "match[]", "time", "start", "end", "step"} {
		for _, value := range r.Form[name] {
			args = append(args, name+"="+value)
		}
	}
	s := &span{now: a.o.Now, started: r.started}
	s.mu.message = fmt.Sprintf("%s: %s", r.URL.Path, strings.Join(args, ", "))
	return s
}

// traced returns a context in which searches are noted as steps of s.
func traced(ctx context.Context, s *span) context.Context {
	if s == nil {
		return ctx
	}
	return context.WithValue(ctx, spanKey{}, s)
}

// begin begins a step of s.
func (s *span) begin(format string, args ...any) *span {
	if s == nil {
		return nil
	}
	child := &span{now: s.now, started: s.now()}
	child.mu.message = fmt.Sprintf(format, args...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.children = append(s.mu.children, child)
	return child
}

// end ends the step; what came of it is added to its message.
func (s *span) end(format string, args ...any) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.duration = max(1, s.now().Sub(s.started))
	s.mu.message += fmt.Sprintf(format, args...)
}

// appendMember appends the trace as the last member of an answer.
func (s *span) appendMember(dst []byte) []byte {
	if s == nil {
		return dst
	}
	return s.appendJSON(append(dst, `,"trace":`...))
}

func (s *span) appendJSON(dst []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	duration := s.mu.duration
	if duration == 0 {
		duration = s.now().Sub(s.started)
	}
	dst = append(dst, `{"duration_msec":`...)
	dst = strconv.AppendFloat(dst, float64(duration.Microseconds())/1e3, 'f', -1, 64)
	dst = append(dst, `,"message":`...)
	dst = appendJSONString(dst, s.mu.message)
	for i, child := range s.mu.children {
		if i == 0 {
			dst = append(dst, `,"children":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = child.appendJSON(dst)
	}
	if len(s.mu.children) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// searchTrace counts what a search finds.
type searchTrace struct {
	span                           *span
	series, blocks, samples, bytes int
}

// traceSearch begins the step of a search.
func traceSearch(s *span, q *model.SearchQuery) *searchTrace {
	if s == nil {
		return nil
	}
	return &searchTrace{span: s.begin("search series of tenant %s with %s in %s", q.Tenant, filtersText(q), q.Range)}
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
	parent, _ := ctx.Value(spanKey{}).(*span)
	trace := traceSearch(parent, q)
	it, err := s.Source.Select(ctx, q)
	if err != nil || trace == nil {
		return it, err
	}
	return &tracedIterator{SeriesIterator: it, trace: trace}, nil
}

// tracedIterator counts what it hands on.
type tracedIterator struct {
	query.SeriesIterator
	trace *searchTrace
}

// At returns the current series, valid until the next call of Next.
func (it *tracedIterator) At() *query.EncodedSeries {
	s := it.SeriesIterator.At()
	it.trace.count(s.Blocks)
	return s
}

// Close ends the search.
func (it *tracedIterator) Close() error {
	err := it.SeriesIterator.Close()
	it.trace.end(it.Partial())
	return err
}

// tracedReducer notes what storage nodes aggregate, too.
type tracedReducer struct {
	tracedSource
	reducer query.Reducer
}

// Reduce evaluates a fragment.
func (s *tracedReducer) Reduce(ctx context.Context, f *fragment.Fragment) (*query.Reduced, error) {
	parent, _ := ctx.Value(spanKey{}).(*span)
	if parent == nil {
		return s.reducer.Reduce(ctx, f)
	}
	step := parent.begin("aggregate %s(%s) of tenant %s with %s in %s at the storage nodes", f.Aggregate, f.Function, f.Search.Tenant, filtersText(&f.Search), f.Search.Range)
	r, err := s.reducer.Reduce(ctx, f)
	switch {
	case err != nil:
		step.end(": %s", err)
	case r == nil:
		step.end(": not worth it, or several nodes hold the same series; the series are read")
	default:
		step.endReduced(r)
	}
	return r, err
}

// endReduced ends the step of a fragment.
func (s *span) endReduced(r *query.Reduced) {
	series, samples, groups, excluded := 0, 0, 0, 0
	for _, res := range r.Results {
		series += res.SeriesRead
		samples += res.SamplesRead
		groups += len(res.Groups)
		excluded += len(res.Excluded)
	}
	s.end(": %d nodes made %d groups of %d series with %d samples, and sent %d series that several of them hold", len(r.Results), groups, series, samples, excluded)
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

// end ends the step.
func (t *searchTrace) end(partial bool) {
	if t == nil {
		return
	}
	answer := ""
	if partial {
		answer = ", and some storage nodes did not answer"
	}
	t.span.end(": found %d series with %d samples in %d blocks of %d bytes%s", t.series, t.samples, t.blocks, t.bytes, answer)
}
