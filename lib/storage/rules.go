package storage

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/tsblock"
)

// SeriesRule says which series a rule for old samples is about. The labels vm_account_id and vm_project_id stand for the tenant.
type SeriesRule struct {
	Text    string              // of the filters, as its user wrote it; empty for all series
	Filters [][]model.TagFilter // alternatives; none for all series
}

// RetentionRule keeps samples of some series for a shorter time than -retentionPeriod.
type RetentionRule struct {
	SeriesRule
	Keep time.Duration
}

// DownsamplingRule thins out samples older than Offset to a few per Interval. For series which a rule with filters matches, rules without
// do not hold.
type DownsamplingRule struct {
	SeriesRule
	Offset   time.Duration
	Interval time.Duration
}

// checkRules refuses rules which contradict each other.
func (c *Config) checkRules() error {
	if n := len(c.RetentionRules) + len(c.DownsamplingRules); n > partition.MaxRules {
		return fmt.Errorf("cannot open storage: -retentionFilter and -downsampling.period have %d rules together; at most %d are allowed", n, partition.MaxRules)
	}
	for _, r := range c.RetentionRules {
		if r.Keep < time.Hour {
			return fmt.Errorf("cannot open storage: -retentionFilter=%s:%s keeps samples for too short a time; set it to at least 1h", r.Text, r.Keep)
		}
		if err := r.compile(); err != nil {
			return fmt.Errorf("cannot open storage: bad -retentionFilter=%s:%s: %w", r.Text, r.Keep, err)
		}
	}
	byText := map[string][]DownsamplingRule{}
	for _, r := range c.DownsamplingRules {
		if r.Interval < time.Second || r.Interval > 31*24*time.Hour || r.Offset < r.Interval || r.Interval%time.Millisecond != 0 {
			return fmt.Errorf("cannot open storage: bad -downsampling.period=%s: want an interval between 1s and 31d, and an offset which is not shorter", &r)
		}
		if err := r.compile(); err != nil {
			return fmt.Errorf("cannot open storage: bad -downsampling.period=%s: %w", &r, err)
		}
		byText[r.Text] = append(byText[r.Text], r)
	}
	for _, rules := range byText {
		if err := checkLevels(rules); err != nil {
			return err
		}
	}
	return nil
}

// checkLevels demands that intervals grow with offsets, each a multiple of the one before.
func checkLevels(rules []DownsamplingRule) error {
	slices.SortFunc(rules, func(a, b DownsamplingRule) int { return int(min(1, max(-1, a.Offset-b.Offset))) })
	for i := 1; i < len(rules); i++ {
		a, b := &rules[i-1], &rules[i]
		if a.Offset == b.Offset || b.Interval <= a.Interval || b.Interval%a.Interval != 0 {
			return fmt.Errorf("cannot open storage: -downsampling.period=%s does not go with %s: a longer offset needs an interval which is a multiple of the shorter one", b, a)
		}
	}
	return nil
}

// String renders the rule as the flag has it.
func (r *DownsamplingRule) String() string {
	text := r.Text
	if text != "" {
		text += ":"
	}
	return text + r.Offset.String() + ":" + r.Interval.String()
}

// The labels of filters which stand for the tenant.
const (
	accountLabel = "vm_account_id"
	projectLabel = "vm_project_id"
)

func (r *SeriesRule) compile() error {
	for _, set := range r.Filters {
		for _, f := range set {
			if _, err := f.Compile(); err != nil {
				return err
			}
		}
	}
	return nil
}

// filters returns the filters of the series of one tenant; false when none of them is meant.
func (r *SeriesRule) filters(t model.TenantID) ([][]model.TagFilter, bool) {
	if len(r.Filters) == 0 {
		return nil, true
	}
	var sets [][]model.TagFilter
	for _, set := range r.Filters {
		rest := make([]model.TagFilter, 0, len(set))
		ok := true
		for _, f := range set {
			value, isTenant := tenantLabel(t, f.Name)
			if !isTenant {
				rest = append(rest, f)
				continue
			}
			m, err := f.Compile() // checked at the start
			ok = ok && err == nil && m.Match(value)
		}
		switch {
		case !ok:
		case len(rest) == 0:
			return nil, true
		default:
			sets = append(sets, rest)
		}
	}
	return sets, len(sets) > 0
}

func tenantLabel(t model.TenantID, name string) (value string, ok bool) {
	switch name {
	case accountLabel:
		return strconv.FormatUint(uint64(t.AccountID), 10), true
	case projectLabel:
		return strconv.FormatUint(uint64(t.ProjectID), 10), true
	}
	return "", false
}

// rulesNow returns the rules with the timestamps that follow from the clock.
func (s *Storage) rulesNow() []partition.Rule {
	now := s.o.Now().UnixMilli()
	var rules []partition.Rule
	for i := range s.cfg.RetentionRules {
		r := &s.cfg.RetentionRules[i]
		rules = append(rules, partition.Rule{
			Key: "retention of " + r.Text, Filter: r.Text, Filters: r.filters, KeepMin: now - r.Keep.Milliseconds(),
		})
	}
	for i := range s.cfg.DownsamplingRules {
		r := &s.cfg.DownsamplingRules[i]
		interval := r.Interval.Milliseconds()
		before := now - r.Offset.Milliseconds()
		rules = append(rules, partition.Rule{
			Key: fmt.Sprintf("interval %s of %s", r.Interval, r.Text), Filter: r.Text, Filters: r.filters, General: len(r.Filters) == 0,
			Level: downsample.Level{Before: before - before%interval, Interval: interval},
		})
	}
	return rules
}

// startSettled tells the partitions after the start that the log has no copy of anything, when it is empty. Otherwise the next flush
// does; it is owed, unless samples in heads bring it about.
func (s *Storage) startSettled() {
	if s.log.SizeBytes() > 0 {
		if s.headBytes.Load() == 0 {
			s.flushOwed.Store(true)
		}
		return
	}
	for _, p := range s.table.Load().sorted {
		p.MarkCut()
		p.Settle()
	}
}

// shorter says of which series of a month a search must not return samples before a time.
type shorter struct {
	from   int64
	series *roaring.Bitmap
}

// noteShorter asks the index which series of the last view have a retention of their own that the search reaches back beyond. Most
// searches are for younger samples, and ask nothing.
func (it *iterator) noteShorter(p *partition.Partition, t model.TenantID) error {
	if it.keysOnly || len(it.s.cfg.RetentionRules) == 0 {
		return nil
	}
	now := it.s.o.Now().UnixMilli()
	month := p.Month().Range()
	view := len(it.views) - 1
	for i := range it.s.cfg.RetentionRules {
		r := &it.s.cfg.RetentionRules[i]
		from := now - r.Keep.Milliseconds()
		filters, ok := r.filters(t)
		if !ok || from <= max(it.r.Min, month.Min) {
			continue
		}
		ids, err := p.Index().Search(it.ctx, index.Query{Tenant: t, Filters: filters, FirstDay: unixDay(max(it.r.Min, month.Min)), LastDay: unixDay(min(it.r.Max, month.Max))})
		if err != nil {
			return fmt.Errorf("cannot find the series of -retentionFilter=%s: %w", r.Text, err)
		}
		if it.shorter == nil {
			it.shorter = map[int][]shorter{}
		}
		it.shorter[view] = append(it.shorter[view], shorter{from: from, series: ids})
	}
	return nil
}

// readableFrom returns the time from which on samples of a series are inside of its retention.
func (it *iterator) readableFrom(f *found) int64 {
	from := it.r.Min
	for _, x := range it.shorter[int(f.view)] {
		if x.from > from && x.series.Contains(f.id) {
			from = x.from
		}
	}
	return from
}

// selectAsked removes the blocks which are not asked for, from the nth on.
func (it *iterator) selectAsked(blocks []tsblock.Block, n int) []tsblock.Block {
	unasked := func(b tsblock.Block) bool {
		c := b.Content()
		return !c.Serves(it.aspect) && (c != tsblock.Histograms || it.histograms == model.NoHistograms)
	}
	return blocks[:n+len(slices.DeleteFunc(blocks[n:], unasked))]
}

// checkWish refuses what is not known: an older node must not give samples of another kind.
func checkWish(q *model.SearchQuery) error {
	if q.Aspect > model.AspectMean {
		return errkind.New(errkind.Unsupported, "cannot search for aspect %d of samples: this release knows aspects up to %d; use a newer release", q.Aspect, model.AspectMean)
	}
	if q.Histograms > model.HistogramParts {
		return errkind.New(errkind.Unsupported, "cannot search for native histograms in form %d: this release knows forms up to %d; use a newer release", q.Histograms, model.HistogramParts)
	}
	return nil
}
