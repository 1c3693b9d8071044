package selectapi

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
	"time"

	"vmcluster/lib/query"
)

// queryStats are the figures of a query which has ended.
type queryStats struct {
	elapsed time.Duration
	result  *query.Result // nil: nothing is known of what was read
	err     error
}

// logStats logs what a slow query asked and took, in a form for programs.
func (a *API) logStats(r *request, req *query.Request, s *queryStats) {
	limit := a.o.Config.LogSlowQueryStats.D()
	if limit <= 0 || s.elapsed < limit {
		return
	}
	kind := "instant"
	switch {
	case strings.HasSuffix(r.URL.Path, "/query_range"):
		kind = "range"
	case strings.HasSuffix(r.URL.Path, "/read"):
		kind = "read"
	}
	tenant := ""
	if !a.o.SingleNode {
		tenant = fmt.Sprintf(" tenant=%q", r.scope.String())
	}
	figures := ""
	if res := s.result; res != nil {
		figures = fmt.Sprintf(" series_fetched=%d samples_fetched=%d memory_estimated_bytes=%d", res.SeriesFetched, res.SamplesRead, res.MemoryBytes)
	}
	if s.err != nil {
		figures += " failed=true"
	}
	a.o.Logger.Infof("vm_slow_query_stats type=%s query=%q query_hash=%d start_ms=%d end_ms=%d step_ms=%d range_ms=%d%s execution_duration_ms=%d%s%s",
		kind, req.Query, queryHash(req.Query), req.Start, req.End, req.Step, req.End-req.Start, tenant, s.elapsed.Milliseconds(), figures, headerPairs(r.Header, a.o.Config.LogQueryHeaders))
}

// headerPairs renders the headers which are wanted and there.
func headerPairs(h http.Header, wanted []string) string {
	var b strings.Builder
	for _, name := range wanted {
		if value := h.Get(name); value != "" {
			fmt.Fprintf(&b, " header.%s=%q", http.CanonicalHeaderKey(name), value)
		}
	}
	return b.String()
}

// queryHash tells queries apart where their text is too long.
func queryHash(text string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text)) // never fails
	return h.Sum32()
}
