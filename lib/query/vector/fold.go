package vector

import (
	"bytes"
	"math"
	"slices"
	"strings"

	"vmcluster/lib/model"
)

// Fold aggregates series one after the other, so that it holds a series per group and not one
// per input. It is used by one goroutine. What Add is given may be reused by the caller.
//
// Sums are kept with what rounding has taken from them (Knuth, TAOCP 4.2.2, theorem B), so they do not depend on the order of series.
type Fold struct {
	a      aggregation
	kind   foldKind
	byKey  map[string]*foldGroup
	groups []*foldGroup // in the order in which they were met
	single *foldGroup   // the only one, without grouping
	hides  bool
	key    []byte
	bytes  int64
	free   [][]float64 // memory of groups that were merged away
}

type foldKind uint8

const (
	foldNone foldKind = iota
	foldSum
	foldSum2
	foldCount
	foldAvg
	foldGroupOp
	foldMin
	foldMax
)

// foldGroup has one value per point, and how many points it was made of.
type foldGroup struct {
	key    string
	name   string
	labels []model.Label
	memory []float64 // of all columns
	acc    []float64
	rest   []float64 // of sums: what they lack to the exact ones
	counts []float64
	dense  float64 // series without a gap, which are not in counts yet
	first  []byte  // see SetFirst

	// Columns which nothing has been added to, nor are they zero: few groups of a batch need more than acc.
	fresh, bareRest, bareCounts bool
}

// isSum reports whether groups have rests.
func (k foldKind) isSum() bool { return k == foldSum || k == foldSum2 || k == foldAvg }

func foldKindOf(name string) foldKind {
	switch name {
	case "sum":
		return foldSum
	case "sum2":
		return foldSum2
	case "count":
		return foldCount
	case "avg":
		return foldAvg
	case "group":
		return foldGroupOp
	case "min":
		return foldMin
	case "max":
		return foldMax
	}
	return foldNone
}

// CanFold reports whether an aggregate can be evaluated by a Fold.
func CanFold(o *AggregateOptions) bool { return o.Limit <= 0 && foldKindOf(o.Name) != foldNone }

// NewFold returns a fold of series with so many points. The aggregate must be one that CanFold reports.
func NewFold(o AggregateOptions, points int) *Fold {
	return &Fold{a: aggregation{AggregateOptions: o, points: points}, kind: foldKindOf(o.Name), byKey: make(map[string]*foldGroup)}
}

// Add takes a series. One without points changes nothing.
func (f *Fold) Add(name string, labels []model.Label, values []float64) {
	s := Series{Name: name, Labels: labels, Values: values}
	if isEmpty(&s) {
		return
	}
	if g := f.groupOf(&s); f.kind == foldSum || f.kind == foldAvg {
		g.sum(values)
	} else {
		g.add(f.kind, values)
	}
}

// SetFirst says which series the group that came last began with, by a key of the caller's.
func (f *Fold) SetFirst(key []byte) { f.groups[len(f.groups)-1].first = slices.Clone(key) }

func (f *Fold) groupOf(s *Series) *foldGroup {
	if f.single != nil {
		return f.single
	}
	f.key = f.a.key(f.key[:0], s)
	if g := f.byKey[string(f.key)]; g != nil {
		return g
	}
	g := f.create(string(f.key))
	f.describe(g, s)
	if f.a.Grouping == GroupNone {
		f.single = g
	}
	f.bytes += g.size()
	return g
}

// describe gives a group the name and labels of its series.
func (f *Fold) describe(g *foldGroup, s *Series) {
	name, labels := f.a.describe(s)
	g.name = strings.Clone(name)
	g.labels = slices.Clone(labels)
	for i := range g.labels {
		g.labels[i] = model.Label{Name: strings.Clone(labels[i].Name), Value: strings.Clone(labels[i].Value)}
	}
}

func (f *Fold) create(key string) *foldGroup {
	n, columns := f.a.points, 2
	if f.kind.isSum() {
		columns = 3
	}
	memory := f.newMemory(columns * n)
	g := &foldGroup{key: key, memory: memory, acc: memory[:n:n], counts: memory[n : 2*n : 2*n], rest: memory[2*n:], fresh: true, bareRest: true, bareCounts: true}
	if f.kind != foldSum && f.kind != foldAvg {
		g.clean()
	}
	f.byKey[key] = g
	f.groups = append(f.groups, g)
	return g
}

// newMemory returns memory for so many numbers, which may be any.
func (f *Fold) newMemory(n int) []float64 {
	last := len(f.free) - 1
	if last < 0 {
		return make([]float64, n)
	}
	memory := f.free[last]
	f.free = f.free[:last]
	return memory
}

// TakeFree returns the memory of groups that were merged away, for Reuse by another fold of the same aggregate.
func (f *Fold) TakeFree() [][]float64 {
	free := f.free
	f.free = nil
	return free
}

// Reuse lets the fold take memory for its groups from the list.
func (f *Fold) Reuse(free [][]float64) { f.free = free }

// clean makes all columns hold numbers.
func (g *foldGroup) clean() {
	if g.fresh {
		clear(g.acc)
		g.fresh = false
	}
	g.needRest()
	if g.bareCounts {
		clear(g.counts)
		g.bareCounts = false
	}
}

func (g *foldGroup) needRest() {
	if g.bareRest {
		clear(g.rest)
		g.bareRest = false
	}
}

func (g *foldGroup) sum(values []float64) {
	if !hasGap(values) { // most have none
		g.dense++
		if g.fresh { // nothing is added to, so nothing gets lost
			g.fresh = false
			acc := g.acc[:len(values)]
			for i, v := range values {
				acc[i] = 0 + v // as sums do, this makes -0 a 0
			}
			return
		}
		g.addDense(values)
		return
	}
	g.clean()
	acc, rest, counts := g.acc[:len(values)], g.rest[:len(values)], g.counts[:len(values)]
	for i, v := range values {
		if v == v {
			var lost float64
			acc[i], lost = twoSum(acc[i], v)
			rest[i] += lost
			counts[i]++
		}
	}
}

// addDense adds a value at each point.
func (g *foldGroup) addDense(values []float64) {
	g.needRest()
	acc, rest := g.acc[:len(values)], g.rest[:len(values)]
	for i, v := range values {
		var lost float64
		acc[i], lost = twoSum(acc[i], v)
		rest[i] += lost
	}
}

// twoSum returns a+b as it is rounded, and exactly what rounding took; that is NaN when the sum is not finite.
func twoSum(a, b float64) (sum, lost float64) {
	sum = a + b
	part := sum - a
	return sum, (a - (sum - part)) + (b - part)
}

func hasGap(values []float64) bool {
	for _, v := range values {
		if v != v {
			return true
		}
	}
	return false
}

// settle completes all columns.
func (g *foldGroup) settle() {
	g.clean()
	if g.dense == 0 {
		return
	}
	for i := range g.counts {
		g.counts[i] += g.dense
	}
	g.dense = 0
}

func (g *foldGroup) add(kind foldKind, values []float64) {
	for i, v := range values {
		if v != v {
			continue
		}
		switch {
		case kind == foldCount:
			g.acc[i]++
		case kind == foldGroupOp:
			g.acc[i] = 1
		case kind == foldSum2:
			var lost float64
			g.acc[i], lost = twoSum(g.acc[i], float64(v*v))
			g.rest[i] += lost
		case g.counts[i] == 0, kind == foldMin && v < g.acc[i], kind == foldMax && v > g.acc[i]:
			g.acc[i] = v
		}
		g.counts[i]++
	}
}

// Merge adds what another fold of the same aggregate has come to, as if its series followed those
// of f. The other fold must not be used any longer.
func (f *Fold) Merge(other *Fold) {
	for _, o := range other.groups {
		if g := f.byKey[o.key]; g != nil {
			g.merge(f.kind, o)
			if bytes.Compare(o.first, g.first) < 0 {
				g.first = o.first
			}
			if o.memory != nil {
				f.free = append(f.free, o.memory)
			}
			continue
		}
		f.byKey[o.key] = o
		f.groups = append(f.groups, o)
		f.bytes += o.size()
	}
}

// mergeSum adds the sums of another group.
func (g *foldGroup) mergeSum(o *foldGroup) {
	if g.bareCounts && o.bareCounts { // neither has a gap
		g.dense += o.dense
		g.addDense(o.acc)
		if !o.bareRest {
			for i, more := range o.rest {
				g.rest[i] += more
			}
		}
		return
	}
	g.settle()
	o.settle()
	n := len(o.counts)
	acc, rest, counts := g.acc[:n], g.rest[:n], g.counts[:n]
	values, rests := o.acc[:n], o.rest[:n]
	for i, more := range o.counts {
		switch {
		case more == 0:
		case counts[i] == 0:
			acc[i], rest[i], counts[i] = values[i], rests[i], more
		default:
			var lost float64
			acc[i], lost = twoSum(acc[i], values[i])
			rest[i] += lost + rests[i]
			counts[i] += more
		}
	}
}

// merge adds what another group has come to.
func (g *foldGroup) merge(kind foldKind, o *foldGroup) {
	if kind.isSum() {
		g.mergeSum(o)
		return
	}
	for i, n := range o.counts {
		if n == 0 {
			continue
		}
		v, empty := o.acc[i], g.counts[i] == 0
		switch {
		case kind == foldMin && !empty && !(v < g.acc[i]), kind == foldMax && !empty && !(v > g.acc[i]):
		case empty || kind == foldMin || kind == foldMax || kind == foldGroupOp:
			g.acc[i] = v
		default: // a count
			g.acc[i] += v
		}
		g.counts[i] += n
	}
}

// Len returns the number of groups.
func (f *Fold) Len() int { return len(f.groups) }

// Bytes returns the memory of all groups.
func (f *Fold) Bytes() int64 { return f.bytes }

func (g *foldGroup) size() int64 {
	return int64(len(g.acc)+len(g.counts)+len(g.rest))*8 + groupBytes + int64(len(g.key)) + SeriesSize(g.labels)
}

// Hides reports, once Series was called, whether a point is missing although there were values, such as infinite ones which cancel out.
func (f *Fold) Hides() bool { return f.hides }

// Series returns the results. The fold must not be used any longer.
func (f *Fold) Series() []*Series {
	out := make([]*Series, 0, len(f.groups))
	for _, g := range f.groups {
		g.settle()
		for i, n := range g.counts {
			if f.kind.isSum() && g.rest[i] == g.rest[i] {
				g.acc[i] += g.rest[i]
			}
			switch {
			case n == 0:
				g.acc[i] = math.NaN()
			case f.kind == foldAvg:
				g.acc[i] /= n
			}
			f.hides = f.hides || n != 0 && g.acc[i] != g.acc[i]
		}
		out = append(out, &Series{Name: g.name, Labels: g.labels, Values: g.acc})
	}
	return out
}
