package vector

import (
	"bytes"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// Part is what a fold has come to for one group, for other folds of the same aggregate to go on with.
type Part struct {
	First  []byte // what SetFirst was given
	Name   string
	Labels []model.Label
	Counts []float64 // how many values there were at each point; the other columns count where this is not 0
	Values []float64
	Rests  []float64 // what sums lack to the exact ones; empty for other aggregates
}

// Parts returns what the fold has come to. The fold must not be used any longer.
func (f *Fold) Parts() []Part {
	parts := make([]Part, 0, len(f.groups))
	for _, g := range f.groups {
		g.settle()
		parts = append(parts, Part{First: g.first, Name: g.name, Labels: g.labels, Counts: g.counts, Values: g.acc, Rests: g.rest})
	}
	return parts
}

// FoldParts returns the fold to which lists of parts come together. The groups are in the order of their first series. Parts which
// have other columns than the aggregate needs, each with a value per point, are an error of kind Corrupt.
func FoldParts(o AggregateOptions, points int, lists ...[]Part) (*Fold, error) {
	total := NewFold(o, points)
	for _, parts := range lists {
		other := NewFold(o, points)
		for i := range parts {
			if !other.take(&parts[i]) {
				return nil, errkind.New(errkind.Corrupt, "cannot aggregate with %s at %d points a part with columns of %d, %d and %d",
					o.Name, points, len(parts[i].Counts), len(parts[i].Values), len(parts[i].Rests))
			}
		}
		total.Merge(other)
	}
	slices.SortStableFunc(total.groups, func(a, b *foldGroup) int { return bytes.Compare(a.first, b.first) })
	return total, nil
}

// take makes a part a group; false when it does not fit.
func (f *Fold) take(p *Part) bool {
	rests := 0
	if f.kind.isSum() {
		rests = f.a.points
	}
	if len(p.Counts) != f.a.points || len(p.Values) != f.a.points || len(p.Rests) != rests {
		return false
	}
	s := Series{Name: p.Name, Labels: p.Labels}
	f.key = f.a.key(f.key[:0], &s)
	g := &foldGroup{key: string(f.key), name: p.Name, labels: p.Labels, acc: p.Values, rest: p.Rests, counts: p.Counts, first: p.First}
	f.byKey[g.key] = g
	f.groups = append(f.groups, g)
	return true
}
