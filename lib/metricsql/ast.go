package metricsql

import "vmcluster/lib/model"

// Expr is a node of the tree.
type Expr interface {
	// AppendString appends the canonical text of the expression.
	AppendString(dst []byte) []byte
	// Pos is the byte offset of the node in the query text, for messages.
	Pos() int
}

// base is embedded by all nodes.
type base struct{ pos int }

// Pos returns the byte offset of the node in the query text.
func (b base) Pos() int { return b.pos }

// NumberExpr is a number literal. A duration used as an operand is a NumberExpr of seconds,
// unless its length depends on the step: then it is a DurationExpr.
type NumberExpr struct {
	base
	Value float64
	Text  string // as written, when that is to be kept (1Ki, 5m); else empty
}

// StringExpr is a string literal.
type StringExpr struct {
	base
	Value string
}

// DurationExpr is a window, step or offset. Its length is Millis + Steps*step.
// As an operand (2i + 1) it stands for the number of seconds in that length.
type DurationExpr struct {
	base
	Millis float64
	Steps  float64 // the sum of parts written with the suffix i
	Text   string
}

// Duration returns the length in milliseconds, given the step in milliseconds.
func (d *DurationExpr) Duration(step int64) int64 {
	if d == nil {
		return 0
	}
	return int64(d.Millis + d.Steps*float64(step))
}

// MetricExpr is a selector: name{filters}. The sets are alternatives (`or` in
// braces); the metric name stands in each set as a filter on __name__, first.
type MetricExpr struct {
	base
	FilterSets [][]model.TagFilter
}

// RollupExpr is any of expr[window:step] offset d @ at. A bare selector is a
// MetricExpr, not a RollupExpr.
type RollupExpr struct {
	base
	Expr   Expr
	Window *DurationExpr // nil: not written
	Step   *DurationExpr // nil: not written
	// InheritStep is set for [d:], a subquery with the step of the query.
	InheritStep bool
	Offset      *DurationExpr // nil: not written; may be negative
	At          Expr          // nil: not written
}

// IsSubquery reports whether the brackets hold a colon.
func (r *RollupExpr) IsSubquery() bool { return r.Step != nil || r.InheritStep }

// FuncExpr is a call of a rollup, transform or label function. Name is
// in lower case. The empty name is union: (a, b).
type FuncExpr struct {
	base
	Name            string
	Args            []Expr
	KeepMetricNames bool
}

// GroupOp is by or without.
type GroupOp uint8

// The groupings of aggregates.
const (
	GroupNone GroupOp = iota
	GroupBy
	GroupWithout
)

// AggrExpr is an aggregate such as sum(q) by (label). Name is in lower case.
type AggrExpr struct {
	base
	Name     string
	Args     []Expr
	Grouping GroupOp
	Labels   []string
	Limit    int // 0: none
}

// MatchOp is on or ignoring.
type MatchOp uint8

// The ways to match series of two sides.
const (
	MatchAll MatchOp = iota
	MatchOn
	MatchIgnoring
)

// JoinOp is group_left or group_right.
type JoinOp uint8

// The many-to-one and one-to-many joins.
const (
	JoinNone JoinOp = iota
	JoinLeft
	JoinRight
)

// BinaryExpr is left op right. Op is in lower case: + - * / % ^ atan2 == != > < >= <=
// and or unless default if ifnot. Unary minus is 0 - x.
type BinaryExpr struct {
	base
	Op              string
	Left, Right     Expr
	Bool            bool
	Match           MatchOp
	MatchLabels     []string
	Join            JoinOp
	JoinLabels      []string // ["*"] copies all
	JoinPrefix      string
	FillLeft        *float64
	FillRight       *float64
	KeepMetricNames bool
}
