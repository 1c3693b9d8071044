package promqlapi

import (
	"math"
	"net/http"

	"github.com/prometheus/prometheus/promql/parser"

	"vmcluster/app/internal/selectapi"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// exemplars serves /api/v1/query_exemplars.
func (h *Handlers) exemplars(w http.ResponseWriter, c *selectapi.Call) error {
	a, err := h.commonArgs(c)
	if err != nil {
		return err
	}
	if a.start, err = timeArg(c, "start", 0, true); err != nil {
		return err
	}
	if a.end, err = timeArg(c, "end", math.MaxInt64/1_000_000, true); err != nil {
		return err
	}
	if a.end < a.start {
		return errkind.New(errkind.BadRequest, "end timestamp must not be before start timestamp")
	}
	expr, err := h.parser.ParseExpr(a.text)
	if err != nil {
		return errkind.New(errkind.BadRequest, "%w", err)
	}
	var sets [][]model.TagFilter
	for _, matchers := range parser.ExtractSelectors(expr) {
		sets = append(sets, filtersOf(matchers))
	}
	return c.WriteExemplars(w, sets, model.TimeRange{Min: a.start, Max: a.end})
}
