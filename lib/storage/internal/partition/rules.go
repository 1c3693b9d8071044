package partition

import (
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/part"
)

// MaxRules bounds the rules of a storage.
const MaxRules = 64

// Rule says what becomes of old samples of some series. Either KeepMin or Level.Interval is set.
type Rule struct {
	// Key names the rule in the meta files of parts: what it does to which series, but for its age.
	Key string
	// Filters returns the filters of the series of one tenant, none of which means all; false when none of the tenant's series are meant.
	Filters func(t model.TenantID) (sets [][]model.TagFilter, ok bool)
	// Filter tells rules of the same series from others. Of rules for downsampling which have it in common the coarser ones reach less far.
	Filter string
	// General rules for downsampling hold for series which no other such rule matches.
	General bool
	KeepMin int64            // older samples are dropped, Unix milliseconds
	Level   downsample.Level // at and before Level.Before samples are thinned out
}

// reach returns the timestamp up to which the rule does something.
func (r *Rule) reach() int64 {
	if r.Level.Interval > 0 {
		return r.Level.Before
	}
	return r.KeepMin - 1
}

// ruleSet is the rules of one merge with the series they are about.
type ruleSet struct {
	rules  []Rule
	series []*roaring.Bitmap
	plans  map[uint64]part.SeriesPlan
}

// resolve finds the series of the rules that reach into the range. The index is asked once per rule and tenant.
func (p *Partition) resolve(ctx context.Context, rules []Rule, span model.TimeRange) (*ruleSet, error) {
	set := &ruleSet{plans: map[uint64]part.SeriesPlan{}}
	month := p.month.Range()
	var tenants []model.TenantID
	for _, r := range rules {
		special := r.Level.Interval > 0 && !r.General // even where it does not reach it keeps general rules off
		if r.reach() < span.Min && !special {
			continue
		}
		if tenants == nil {
			var err error
			if tenants, err = p.index.Tenants(); err != nil {
				return nil, err
			}
		}
		series := roaring.New()
		for _, t := range tenants {
			filters, ok := r.Filters(t)
			if !ok {
				continue
			}
			ids, err := p.index.Search(ctx, index.Query{Tenant: t, Filters: filters, FirstDay: unixDay(month.Min), LastDay: unixDay(month.Max)})
			if err != nil {
				return nil, fmt.Errorf("cannot find the series of rule %s: %w", r.Key, err)
			}
			series.Or(ids)
		}
		set.rules = append(set.rules, r)
		set.series = append(set.series, series)
	}
	return set, nil
}

func unixDay(t int64) int32 {
	const day = 24 * 3600 * 1000
	if t < 0 {
		t -= day - 1
	}
	return int32(t / day)
}

// plan returns what the rules make of a series.
func (s *ruleSet) plan(id uint32) part.SeriesPlan {
	mask := uint64(0)
	for i := range s.series {
		if s.series[i].Contains(id) {
			mask |= 1 << i
		}
	}
	if mask == 0 {
		return part.SeriesPlan{}
	}
	plan, ok := s.plans[mask]
	if !ok {
		plan = s.combine(mask)
		s.plans[mask] = plan
	}
	return plan
}

// combine makes one plan of all rules that match a series: the shortest retention, and of the levels those that grow.
func (s *ruleSet) combine(mask uint64) part.SeriesPlan {
	var plan part.SeriesPlan
	var special, general []downsample.Level
	for i := range s.rules {
		r := &s.rules[i]
		switch {
		case mask>>i&1 == 0:
		case r.Level.Interval == 0:
			plan.KeepMin = max(plan.KeepMin, r.KeepMin)
		case r.General:
			general = append(general, r.Level)
		default:
			special = append(special, r.Level)
		}
	}
	if len(special) == 0 {
		special = general
	}
	slices.SortStableFunc(special, func(a, b downsample.Level) int {
		if a.Before != b.Before {
			return int(min(1, max(-1, b.Before-a.Before)))
		}
		return int(min(1, max(-1, a.Interval-b.Interval)))
	})
	for _, l := range special {
		if n := len(plan.Levels); n == 0 || l.Interval > plan.Levels[n-1].Interval && l.Interval%plan.Levels[n-1].Interval == 0 {
			plan.Levels = append(plan.Levels, l)
		}
	}
	return plan
}

// rules returns the rules as of now.
func (p *Partition) rules() []Rule {
	if p.o.Rules == nil {
		return nil
	}
	return p.o.Rules()
}
