package query

import (
	"slices"
	"strings"

	"vmcluster/lib/metricsql"
	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
)

// Series of two sides of an operator pair up when their labels are equal, so filters
// on the labels of one side hold for all series of the other that can find a partner.
// Adding them there spares reading series in vain.

// Sharing takes time that grows with the cube of the query. Beyond these bounds it would take longer than it spares.
const (
	maxSharingOperators = 1000
	maxSharingPairs     = 20_000 // operators times filters
)

// shareFilters returns the expression with the filters of each side of binary operators added to the
// other. Nodes of expr stay as they are.
func shareFilters(expr metricsql.Expr) metricsql.Expr {
	operators, filters := 0, 0
	metricsql.Visit(expr, func(e metricsql.Expr) bool {
		switch x := e.(type) {
		case *metricsql.BinaryExpr:
			operators++
		case *metricsql.MetricExpr:
			for _, set := range x.FilterSets {
				filters += len(set)
			}
		}
		return true
	})
	if operators > maxSharingOperators || operators*filters > maxSharingPairs {
		return expr
	}
	return rewrite(expr, func(x *metricsql.BinaryExpr) {
		toLeft, toRight := sharing(x)
		if toRight {
			x.Right = push(x.Right, matchable(x, common(x.Left)))
		}
		if toLeft {
			x.Left = push(x.Left, matchable(x, common(x.Right)))
		}
	})
}

// sharing reports which sides may take the filters of the other. A side may not if its series count without a partner.
func sharing(x *metricsql.BinaryExpr) (toLeft, toRight bool) {
	switch x.Op {
	case "or":
		return false, false
	case "unless", "ifnot":
		return false, true
	}
	return x.FillRight == nil, x.FillLeft == nil
}

// rewrite returns a copy of the tree in which visit has changed copies of the binary operators, inner ones first.
func rewrite(expr metricsql.Expr, visit func(x *metricsql.BinaryExpr)) metricsql.Expr {
	switch x := expr.(type) {
	case *metricsql.RollupExpr:
		c := *x
		c.Expr = rewrite(x.Expr, visit)
		if x.At != nil {
			c.At = rewrite(x.At, visit)
		}
		return &c
	case *metricsql.FuncExpr:
		c := *x
		c.Args = rewriteAll(x.Args, visit)
		return &c
	case *metricsql.AggrExpr:
		c := *x
		c.Args = rewriteAll(x.Args, visit)
		return &c
	case *metricsql.BinaryExpr:
		c := *x
		c.Left, c.Right = rewrite(x.Left, visit), rewrite(x.Right, visit)
		visit(&c)
		return &c
	}
	return expr
}

func rewriteAll(args []metricsql.Expr, visit func(x *metricsql.BinaryExpr)) []metricsql.Expr {
	out := make([]metricsql.Expr, len(args))
	for i, arg := range args {
		out[i] = rewrite(arg, visit)
	}
	return out
}

// matchable returns the filters on labels by which x pairs series.
func matchable(x *metricsql.BinaryExpr, filters []model.TagFilter) []model.TagFilter {
	return slices.DeleteFunc(slices.Clone(filters), func(f model.TagFilter) bool {
		switch x.Match {
		case metricsql.MatchOn:
			return !slices.Contains(x.MatchLabels, f.Name)
		case metricsql.MatchIgnoring:
			return slices.Contains(x.MatchLabels, f.Name)
		}
		return false
	})
}

// common returns the filters that all series of e are known to pass.
func common(e metricsql.Expr) []model.TagFilter {
	switch x := e.(type) {
	case *metricsql.MetricExpr:
		return commonOfSets(x.FilterSets)
	case *metricsql.RollupExpr:
		return common(x.Expr)
	case *metricsql.FuncExpr:
		if i := passedArg(x); i >= 0 {
			return common(x.Args[i])
		}
	case *metricsql.AggrExpr:
		if len(x.Args) == 1 && groupsOnly(x) {
			return keptByGroups(x, common(x.Args[0]))
		}
	case *metricsql.BinaryExpr:
		return commonOfSides(x)
	}
	return nil
}

func commonOfSets(sets [][]model.TagFilter) []model.TagFilter {
	if len(sets) == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(sets[0]), func(f model.TagFilter) bool {
		return f.Name == model.MetricNameLabel || f.Name == graphiteLabel ||
			slices.ContainsFunc(sets[1:], func(set []model.TagFilter) bool { return !slices.Contains(set, f) })
	})
}

// commonOfSides combines the filters of both sides of an operator.
func commonOfSides(x *metricsql.BinaryExpr) []model.TagFilter {
	left, right := common(x.Left), common(x.Right)
	switch {
	case x.Op == "or":
		return slices.DeleteFunc(left, func(f model.TagFilter) bool { return !slices.Contains(right, f) })
	case x.FillLeft != nil || x.FillRight != nil || x.Join != metricsql.JoinNone && len(x.JoinLabels) > 0:
		return nil // some series have no partner, or their labels are overwritten
	case x.Op == "and" || x.Op == "if" || x.Op == "unless" || x.Op == "ifnot":
		return left
	case x.Op == "default":
		return nil // without left series it is the right side
	case x.Join == metricsql.JoinLeft:
		return union(left, matchable(x, right))
	case x.Join == metricsql.JoinRight:
		return union(right, matchable(x, left))
	}
	return union(matchable(x, left), matchable(x, right))
}

func union(a, b []model.TagFilter) []model.TagFilter {
	out := slices.Clone(a)
	for _, f := range b {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}

// push returns e with the filters added to its selectors where they do not change how labels come to be.
func push(e metricsql.Expr, filters []model.TagFilter) metricsql.Expr {
	if len(filters) == 0 {
		return e
	}
	switch x := e.(type) {
	case *metricsql.MetricExpr:
		c := *x
		c.FilterSets = make([][]model.TagFilter, len(x.FilterSets))
		for i, set := range x.FilterSets {
			c.FilterSets[i] = union(set, filters)
			if len(set) == 0 { // selects nothing, and must go on doing so
				c.FilterSets[i] = nil
			}
		}
		return &c
	case *metricsql.RollupExpr:
		c := *x
		c.Expr = push(x.Expr, filters)
		return &c
	case *metricsql.FuncExpr:
		if i := passedArg(x); i >= 0 {
			c := *x
			c.Args = slices.Clone(x.Args)
			c.Args[i] = push(x.Args[i], filters)
			return &c
		}
	case *metricsql.AggrExpr:
		return pushIntoAggregate(x, filters)
	case *metricsql.BinaryExpr:
		return pushIntoSides(x, filters)
	}
	return e
}

func pushIntoAggregate(x *metricsql.AggrExpr, filters []model.TagFilter) metricsql.Expr {
	if !groupsOnly(x) {
		return x
	}
	c := *x
	c.Args = make([]metricsql.Expr, len(x.Args))
	for i, arg := range x.Args {
		c.Args[i] = push(arg, keptByGroups(x, filters))
	}
	return &c
}

func pushIntoSides(x *metricsql.BinaryExpr, filters []model.TagFilter) metricsql.Expr {
	left, right := matchable(x, filters), matchable(x, filters)
	switch {
	case x.FillLeft != nil || x.FillRight != nil:
		return x
	case x.Op == "or":
		left, right = filters, filters
	case x.Join == metricsql.JoinLeft && len(x.JoinLabels) == 0 || x.Op == "and" || x.Op == "if" || x.Op == "unless" || x.Op == "ifnot" || x.Op == "default":
		left = filters
	case x.Join == metricsql.JoinRight && len(x.JoinLabels) == 0:
		right = filters
	case x.Join != metricsql.JoinNone:
		return x // labels that are copied over are unknown here
	}
	c := *x
	c.Left, c.Right = push(x.Left, left), push(x.Right, right)
	return &c
}

// groupsOnly reports whether an aggregate makes one series per group, labelled by it alone.
func groupsOnly(x *metricsql.AggrExpr) bool {
	switch x.Name {
	case "avg", "count", "distinct", "geomean", "group", "mad", "max", "median", "min", "mode", "stddev", "stdvar", "sum", "sum2":
		return true
	}
	return false
}

// keptByGroups returns the filters on labels that remain after grouping.
func keptByGroups(x *metricsql.AggrExpr, filters []model.TagFilter) []model.TagFilter {
	if x.Grouping == metricsql.GroupNone {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(filters), func(f model.TagFilter) bool {
		return slices.Contains(x.Labels, f.Name) != (x.Grouping == metricsql.GroupBy)
	})
}

// passedArg returns the argument of a function whose labels all results have unchanged, or -1.
func passedArg(x *metricsql.FuncExpr) int {
	switch metricsql.FunctionKind(x.Name) {
	case metricsql.KindRollup:
		i := metricsql.RollupArgIndex(x)
		if x.Name == "absent_over_time" || rollup.LabelsResults(x.Name) || i >= len(x.Args) {
			return -1
		}
		return i
	case metricsql.KindTransform:
		if len(x.Args) == 1 && isPointwise(x.Name) || len(x.Args) > 1 && (strings.HasPrefix(x.Name, "clamp") || x.Name == "round") {
			return 0
		}
	}
	return -1
}

// isPointwise reports whether a transform of one argument gives one series with the same labels for each of the argument.
func isPointwise(name string) bool {
	switch name {
	case "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "deg", "exp", "floor", "interpolate",
		"keep_last_value", "keep_next_value", "ln", "log10", "log2", "rad", "remove_resets", "round", "sgn", "sin", "sinh", "sort",
		"sort_desc", "sqrt", "tan", "tanh":
		return true
	}
	return strings.HasPrefix(name, "running_") || strings.HasPrefix(name, "range_")
}
