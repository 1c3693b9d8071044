package vector

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"vmcluster/lib/model"
)

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

// BinaryOptions describe a binary operator. The fields up to KeepMetricNames are those of the query.
type BinaryOptions struct {
	Op              string
	Bool            bool
	Match           MatchOp
	MatchLabels     []string
	Join            JoinOp
	JoinLabels      []string // ["*"] copies all
	JoinPrefix      string
	FillLeft        *float64
	FillRight       *float64
	KeepMetricNames bool

	Guard Guard
	// SwapSides turns a comparison round, so that the values of the right side are
	// answered: the left side is a number literal or time(), the right is not a literal.
	SwapSides bool
	// RightFiltered is set if the right side is itself a comparison of series:
	// its gaps were filtered out, so they match nothing and are not filled.
	RightFiltered bool
	// RightIsList is set for q == (a, b) and q != (a, b): the right side lists values.
	RightIsList bool
}

// operation is one evaluation of a binary operator.
type operation struct {
	BinaryOptions
	left, right []*Series
	apply       func(a, b float64) float64
}

// Binary evaluates a binary operator. Series which lose all their points are
// kept by comparisons and default, since what is around may fill them. Errors are of kind Unprocessable.
func Binary(o BinaryOptions, left, right []*Series) ([]*Series, error) {
	b := &operation{BinaryOptions: o, left: left, right: right}
	switch o.Op {
	case "and", "if":
		return b.restrict(true)
	case "unless", "ifnot":
		return b.restrict(false)
	case "or":
		return b.or()
	case "default":
		return b.defaults()
	}
	if o.SwapSides {
		b.swap()
	}
	if arithmetic := arithmeticFunction(b.Op); arithmetic != nil {
		b.left, b.right = DropEmpty(left), DropEmpty(right)
		b.apply = arithmetic
		return b.match()
	}
	b.apply = b.comparison()
	if b.apply == nil {
		return nil, unprocessable("unsupported operator %q", b.Op)
	}
	if o.RightIsList && (b.Op == "==" || b.Op == "!=") && allScalars(b.right) {
		return b.compareList(), nil
	}
	return b.match()
}

// swap exchanges the sides of a comparison.
func (b *operation) swap() {
	b.left, b.right = b.right, b.left
	b.FillLeft, b.FillRight = b.FillRight, b.FillLeft
	switch b.Join {
	case JoinLeft:
		b.Join = JoinRight
	case JoinRight:
		b.Join = JoinLeft
	}
	b.RightFiltered = false
	switch b.Op {
	case "<":
		b.Op = ">"
	case ">":
		b.Op = "<"
	case "<=":
		b.Op = ">="
	case ">=":
		b.Op = "<="
	}
}

func arithmeticFunction(op string) func(a, b float64) float64 {
	switch op {
	case "+":
		return func(a, b float64) float64 { return a + b }
	case "-":
		return func(a, b float64) float64 { return a - b }
	case "*":
		return func(a, b float64) float64 { return a * b }
	case "/":
		return func(a, b float64) float64 { return a / b }
	case "%":
		return math.Mod
	case "^":
		return func(a, b float64) float64 {
			if math.IsNaN(a) {
				return a
			}
			return math.Pow(a, b)
		}
	case "atan2":
		return math.Atan2
	}
	return nil
}

func comparisonFunction(op string) func(a, b float64) bool {
	switch op {
	case "==":
		return equal
	case "!=":
		return func(a, b float64) bool { return !equal(a, b) }
	case "<":
		return func(a, b float64) bool { return a < b }
	case ">":
		return func(a, b float64) bool { return a > b }
	case "<=":
		return func(a, b float64) bool { return a <= b }
	case ">=":
		return func(a, b float64) bool { return a >= b }
	}
	return nil
}

// equal takes two gaps as equal.
func equal(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

// comparison returns the left value where the comparison holds; with bool, 1 or 0.
func (b *operation) comparison() func(x, y float64) float64 {
	holds := comparisonFunction(b.Op)
	if holds == nil {
		return nil
	}
	return func(x, y float64) float64 {
		switch {
		case b.RightFiltered && math.IsNaN(y), b.Bool && math.IsNaN(x):
			return math.NaN()
		case !b.Bool && holds(x, y):
			return x
		case !b.Bool:
			return math.NaN()
		case holds(x, y):
			return 1
		}
		return 0
	}
}

func allScalars(series []*Series) bool {
	for i := range series {
		if !isScalar(series[i : i+1]) {
			return false
		}
	}
	return len(series) > 0
}

// compareList keeps the points which are equal to any value of the list, or to none.
func (b *operation) compareList() []*Series {
	for _, s := range b.left {
		for i, v := range s.Values {
			listed := slices.ContainsFunc(b.right, func(r *Series) bool { return v == r.Values[i] })
			switch {
			case math.IsNaN(v):
			case b.Bool && listed == (b.Op == "=="):
				s.Values[i] = 1
			case b.Bool:
				s.Values[i] = 0
			case listed != (b.Op == "=="):
				s.Values[i] = math.NaN()
			}
		}
		b.dropName(s)
	}
	return b.left
}

// dropName removes the name unless the values keep their meaning.
func (b *operation) dropName(s *Series) {
	if !b.keepsName() {
		s.Name = ""
	}
}

func (b *operation) keepsName() bool {
	return b.KeepMetricNames || !b.Bool && comparisonFunction(b.Op) != nil
}

// match pairs the series of both sides and computes their points.
func (b *operation) match() ([]*Series, error) {
	if b.Match == MatchAll && b.Join == JoinNone {
		switch {
		case len(b.left) == 0 && b.FillLeft == nil, len(b.right) == 0 && b.FillRight == nil:
			return nil, nil
		case isScalar(b.left) && len(b.right) > 0:
			scalar := b.left[0].Values
			return b.withScalar(b.right, func(values []float64) []float64 { return b.computeAll(scalar, values) }), nil
		case isScalar(b.right) && len(b.left) > 0:
			scalar := b.right[0].Values
			return b.withScalar(b.left, func(values []float64) []float64 { return b.computeAll(values, scalar) }), nil
		}
	}
	pairs := b.pairs()
	if b.Join != JoinNone {
		return b.join(pairs)
	}
	result := make([]*Series, 0, len(pairs))
	for _, p := range pairs {
		s, err := b.oneToOne(p)
		if err != nil {
			return nil, err
		}
		if s != nil {
			result = append(result, s)
		}
	}
	return result, nil
}

// withScalar computes the points of each series of one side with f, which knows the scalar on the other.
func (b *operation) withScalar(series []*Series, f func(values []float64) []float64) []*Series {
	for _, s := range series {
		s.Values = f(s.Values)
		b.dropName(s)
	}
	return series
}

// compute applies the operator to a pair of points, of which one may be filled.
func (b *operation) compute(x, y float64) float64 {
	switch {
	case b.FillLeft == nil && b.FillRight == nil:
	case math.IsNaN(x) && !math.IsNaN(y) && b.FillLeft != nil:
		x = *b.FillLeft
	case math.IsNaN(y) && !math.IsNaN(x) && b.FillRight != nil && !b.RightFiltered:
		y = *b.FillRight
	}
	return b.apply(x, y)
}

// pair holds the series of both sides with the same match labels.
type pair struct {
	labels      []model.Label
	name        string
	left, right []*Series
}

// pairs groups both sides by match labels, in the order in which these are met, left first.
func (b *operation) pairs() []*pair {
	var pairs []*pair
	byKey := make(map[string]*pair)
	var key []byte
	get := func(s *Series) *pair {
		key = b.appendMatchKey(key[:0], s)
		p := byKey[string(key)]
		if p == nil {
			p = &pair{labels: b.matchLabels(s), name: b.matchName(s)}
			byKey[string(key)] = p
			pairs = append(pairs, p)
		}
		return p
	}
	for _, s := range b.left {
		p := get(s)
		p.left = append(p.left, s)
	}
	for _, s := range b.right {
		p := get(s)
		p.right = append(p.right, s)
	}
	return pairs
}

func (b *operation) appendMatchKey(dst []byte, s *Series) []byte {
	if b.Match == MatchOn {
		for _, name := range b.MatchLabels {
			dst = appendString(dst, labelValue(s, name))
		}
		return dst
	}
	if b.KeepMetricNames {
		dst = appendString(dst, s.Name)
	}
	if b.Match == MatchAll {
		return appendLabels(dst, s.Labels)
	}
	for i := range s.Labels {
		if l := &s.Labels[i]; !slices.Contains(b.MatchLabels, l.Name) {
			dst = appendString(dst, l.Name)
			dst = appendString(dst, l.Value)
		}
	}
	return dst
}

// matchLabels returns the labels which s shares with its partners.
func (b *operation) matchLabels(s *Series) []model.Label {
	switch b.Match {
	case MatchOn:
		return filterLabels(s.Labels, func(name string) bool { return slices.Contains(b.MatchLabels, name) })
	case MatchIgnoring:
		return filterLabels(s.Labels, func(name string) bool { return !slices.Contains(b.MatchLabels, name) })
	}
	return s.Labels
}

// matchName returns the name of the result when s is the only series of its pair.
func (b *operation) matchName(s *Series) string {
	if b.KeepMetricNames || b.Match == MatchOn && slices.Contains(b.MatchLabels, model.MetricNameLabel) {
		return s.Name
	}
	return ""
}

// oneToOne computes the result for one series of each side. It is nil if one is missing and not filled.
func (b *operation) oneToOne(p *pair) (*Series, error) {
	left, err := b.single(p.left, "left")
	if err != nil {
		return nil, err
	}
	right, err := b.single(p.right, "right")
	if err != nil {
		return nil, err
	}
	result := &Series{Name: p.name, Labels: p.labels}
	switch {
	case left == nil && b.FillLeft == nil, right == nil && b.FillRight == nil:
		return nil, nil
	}
	if err := b.Guard.series(1, len(cmp.Or(left, right).Values)); err != nil {
		return nil, err
	}
	switch {
	case left == nil:
		left = Scalar(nans(len(right.Values)))
	case right == nil:
		right = Scalar(nans(len(left.Values)))
	}
	if b.keepsName() && (b.KeepMetricNames || b.Match != MatchOn) {
		result.Name = left.Name
	}
	result.Values = b.computeAll(left.Values, right.Values)
	return result, nil
}

// computeAll computes a column of points. The usual operators have loops of
// their own, without a call per point.
func (b *operation) computeAll(left, right []float64) []float64 {
	values := make([]float64, len(left))
	right = right[:len(left)]
	op := b.Op
	if b.FillLeft != nil || b.FillRight != nil {
		op = ""
	}
	switch op {
	case "+":
		for i, v := range left {
			values[i] = v + right[i]
		}
	case "-":
		for i, v := range left {
			values[i] = v - right[i]
		}
	case "*":
		for i, v := range left {
			values[i] = v * right[i]
		}
	case "/":
		for i, v := range left {
			values[i] = v / right[i]
		}
	default:
		for i, v := range left {
			values[i] = b.compute(v, right[i])
		}
	}
	return values
}

// single merges series with equal match labels into one; nil if there are none.
func (b *operation) single(series []*Series, side string) (*Series, error) {
	if len(series) == 0 {
		return nil, nil
	}
	if len(series) > 1 { // comparisons get series which have lost their points: they are in nobody's way
		if alive := slices.DeleteFunc(slices.Clone(series), isEmpty); len(alive) > 0 {
			series = alive
		}
	}
	merged := series[0]
	for i, s := range series[1:] {
		if i == 0 {
			merged = &Series{Name: merged.Name, Labels: merged.Labels, Values: slices.Clone(merged.Values)}
		}
		if !mergePoints(merged, s) {
			return nil, b.duplicateError(side, series[0], s)
		}
	}
	return merged, nil
}

// duplicateError describes two series of a side which cannot be told apart by the match labels.
func (b *operation) duplicateError(side string, x, y *Series) error {
	modifier := ""
	switch b.Match {
	case MatchOn:
		modifier = " on(" + strings.Join(b.MatchLabels, ", ") + ")"
	case MatchIgnoring:
		modifier = " ignoring(" + strings.Join(b.MatchLabels, ", ") + ")"
	}
	switch b.Join {
	case JoinLeft:
		modifier += " group_left(" + strings.Join(b.JoinLabels, ", ") + ")"
	case JoinRight:
		modifier += " group_right(" + strings.Join(b.JoinLabels, ", ") + ")"
	}
	return unprocessable("duplicate time series on the %s side of %s%s: %s and %s; match on more labels, or use group_left or group_right",
		side, b.Op, modifier, seriesString(x), seriesString(y))
}

// mergePoints copies the points of src over those of dst if the two look like
// one series which was renamed: they share at most two points. It
// does nothing and returns false if they do not, or if there are too few points to tell.
func mergePoints(dst, src *Series) bool {
	const maxOverlap, minPoints = 2, 3
	if len(dst.Values) < minPoints {
		return false
	}
	overlap := 0
	for i, v := range src.Values {
		if !math.IsNaN(v) && !math.IsNaN(dst.Values[i]) {
			overlap++
		}
	}
	if overlap > maxOverlap {
		return false
	}
	for i, v := range src.Values {
		if !math.IsNaN(v) {
			dst.Values[i] = v
		}
	}
	return true
}
