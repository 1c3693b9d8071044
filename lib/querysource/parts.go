package querysource

import (
	"bytes"
	"container/heap"
	"context"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// Parts is a Searcher whose native histograms show as series of samples: a histogram x as x{vmrange="..."}, or as x_bucket{vmrange="..."} where the filters
// select those and not the former, and as x_count and x_sum. Each is found by the filters of a search as if it were stored. Searches for keys find
// what is stored.
type Parts struct {
	storageapi.Searcher
	budget *memory.Budget
}

// NewParts returns the parts of what a Searcher finds. The budget is for parts which wait for their turn in the order of keys; it may be nil.
func NewParts(s storageapi.Searcher, budget *memory.Budget) *Parts { return &Parts{s, budget} }

// Search implements storageapi.Searcher.
func (p *Parts) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	if q.KeysOnly {
		return p.Searcher.Search(ctx, q)
	}
	it, err := p.search(ctx, q)
	if err != nil {
		return nil, err
	}
	return it, nil
}

func (p *Parts) search(ctx context.Context, q *model.SearchQuery) (*partsIterator, error) {
	asked := *q
	asked.Histograms = model.HistogramParts
	found, err := p.Searcher.Search(ctx, &asked)
	if err != nil {
		return nil, err
	}
	return &partsIterator{SeriesIterator: found, q: &asked, budget: p.budget}, nil
}

// partsIterator merges the parts of histograms with the other series by key.
type partsIterator struct {
	storageapi.SeriesIterator
	q      *model.SearchQuery
	budget *memory.Budget

	current *storageapi.Series
	derived bool // the current series is made of buckets

	// The rest is of use only if there are histograms.
	expander *expander
	waiting  partHeap
	ahead    *storageapi.Series // found already, but others come before it
	ended    bool               // the search has
	own      storageapi.Series
	series   int
	used     int64 // bytes of parts
	reserved int64
	err      error
}

func hasHistograms(blocks []tsblock.Block) bool {
	for i := range blocks {
		if blocks[i].Content() == tsblock.Histograms {
			return true
		}
	}
	return false
}

// Next implements storageapi.SeriesIterator.
func (it *partsIterator) Next() bool {
	if it.expander == nil { // as ever
		if !it.SeriesIterator.Next() {
			return false
		}
		if it.current = it.SeriesIterator.At(); !hasHistograms(it.current.Blocks) {
			it.series++
			return true
		}
		var err error
		if it.expander, err = newExpander(it.q); err != nil {
			return it.fail(err)
		}
		if err := it.expand(it.current); err != nil {
			return it.fail(err)
		}
	}
	return it.err == nil && it.next()
}

func (it *partsIterator) fail(err error) bool {
	it.err = err
	return false
}

// next moves to the smallest key there is.
func (it *partsIterator) next() bool {
	for it.ahead == nil && !it.ended {
		if !it.SeriesIterator.Next() {
			it.ended = true
			if it.SeriesIterator.Err() != nil {
				return false
			}
			break
		}
		if it.ahead = it.SeriesIterator.At(); !hasHistograms(it.ahead.Blocks) {
			break
		}
		if err := it.expand(it.ahead); err != nil {
			return it.fail(err)
		}
	}
	if it.ahead == nil && len(it.waiting) == 0 {
		return false
	}
	if it.series++; it.q.MaxSeries > 0 && it.series > it.q.MaxSeries {
		return it.fail(errkind.New(errkind.Unprocessable, "cannot answer query: the number of matching series exceeds %d, each bucket of a native histogram being one; "+
			"narrow down the selector or the time range, or raise the limit (-search.max* flags)", it.q.MaxSeries))
	}
	if it.ahead != nil && (len(it.waiting) == 0 || bytes.Compare(it.ahead.Key, it.waiting[0].Key) < 0) {
		it.current, it.derived, it.ahead = it.ahead, false, nil
		return true
	}
	first := it.pop()
	it.current, it.derived = &first.Series, first.derived
	for len(it.waiting) > 0 && bytes.Equal(it.waiting[0].Key, first.Key) {
		first.Blocks = append(first.Blocks, it.pop().Blocks...)
	}
	if it.ahead != nil && bytes.Equal(it.ahead.Key, first.Key) { // such series were stored before
		first.Blocks = append(first.Blocks, it.ahead.Blocks...)
		it.ahead = nil
	}
	tsblock.SortBlocks(first.Blocks)
	return true
}

func (it *partsIterator) pop() *part {
	p := heap.Pop(&it.waiting).(*part)
	it.used -= p.size()
	return p
}

// expand adds the parts of a series with histograms. Its samples are the next series, if they are asked for.
func (it *partsIterator) expand(s *storageapi.Series) error {
	it.ahead = nil
	parts, selected, err := it.expander.expand(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		it.used += p.size()
		heap.Push(&it.waiting, p)
	}
	if selected {
		it.own.Key = s.Key
		it.own.Blocks = slices.DeleteFunc(append(it.own.Blocks[:0], s.Blocks...), func(b tsblock.Block) bool { return b.Content() == tsblock.Histograms })
		if len(it.own.Blocks) > 0 {
			it.ahead = &it.own
		}
	}
	return it.reserve()
}

// reserve makes sure that the memory of parts is reserved.
func (it *partsIterator) reserve() error {
	const step = 1 << 20
	if it.budget == nil || it.used <= it.reserved {
		return nil
	}
	more := max(it.used-it.reserved, step)
	if err := it.budget.ReserveMore(more, it.reserved, "the buckets of native histograms"); err != nil {
		return err
	}
	it.reserved += more
	return nil
}

// At implements storageapi.SeriesIterator.
func (it *partsIterator) At() *storageapi.Series { return it.current }

// Err implements storageapi.SeriesIterator.
func (it *partsIterator) Err() error {
	if it.err != nil {
		return it.err
	}
	return it.SeriesIterator.Err()
}

// Close implements storageapi.SeriesIterator.
func (it *partsIterator) Close() error {
	if it.reserved > 0 {
		it.budget.Release(it.reserved)
		it.reserved = 0
	}
	it.waiting, it.expander = nil, nil
	return it.SeriesIterator.Close()
}

// part is a series made of histograms.
type part struct {
	storageapi.Series
	derived bool
}

func (p *part) size() int64 {
	n := int64(128 + len(p.Key))
	for i := range p.Blocks {
		n += int64(64 + len(p.Blocks[i].Timestamps) + len(p.Blocks[i].Values))
	}
	return n
}

// partHeap has the part with the smallest key first. It implements heap.Interface.
type partHeap []*part

func (h partHeap) Len() int           { return len(h) }
func (h partHeap) Less(i, j int) bool { return bytes.Compare(h[i].Key, h[j].Key) < 0 }
func (h partHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *partHeap) Push(x any) { *h = append(*h, x.(*part)) }

// Pop implements heap.Interface.
func (h *partHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return p
}
