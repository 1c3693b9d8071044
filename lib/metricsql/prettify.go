package metricsql

import "strings"

const (
	prettyWidth  = 80
	prettyIndent = "  "
)

// Prettify returns the text of a query broken into lines: what does not fit
// into a line has its operands and arguments on lines of their own.
func Prettify(q string) (string, error) {
	e, err := Parse(q)
	if err != nil {
		return "", err
	}
	return string(appendPretty(nil, e, 0)), nil
}

func appendIndent(dst []byte, depth int) []byte {
	return append(dst, strings.Repeat(prettyIndent, depth)...)
}

// appendPretty appends e, of which the first line starts at the given depth.
func appendPretty(dst []byte, e Expr, depth int) []byte {
	mark := len(dst)
	dst = e.AppendString(appendIndent(dst, depth))
	if len(dst)-mark <= prettyWidth {
		return dst
	}
	dst = dst[:mark]
	switch e := e.(type) {
	case *FuncExpr:
		dst = append(appendIndent(dst, depth), e.Name...)
		dst = appendPrettyArgs(dst, e.Args, depth)
		if e.KeepMetricNames {
			dst = append(dst, " keep_metric_names"...)
		}
		return dst
	case *AggrExpr:
		dst = e.appendHead(appendIndent(dst, depth))
		dst = appendPrettyArgs(dst, e.Args, depth)
		return e.appendLimit(dst)
	case *BinaryExpr:
		return e.appendPretty(dst, depth)
	}
	return e.AppendString(appendIndent(dst, depth))
}

func appendPrettyArgs(dst []byte, args []Expr, depth int) []byte {
	dst = append(dst, "(\n"...)
	for i, arg := range args {
		dst = appendPretty(dst, arg, depth+1)
		if i < len(args)-1 {
			dst = append(dst, ',')
		}
		dst = append(dst, '\n')
	}
	return append(appendIndent(dst, depth), ')')
}

func (e *BinaryExpr) appendPretty(dst []byte, depth int) []byte {
	if e.KeepMetricNames {
		inner := *e
		inner.KeepMetricNames = false
		dst = append(appendIndent(dst, depth), "(\n"...)
		dst = append(inner.appendPretty(dst, depth+1), '\n')
		return append(appendIndent(dst, depth), ") keep_metric_names"...)
	}
	dst = appendPrettySide(dst, e.Left, e.appendLeft(nil), depth)
	dst = append(dst, '\n')
	dst = e.appendOp(appendIndent(dst, depth))
	dst = append(dst, '\n')
	return appendPrettySide(dst, e.Right, e.appendRight(nil), depth)
}

// appendPrettySide appends an operand whose text in one line is given: it shows whether there are parentheses.
func appendPrettySide(dst []byte, e Expr, text []byte, depth int) []byte {
	_, isBinary := e.(*BinaryExpr)
	if !isBinary || len(text) == len(String(e)) {
		if isBinary || len(text) == len(String(e)) {
			return appendPretty(dst, e, depth)
		}
		return append(appendIndent(dst, depth), text...) // a negative number in parentheses
	}
	dst = append(appendIndent(dst, depth), "(\n"...)
	dst = append(appendPretty(dst, e, depth+1), '\n')
	return append(appendIndent(dst, depth), ')')
}
