package vector

import (
	"bytes"
	"slices"

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

// FoldParts returns the fold to which lists of parts come together. Every part must have columns of so many points. The
// groups are in the order of their first series.
func FoldParts(o AggregateOptions, points int, lists ...[]Part) *Fold {
	total := NewFold(o, points)
	for _, parts := range lists {
		other := NewFold(o, points)
		for i := range parts {
			other.take(&parts[i])
		}
		total.Merge(other)
	}
	slices.SortStableFunc(total.groups, func(a, b *foldGroup) int { return bytes.Compare(a.first, b.first) })
	return total
}

// take makes a part a group.
func (f *Fold) take(p *Part) {
	s := Series{Name: p.Name, Labels: p.Labels}
	f.key = f.a.key(f.key[:0], &s)
	g := &foldGroup{key: string(f.key), name: p.Name, labels: p.Labels, acc: p.Values, rest: p.Rests, counts: p.Counts, first: p.First}
	f.byKey[g.key] = g
	f.groups = append(f.groups, g)
}
