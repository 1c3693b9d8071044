package metricsql

import (
	"math"
	"strconv"
	"strings"

	"vmcluster/lib/model"
)

// String returns the canonical text of an expression.
func String(e Expr) string { return string(e.AppendString(nil)) }

// AppendString appends the literal.
func (e *NumberExpr) AppendString(dst []byte) []byte {
	if e.Text != "" {
		return append(dst, e.Text...)
	}
	switch {
	case math.IsInf(e.Value, 1):
		return append(dst, "Inf"...)
	case math.IsInf(e.Value, -1):
		return append(dst, "-Inf"...)
	case e.Value == 0 && math.Signbit(e.Value):
		return append(dst, "(0 * -1)"...) // -0 is 0 - 0, which is 0
	}
	return strconv.AppendFloat(dst, e.Value, 'g', -1, 64)
}

// AppendString appends the quoted string.
func (e *StringExpr) AppendString(dst []byte) []byte { return strconv.AppendQuote(dst, e.Value) }

// AppendString appends the length as written, or in seconds.
func (d *DurationExpr) AppendString(dst []byte) []byte {
	if d.Text != "" {
		return append(dst, d.Text...)
	}
	if d.Steps == 0 {
		return append(dst, formatSeconds(d.Millis)...)
	}
	dst = strconv.AppendFloat(dst, d.Steps, 'f', -1, 64)
	dst = append(dst, 'i')
	if d.Millis != 0 {
		dst = strconv.AppendFloat(dst, d.Millis, 'f', -1, 64)
		dst = append(dst, "ms"...)
	}
	return dst
}

func formatSeconds(millis float64) string { return strconv.FormatFloat(millis/1000, 'f', -1, 64) }

// AppendString appends the selector.
func (m *MetricExpr) AppendString(dst []byte) []byte {
	name, short := m.commonName()
	if short {
		dst = append(dst, name...)
		if len(m.FilterSets) == 1 && len(m.FilterSets[0]) == 1 {
			return dst
		}
	}
	dst = append(dst, '{')
	for i, set := range m.FilterSets {
		if i > 0 {
			dst = append(dst, " or "...)
		}
		if short {
			set = set[1:]
		}
		dst = appendFilters(dst, set)
	}
	return append(dst, '}')
}

// commonName returns the name which can stand before the braces.
func (m *MetricExpr) commonName() (name string, ok bool) {
	for i, set := range m.FilterSets {
		if len(set) == 0 || !isNameFilter(set[0]) || i > 0 && (set[0].Value != name || len(set) == 1) {
			return "", false
		}
		if len(m.FilterSets) > 1 && len(set) == 1 {
			return "", false
		}
		if len(set) > 1 && filtersName(set[1:]) {
			return "", false
		}
		name = set[0].Value
	}
	return name, len(m.FilterSets) > 0 && isPlainIdent(name) && !isReserved(name)
}

func appendFilters(dst []byte, set []model.TagFilter) []byte {
	for i, f := range set {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendLabelName(dst, f.Name)
		dst = append(dst, f.Op.String()...)
		dst = strconv.AppendQuote(dst, f.Value)
	}
	return dst
}

func appendLabelName(dst []byte, name string) []byte {
	if isPlainIdent(name) && !strings.EqualFold(name, "or") {
		return append(dst, name...)
	}
	return strconv.AppendQuote(dst, name)
}

// isPlainIdent reports whether s is read as one identifier without escapes.
func isPlainIdent(s string) bool {
	l := lexer{src: s}
	t := l.next()
	return t.kind == tokIdent && !t.escaped && t.end == len(s) && t.pos == 0
}

// isReserved reports whether a metric name could be taken for something else.
func isReserved(name string) bool {
	name = strings.ToLower(name)
	switch name {
	case "inf", "nan", "on", "ignoring", "bool", "by", "without", "offset", "limit", "group_left", "group_right",
		"fill", "fill_left", "fill_right", "prefix", "keep_metric_names", "with":
		return true
	}
	return precedence(name) > 0
}

// AppendString appends the expression with what follows it.
func (r *RollupExpr) AppendString(dst []byte) []byte {
	switch e := r.Expr.(type) {
	case *BinaryExpr, *RollupExpr:
		dst = appendParens(dst, e)
	default:
		dst = appendOperand(dst, e)
	}
	if r.Window != nil || r.IsSubquery() {
		dst = append(dst, '[')
		if r.Window != nil {
			dst = r.Window.AppendString(dst)
		}
		if r.IsSubquery() {
			dst = append(dst, ':')
		}
		if r.Step != nil {
			dst = r.Step.AppendString(dst)
		}
		dst = append(dst, ']')
	}
	if r.Offset != nil {
		dst = append(dst, " offset "...)
		dst = r.Offset.AppendString(dst)
	}
	if r.At == nil {
		return dst
	}
	dst = append(dst, " @ "...)
	switch e := r.At.(type) {
	case *BinaryExpr, *RollupExpr:
		return appendParens(dst, e)
	default:
		return e.AppendString(dst)
	}
}

func appendParens(dst []byte, e Expr) []byte {
	dst = append(dst, '(')
	dst = e.AppendString(dst)
	return append(dst, ')')
}

// appendOperand appends e, in parentheses if it is a negative literal.
func appendOperand(dst []byte, e Expr) []byte {
	mark := len(dst)
	dst = e.AppendString(dst)
	if len(dst) > mark && dst[mark] == '-' {
		return appendParens(dst[:mark], e)
	}
	return dst
}

// AppendString appends the call.
func (f *FuncExpr) AppendString(dst []byte) []byte {
	dst = append(dst, f.Name...)
	dst = appendArgs(dst, f.Args)
	if f.KeepMetricNames {
		dst = append(dst, " keep_metric_names"...)
	}
	return dst
}

func appendArgs(dst []byte, args []Expr) []byte {
	dst = append(dst, '(')
	for i, arg := range args {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = arg.AppendString(dst)
	}
	return append(dst, ')')
}

// AppendString appends the aggregate, its grouping behind the arguments.
func (a *AggrExpr) AppendString(dst []byte) []byte {
	dst = append(dst, a.Name...)
	dst = appendArgs(dst, a.Args)
	switch a.Grouping {
	case GroupBy:
		dst = appendLabelList(append(dst, " by"...), a.Labels)
	case GroupWithout:
		dst = appendLabelList(append(dst, " without"...), a.Labels)
	}
	if a.Limit == 0 {
		return dst
	}
	dst = append(dst, " limit "...)
	return strconv.AppendInt(dst, int64(a.Limit), 10)
}

func appendLabelList(dst []byte, labels []string) []byte {
	dst = append(dst, '(')
	for i, l := range labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendLabelName(dst, l)
	}
	return append(dst, ')')
}

// AppendString appends the operation with the parentheses which precedence demands.
func (e *BinaryExpr) AppendString(dst []byte) []byte {
	if e.KeepMetricNames {
		dst = append(dst, '(')
	}
	dst = e.appendLeft(dst)
	dst = append(dst, ' ')
	dst = e.appendOp(dst)
	dst = append(dst, ' ')
	dst = e.appendRight(dst)
	if e.KeepMetricNames {
		dst = append(dst, ") keep_metric_names"...)
	}
	return dst
}

func (e *BinaryExpr) appendLeft(dst []byte) []byte {
	prec := precedence(e.Op)
	left, ok := e.Left.(*BinaryExpr)
	switch {
	case !ok && prec > precAdd:
		return appendOperand(dst, e.Left)
	case ok && !left.KeepMetricNames && (precedence(left.Op) < prec || e.Op == "^" && left.Op == "^"):
		return appendParens(dst, left)
	}
	return e.Left.AppendString(dst)
}

func (e *BinaryExpr) appendRight(dst []byte) []byte {
	right, ok := e.Right.(*BinaryExpr)
	if ok && !right.KeepMetricNames && precedence(right.Op) <= precedence(e.Op) && (e.Op != "^" || right.Op != "^") {
		return appendParens(dst, right)
	}
	return e.Right.AppendString(dst)
}

// appendOp appends the operator with its modifiers.
func (e *BinaryExpr) appendOp(dst []byte) []byte {
	dst = append(dst, e.Op...)
	if e.Bool {
		dst = append(dst, " bool"...)
	}
	switch e.Match {
	case MatchOn:
		dst = appendLabelList(append(dst, " on"...), e.MatchLabels)
	case MatchIgnoring:
		dst = appendLabelList(append(dst, " ignoring"...), e.MatchLabels)
	}
	switch e.Join {
	case JoinLeft:
		dst = append(dst, " group_left"...)
	case JoinRight:
		dst = append(dst, " group_right"...)
	}
	if e.Join != JoinNone {
		dst = e.appendJoinLabels(dst)
	}
	dst = appendFill(dst, " fill_left", e.FillLeft)
	return appendFill(dst, " fill_right", e.FillRight)
}

func (e *BinaryExpr) appendJoinLabels(dst []byte) []byte {
	if len(e.JoinLabels) == 1 && e.JoinLabels[0] == "*" {
		dst = append(dst, "(*)"...)
	} else {
		dst = appendLabelList(dst, e.JoinLabels)
	}
	if e.JoinPrefix == "" {
		return dst
	}
	dst = append(dst, " prefix "...)
	return strconv.AppendQuote(dst, e.JoinPrefix)
}

func appendFill(dst []byte, word string, v *float64) []byte {
	if v == nil {
		return dst
	}
	dst = append(dst, word...)
	dst = append(dst, '(')
	dst = (&NumberExpr{Value: *v}).AppendString(dst)
	return append(dst, ')')
}
