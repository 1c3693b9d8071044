package vector

import (
	"math"
	"slices"
)

// restrict evaluates and, if, unless and ifnot: it keeps the left points where
// some right series with the same match labels has a point, or where none has.
func (b *operation) restrict(present bool) ([]*Series, error) {
	index := b.sideIndex(b.right)
	var anyLeft []*Series
	if (b.Op == "if" || b.Op == "ifnot") && isScalar(b.right) {
		anyLeft = b.right
	}
	var key []byte
	for _, s := range b.left {
		if err := b.Guard.goOn(); err != nil {
			return nil, err
		}
		key = b.appendMatchKey(key[:0], s)
		partners := index[string(key)]
		if len(partners) == 0 {
			partners = anyLeft
		}
		for i := range s.Values {
			if hasPoint(partners, i) != present {
				s.Values[i] = math.NaN()
			}
		}
	}
	return DropEmpty(b.left), nil
}

func hasPoint(series []*Series, i int) bool {
	for _, s := range series {
		if !math.IsNaN(s.Values[i]) {
			return true
		}
	}
	return false
}

// defaults fills the gaps of the left series from right series with the same match labels, or from a scalar.
func (b *operation) defaults() ([]*Series, error) {
	if len(b.left) == 0 {
		return b.right, nil
	}
	index := b.sideIndex(b.right)
	var anyLeft []*Series
	if isScalar(b.right) {
		anyLeft = b.right
	}
	var key []byte
	for _, s := range b.left {
		if err := b.Guard.goOn(); err != nil {
			return nil, err
		}
		key = b.appendMatchKey(key[:0], s)
		partners := index[string(key)]
		if len(partners) == 0 {
			partners = anyLeft
		}
		fillGaps(s.Values, partners)
	}
	return b.left, nil
}

func fillGaps(values []float64, from []*Series) {
	for i, v := range values {
		if !math.IsNaN(v) {
			continue
		}
		for _, s := range from {
			if !math.IsNaN(s.Values[i]) {
				values[i] = s.Values[i]
				break
			}
		}
	}
}

// or joins both sides, each sorted. A right series which is the same as a left one fills
// its gaps. Other right series lose the points where a left series with the same match labels has one.
func (b *operation) or() ([]*Series, error) {
	Sort(b.left)
	Sort(b.right)
	index := b.sideIndex(b.left)
	result := slices.Clip(b.left)
	var key []byte
	for _, s := range b.right {
		if err := b.Guard.goOn(); err != nil {
			return nil, err
		}
		key = b.appendMatchKey(key[:0], s)
		partners := index[string(key)]
		same := slices.IndexFunc(partners, func(l *Series) bool { return compareKeys(l, s) == 0 })
		if same >= 0 {
			fillGaps(partners[same].Values, []*Series{s})
			continue
		}
		for i := range s.Values {
			if hasPoint(partners, i) {
				s.Values[i] = math.NaN()
			}
		}
		result = append(result, s)
	}
	return result, nil
}
