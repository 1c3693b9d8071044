package storage

import (
	"bytes"
	"cmp"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
)

// order sorts what was found by key, then by month, and returns the number of distinct keys. Within a month the largest
// part has nearly all series of a metric together, so keys are compared within metrics, where they are few and often in order already.
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
	distinct, ascending := it.distinct()
	if !ascending { // metrics of one hash take turns in a part
		slices.SortFunc(it.found, it.compareKeys)
		distinct, _ = it.distinct()
	}
	return distinct
}

func (it *iterator) compareKeys(a, b found) int {
	if c := bytes.Compare(it.keyOf(&a), it.keyOf(&b)); c != 0 {
		return c
	}
	return cmp.Compare(a.view, b.view)
}

// orderMonth sorts the series of one month.
func (it *iterator) orderMonth(list []found) []found {
	ranked := make([]uint64, 0, len(list))
	var rest []found
	for i := range list {
		f := &list[i]
		if f.rank = it.views[f.view].Rank(f.id); f.rank == partition.NoRank {
			rest = append(rest, *f)
		} else {
			ranked = append(ranked, uint64(f.rank)<<32|uint64(i))
		}
	}
	slices.Sort(ranked)
	sorted := make([]found, len(ranked))
	for i, x := range ranked {
		sorted[i] = list[uint32(x)]
	}
	slices.SortFunc(rest, it.compareKeys)
	return it.mergeByKey(it.orderMetrics(sorted), rest)
}

// orderMetrics sorts a list in which the series of a metric stand together.
func (it *iterator) orderMetrics(list []found) []found {
	var runs [][]found
	for start := 0; start < len(list); {
		metric := model.MetricOfKey(it.keyOf(&list[start]))
		end := start + 1
		for end < len(list) && bytes.HasPrefix(it.keyOf(&list[end]), metric) {
			end++
		}
		run := list[start:end]
		if !slices.IsSortedFunc(run, it.compareKeys) {
			slices.SortFunc(run, it.compareKeys)
		}
		runs = append(runs, run)
		start = end
	}
	if len(runs) < 2 {
		return list
	}
	slices.SortFunc(runs, func(a, b []found) int { return it.compareKeys(a[0], b[0]) })
	return slices.Concat(runs...)
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

// distinct counts the keys, and reports whether they ascend.
func (it *iterator) distinct() (n int, ascending bool) {
	ascending = true
	for i := range it.found {
		c := -1
		if i > 0 {
			c = bytes.Compare(it.key(i-1), it.key(i))
		}
		if c != 0 {
			n++
		}
		ascending = ascending && c <= 0
	}
	return n, ascending
}
