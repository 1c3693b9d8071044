package vector

import (
	"slices"
)

// join computes group_left and group_right: each series of the many side with its partners on the one side.
func (b *operation) join(pairs []*pair) ([]*Series, error) {
	var result []*Series
	for _, p := range pairs {
		many, one, fillMany, fillOne := p.left, p.right, b.FillLeft, b.FillRight
		if b.Join == JoinRight {
			many, one, fillMany, fillOne = one, many, fillOne, fillMany
		}
		switch {
		case len(many) == 0 && fillMany == nil, len(one) == 0 && fillOne == nil:
			continue
		case len(many) == 0:
			many = []*Series{{Name: p.name, Labels: p.labels, Values: nans(len(one[0].Values))}}
		}
		for _, m := range many {
			joined, err := b.joinOne(m, one)
			if err != nil {
				return nil, err
			}
			result = append(result, joined...)
		}
	}
	return result, nil
}

// partner is a series of the one side, merged with others which give the same result labels.
type partner struct {
	result *Series // name and labels
	one    *Series
	source *Series // the first of the merged ones, for messages
}

// joinOne computes the results of one series of the many side.
func (b *operation) joinOne(m *Series, one []*Series) ([]*Series, error) {
	var partners []*partner
	if len(one) == 0 {
		partners = []*partner{{result: b.joinedSeries(m, nil), one: Scalar(nans(len(m.Values)))}}
	}
	for _, s := range one {
		// With many partners each, the join is a cross product.
		if err := b.Guard.series(1, len(m.Values)); err != nil {
			return nil, err
		}
		r := b.joinedSeries(m, s)
		i := slices.IndexFunc(partners, func(p *partner) bool { return compareKeys(p.result, r) == 0 })
		if i < 0 {
			partners = append(partners, &partner{result: r, one: s, source: s})
			continue
		}
		p := partners[i]
		if p.one == p.source {
			p.one = &Series{Values: slices.Clone(p.source.Values)}
		}
		if !mergePoints(p.one, s) {
			side := "right"
			if b.Join == JoinRight {
				side = "left"
			}
			return nil, b.duplicateError(side, p.source, s)
		}
	}
	result := make([]*Series, len(partners))
	for i, p := range partners {
		left, right := m.Values, p.one.Values
		if b.Join == JoinRight {
			left, right = right, left
		}
		p.result.Values = b.computeAll(left, right)
		result[i] = p.result
	}
	return result, nil
}

// joinedSeries returns name and labels of the result of m and s, of which s may be missing.
func (b *operation) joinedSeries(m, s *Series) *Series {
	r := &Series{Name: m.Name, Labels: m.Labels}
	b.dropName(r)
	fixed := func(name string) bool { return b.Match == MatchOn && slices.Contains(b.MatchLabels, name) }
	if len(b.JoinLabels) == 1 && b.JoinLabels[0] == "*" {
		if s == nil {
			return r
		}
		for _, l := range s.Labels {
			if !fixed(l.Name) {
				setLabel(r, b.JoinPrefix+l.Name, l.Value)
			}
		}
		return r
	}
	for _, name := range b.JoinLabels {
		switch {
		case fixed(name):
		case s == nil:
			setLabel(r, b.JoinPrefix+name, "")
		default:
			setLabel(r, b.JoinPrefix+name, labelValue(s, name))
		}
	}
	return r
}

// sideIndex returns the series of a side by match labels.
func (b *operation) sideIndex(series []*Series) map[string][]*Series {
	index := make(map[string][]*Series, len(series))
	var key []byte
	for _, s := range series {
		key = b.appendMatchKey(key[:0], s)
		index[string(key)] = append(index[string(key)], s)
	}
	return index
}
