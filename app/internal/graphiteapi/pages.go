package graphiteapi

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// Sizes of the pages that values of a label are read in: the first is small, since one branch often fills it, and each is larger than the one
// before, since every page costs the index a look at all values.
const (
	minPage = 1000
	maxPage = 64_000
)

// pager reads the values of a label in order, in pages, and can skip those below a branch.
type pager struct {
	api    *API
	r      *request
	label  string
	filter []model.TagFilter
	times  model.TimeRange
	done   passed
}

// passed is the part of a sorted list of texts that has been read: all texts up to path, itself included, of those there are. It
// is kept as the few prefixes and texts which cover it. Index seeks prefixes; "later than" would have it look at every text.
type passed struct {
	path  []rune
	lower [][]rune // at each position: which runes that are lower than that of path the texts had there, after the same beginning
	exact []bool   // at each position: a text ended there
	skip  bool     // texts which begin with path are passed, too
}

// advance moves on to a later text; with skip beyond all texts which begin with it.
func (d *passed) advance(text string, skip bool) {
	path := []rune(text)
	n := 0
	for n < len(path) && n < len(d.path) && path[n] == d.path[n] {
		n++
	}
	if n < len(d.path) {
		lower := append(d.lower[n], d.path[n])
		d.lower, d.exact = append(d.lower[:n], lower), d.exact[:n+1]
	}
	for len(d.lower) <= len(path) {
		d.lower = append(d.lower, nil)
	}
	for len(d.exact) <= len(path) {
		d.exact = append(d.exact, false)
	}
	d.path, d.skip = path, skip
	d.exact[len(path)] = !skip
}

// appendTo appends filters which texts that were passed do not pass.
func (d *passed) appendTo(filters []model.TagFilter, label string) []model.TagFilter {
	without := func(prefix string) {
		filters = append(filters, model.TagFilter{Name: label, Op: model.NotRegexp, Value: regexp.QuoteMeta(prefix) + "(?s:.*)"})
	}
	for i := range d.lower {
		if d.exact[i] {
			filters = append(filters, model.TagFilter{Name: label, Op: model.NotEqual, Value: string(d.path[:i])})
		}
		for _, r := range d.lower[i] {
			without(string(d.path[:i]) + string(r))
		}
	}
	if d.skip {
		without(string(d.path))
	}
	return filters
}

// next returns the next values; none at the end.
func (p *pager) next(ctx context.Context, size int) ([]string, error) {
	q := &model.SearchQuery{Tenant: p.r.tenant, Range: p.times, KeysOnly: true}
	if filters := p.done.appendTo(slices.Clone(p.filter), p.label); len(filters) > 0 {
		q.Filters = [][]model.TagFilter{filters}
	}
	found, err := p.api.o.Searcher.LabelValues(ctx, q, p.label, size)
	if err != nil {
		return nil, err
	}
	if err := p.api.covered(p.r, found.Coverage); err != nil {
		return nil, err
	}
	if values := found.Values; len(values) > 0 && values[0] <= string(p.done.path) {
		return nil, errkind.New(errkind.Internal, "cannot list the values of label %q after %q: they come in another order than by bytes; are they valid UTF-8?", p.label, string(p.done.path))
	}
	return found.Values, nil
}

// each calls f with all values. If f returns a branch, the beginning of the value, values which begin with it are not read any more.
func (p *pager) each(ctx context.Context, f func(value string) (branch string, err error)) error {
	for size := minPage; ; size = min(4*size, maxPage) {
		values, err := p.next(ctx, size)
		if err != nil {
			return err
		}
		skipped, skipping := "", false
		for _, v := range values {
			if skipping && strings.HasPrefix(v, skipped) {
				continue
			}
			if skipped, err = f(v); err != nil {
				return err
			}
			if skipping = skipped != ""; skipping {
				v = skipped
			}
			p.done.advance(v, skipping)
		}
		if len(values) < minPage { // storage may cut larger pages, see -search.maxTagValues
			return nil
		}
	}
}
