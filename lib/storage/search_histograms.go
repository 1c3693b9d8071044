package storage

import (
	"regexp"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/tsblock"
)

// partSuffixes are what the names of the series end in as which a native histogram shows, behind its own name.
func partSuffixes() [3]string { return [3]string{"_bucket", "_count", "_sum"} }

// isRangeLabel reports whether a native histogram has any value of the label: its buckets have.
func isRangeLabel(name string) bool { return name == "vmrange" || name == "le" }

// baseFilters returns the filters of the native histograms of whose parts the filters speak: for each set which names metrics one by one, those whose names
// are the parts', or have buckets asked for. Filters which cannot be compiled are the index's to refuse.
func baseFilters(sets [][]model.TagFilter) [][]model.TagFilter {
	var all [][]model.TagFilter
	for _, set := range sets {
		if base := baseFiltersOf(set); base != nil {
			all = append(all, base)
		}
	}
	return all
}

func baseFiltersOf(set []model.TagFilter) []model.TagFilter {
	var named []string
	var matchers []*model.Matcher
	base := make([]model.TagFilter, 1, 1+len(set))
	ofBuckets := false
	for _, f := range set {
		switch {
		case isRangeLabel(f.Name):
			ofBuckets = true
			continue
		case f.Name != model.MetricNameLabel:
			base = append(base, f)
			continue
		}
		m, err := f.Compile()
		if err != nil {
			return nil
		}
		matchers = append(matchers, m)
		if literals, ok := m.Literals(); ok && !m.Negative() && named == nil {
			named = literals
		}
	}
	names := baseNames(named, matchers, ofBuckets)
	if len(names) == 0 {
		return nil
	}
	base[0] = model.TagFilter{Name: model.MetricNameLabel, Op: model.Regexp, Value: strings.Join(names, "|")}
	return base
}

// baseNames returns the names, quoted for a regular expression, of the native histograms which show under those of the given names that all matchers pass.
func baseNames(named []string, matchers []*model.Matcher, ofBuckets bool) []string {
	var names []string
	for _, name := range named {
		if slices.ContainsFunc(matchers, func(m *model.Matcher) bool { return !m.Match(name) }) {
			continue
		}
		if ofBuckets {
			names = append(names, regexp.QuoteMeta(name))
		}
		for _, suffix := range partSuffixes() {
			if base, ok := strings.CutSuffix(name, suffix); ok && base != "" {
				names = append(names, regexp.QuoteMeta(base))
			}
		}
	}
	return names
}

// addBases adds the series to ids whose native histograms the search means by the name of a part. They go into the next view.
func (it *iterator) addBases(p *partition.Partition, iq index.Query, ids *roaring.Bitmap) (*roaring.Bitmap, error) {
	if len(it.baseFilters) == 0 || !p.HasHistograms() {
		return ids, nil
	}
	iq.Filters = it.baseFilters
	bases, err := p.Index().Search(it.ctx, iq)
	if err != nil {
		return ids, err
	}
	bases = roaring.AndNot(bases, ids)
	if bases.IsEmpty() {
		return ids, nil
	}
	if it.bases == nil {
		it.bases = map[int32]*roaring.Bitmap{}
	}
	it.bases[int32(len(it.views))] = bases
	return roaring.Or(ids, bases), nil
}

// isBase reports whether a series is in the answer for the sake of its native histograms only.
func (it *iterator) isBase(f *found) bool {
	if it.bases == nil {
		return false
	}
	bases := it.bases[f.view]
	return bases != nil && bases.Contains(f.id)
}

func isHistograms(b tsblock.Block) bool { return b.Content() == tsblock.Histograms }

// reduceToNewest leaves the newest sample of the current series, and all its native histograms.
func (it *iterator) reduceToNewest() {
	kind := it.detail == model.NewestKind
	if it.histograms == model.NoHistograms || !slices.ContainsFunc(it.blocks, isHistograms) {
		it.series.Blocks = it.newest.reduce(it.blocks, kind)
		return
	}
	var samples, histograms []tsblock.Block
	for _, b := range it.blocks {
		if isHistograms(b) {
			histograms = append(histograms, b)
		} else {
			samples = append(samples, b)
		}
	}
	it.series.Blocks = append(histograms, it.newest.reduce(samples, kind)...)
	tsblock.SortBlocks(it.series.Blocks)
}

// cutHistograms appends those of a block of native histograms from a time on as a block.
func (it *iterator) cutHistograms(blocks []tsblock.Block, b *tsblock.Block, from int64) []tsblock.Block {
	it.cutOff.Reset()
	one := [1]tsblock.Block{*b}
	if err := tsblock.ReadHistograms(&it.cutOff, one[:], model.TimeRange{Min: from, Max: b.MaxTimestamp}, 0, &it.scratch); err != nil {
		it.note(err)
		return blocks
	}
	blocks, it.buf = it.encoder.AppendHistogramBlocks(blocks, it.buf, &it.cutOff)
	return blocks
}
