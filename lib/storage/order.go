package storage

import (
	"bytes"
	"cmp"
	"slices"
)

// order sorts what was found by key, then by month, and returns the number of distinct keys. Within a month most of the order is known
// from earlier searches, so numbers are sorted instead of keys.
func (it *iterator) order() int {
	var sorted []found
	for start := 0; start < len(it.found); {
		end := start + 1
		for end < len(it.found) && it.found[end].view == it.found[start].view {
			end++
		}
		sorted = it.mergeByKey(sorted, it.orderMonth(it.found[start:end]))
		start = end
	}
	it.found = sorted
	n := 0
	for i := range sorted {
		if i == 0 || !bytes.Equal(it.key(i), it.key(i-1)) {
			n++
		}
	}
	return n
}

func (it *iterator) compareKeys(a, b found) int {
	if c := bytes.Compare(it.keyOf(&a), it.keyOf(&b)); c != 0 {
		return c
	}
	return cmp.Compare(a.view, b.view)
}

// orderMonth sorts the series of one month, each of which is there once.
func (it *iterator) orderMonth(list []found) []found {
	p := it.views[list[0].view].Partition()
	known := p.KeyOrder()
	ranked := make([]uint64, 0, len(list))
	var rest []found
	for i := range list {
		if rank, ok := known.Rank(list[i].id); ok {
			ranked = append(ranked, uint64(rank)<<32|uint64(i))
		} else {
			rest = append(rest, list[i])
		}
	}
	slices.Sort(ranked)
	sorted := make([]found, len(ranked))
	for i, x := range ranked {
		sorted[i] = list[uint32(x)]
	}
	slices.SortFunc(rest, it.compareKeys)
	unknown := len(rest)
	if sorted = it.mergeByKey(sorted, rest); unknown > 0 {
		ids := make([]uint32, len(sorted))
		for i := range sorted {
			ids[i] = sorted[i].id
		}
		p.LearnKeyOrder(ids, unknown)
	}
	return sorted
}

// mergeByKey merges two sorted lists. Of equal keys, those of a go first.
func (it *iterator) mergeByKey(a, b []found) []found {
	switch {
	case len(a) == 0:
		return b
	case len(b) == 0:
		return a
	}
	out := make([]found, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if bytes.Compare(it.keyOf(&a[0]), it.keyOf(&b[0])) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
