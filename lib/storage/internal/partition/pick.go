package partition

import (
	"slices"

	"vmcluster/lib/model"
)

const (
	// mergeFanout parts of one level are merged into one part of a higher level. 720
	// parts of an hour each become a month in two to three rewrites, with at most 9 parts per level left.
	mergeFanout = 10
	// maxMergeParts bounds how many parts one merge reads.
	maxMergeParts = 16
	// baseRows is the size up to which parts are on the lowest level.
	baseRows = 10_000
)

// PartInfo is what picking needs to know of a part.
type PartInfo struct {
	Rows         int64
	SizeBytes    int64
	MinTimestamp int64
	MaxTimestamp int64
}

// level grows by one each time rows grow by mergeFanout, so that a merge of
// mergeFanout parts of one level is on a higher level.
func level(rows int64) int {
	n := 0
	for limit := int64(baseRows); rows >= limit && n < 14; limit *= mergeFanout {
		n++
	}
	return n
}

// PickMerge returns the indexes, ascending, of the parts to merge next, or nil. It takes the lowest level
// with enough parts, and in it the smallest, as far as their output fits maxOutputBytes.
func PickMerge(parts []PartInfo, maxOutputBytes int64) []int {
	var levels [16][]int
	for i := range parts {
		l := level(parts[i].Rows)
		levels[l] = append(levels[l], i)
	}
	for _, candidates := range levels {
		if len(candidates) < mergeFanout {
			continue
		}
		slices.SortStableFunc(candidates, func(a, b int) int { return int(min(1, max(-1, parts[a].Rows-parts[b].Rows))) })
		if picked := fitting(parts, candidates, maxOutputBytes); len(picked) >= mergeFanout {
			return picked
		}
	}
	return nil
}

// fitting returns the first of the candidates which together have at most maxBytes, ascending.
func fitting(parts []PartInfo, candidates []int, maxBytes int64) []int {
	var picked []int
	for _, i := range candidates {
		if parts[i].SizeBytes > maxBytes || len(picked) == maxMergeParts {
			break
		}
		maxBytes -= parts[i].SizeBytes
		picked = append(picked, i)
	}
	slices.Sort(picked)
	return picked
}

// PickExpired returns the indexes of parts which lie outside of keep as a whole.
func PickExpired(parts []PartInfo, keep model.TimeRange) []int {
	var picked []int
	for i := range parts {
		if !keep.Overlaps(model.TimeRange{Min: parts[i].MinTimestamp, Max: parts[i].MaxTimestamp}) {
			picked = append(picked, i)
		}
	}
	return picked
}
