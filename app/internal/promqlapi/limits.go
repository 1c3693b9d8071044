package promqlapi

import (
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"

	"vmcluster/lib/errkind"
)

// outermost returns the expression of a query without parentheses; nil when it is none.
func outermost(q promql.Query) parser.Expr {
	s, ok := q.Statement().(*parser.EvalStmt)
	if !ok {
		return nil
	}
	for expr := s.Expr; ; {
		switch e := expr.(type) {
		case *parser.StepInvariantExpr:
			expr = e.Expr
		case *parser.ParenExpr:
			expr = e.Expr
		default:
			return expr
		}
	}
}

// isAggregate reports whether the answer is what an aggregate produces.
func isAggregate(q promql.Query) bool {
	_, ok := outermost(q).(*parser.AggregateExpr)
	return ok
}

// checkSubqueries refuses subqueries with too many points per series, before anything is read.
func (h *Handlers) checkSubqueries(q promql.Query) error {
	s, ok := q.Statement().(*parser.EvalStmt)
	limit := int64(h.o.Limits.MaxPointsPerSubquerySeries)
	if !ok || limit <= 0 {
		return nil
	}
	var err error
	parser.Inspect(s.Expr, func(node parser.Node, path []parser.Node) error {
		sub, ok := node.(*parser.SubqueryExpr)
		if !ok || err != nil {
			return err
		}
		step := sub.Step
		if step <= 0 {
			step = h.o.Config.EvaluationInterval.D()
		}
		if points := int64(span(s, sub, path)/step) + 1; points > limit {
			err = errkind.New(errkind.Unprocessable, "cannot evaluate the subquery %s at %d points per series: at most %d are allowed; shorten its range, lengthen its step, or raise -search.maxPointsSubqueryPerTimeseries",
				sub, points, limit)
		}
		return err
	})
	return err
}

// span returns the range over which a subquery is evaluated: its own, those of the subqueries around it, and that of the
// query, up to the first whose time is fixed.
func span(s *parser.EvalStmt, sub *parser.SubqueryExpr, path []parser.Node) time.Duration {
	total := sub.Range
	for i := len(path); i >= 0; i-- {
		if i < len(path) {
			outer, ok := path[i].(*parser.SubqueryExpr)
			if !ok {
				continue
			}
			sub = outer
			total += sub.Range
		}
		if sub.Timestamp != nil || sub.StartOrEnd != 0 {
			return total
		}
	}
	return total + s.End.Sub(s.Start)
}
