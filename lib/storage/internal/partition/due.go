package partition

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/part"
)

// A sample which is in two parts is counted once as long as both copies are raw: whoever reads or merges them sees that they are the same. In a
// column of sums it cannot be seen any more. So a time is downsampled in a merge only if the merge has all parts with raw samples
// of it, but for parts of other series, and if no such samples are on their way: in a head, or in the log, which gives back after a crash what it has.
// Copies that come later are new samples.

// chain are the downsampling rules of one filter by rising interval. What the first has not reached is raw.
type chain struct {
	filter string
	rules  []Rule
	limit  int64 // of the merge at hand: what is later stays as it is
}

func chainsOf(rules []Rule) []chain {
	var chains []chain
	for _, r := range rules {
		if r.Level.Interval == 0 {
			continue
		}
		i := slices.IndexFunc(chains, func(c chain) bool { return c.filter == r.Filter })
		if i < 0 {
			i = len(chains)
			chains = append(chains, chain{filter: r.Filter, limit: math.MaxInt64})
		}
		chains[i].rules = append(chains[i].rules, r)
	}
	for i := range chains {
		slices.SortFunc(chains[i].rules, func(a, b Rule) int { return cmp.Compare(a.Level.Interval, b.Level.Interval) })
	}
	return chains
}

// raw returns the range of a part that the chain reaches and has not been applied to; Min is beyond Max when there is none.
func (c *chain) raw(e *entry) model.TimeRange {
	return model.TimeRange{Min: max(e.MinTimestamp, e.appliedTo(c.rules[0].Key)+1), Max: min(e.MaxTimestamp, c.rules[0].reach())}
}

// overlapKey names two parts and the time from which on they are compared.
type overlapKey struct {
	a, b string
	from int64
}

// maxOverlaps bounds how many comparisons are remembered.
const maxOverlaps = 4096

// shared returns the lowest time at which both parts may have the same raw sample and the chain reaches it; false when there is none. A part
// whose index cannot be read counts as one which has them all. The caller holds mergeMu.
func (p *Partition) shared(c *chain, e, f *entry) (at int64, ok bool) {
	a, b := c.raw(e), c.raw(f)
	from := max(a.Min, b.Min)
	if from > min(a.Max, b.Max) {
		return 0, false
	}
	key := overlapKey{e.name, f.name, from}
	at, known := p.overlaps[key]
	if !known {
		if p.overlaps == nil || len(p.overlaps) >= maxOverlaps {
			p.overlaps = map[overlapKey]int64{}
		}
		var err error
		at, ok, err = part.FirstOverlap(e.Part, f.Part, model.TimeRange{Min: from, Max: math.MaxInt64})
		switch {
		case err != nil:
			at = from
		case !ok:
			at = math.MaxInt64
		}
		p.overlaps[key], p.overlaps[overlapKey{f.name, e.name, from}] = at, at
	}
	return at, at <= c.rules[0].reach()
}

// closure returns a part together with those that have to be merged with it, before the chains may be applied to all of them.
func (p *Partition) closure(chains []chain, e *entry, candidates []*entry) []*entry {
	members := map[*entry]bool{e: true}
	for open := []*entry{e}; len(open) > 0; open = open[1:] {
		for _, f := range candidates {
			if !members[f] && p.haveShared(chains, open[0], f) {
				members[f] = true
				open = append(open, f)
			}
		}
	}
	delete(members, e) // it need not be a candidate
	return append(slices.DeleteFunc(slices.Clone(candidates), func(f *entry) bool { return !members[f] }), e)
}

func (p *Partition) haveShared(chains []chain, e, f *entry) bool {
	return slices.ContainsFunc(chains, func(c chain) bool {
		_, ok := p.shared(&c, e, f)
		return ok
	})
}

// setLimits sets up to which time a merge of parts may apply the chains, so that no part outside of it has raw samples of that time.
func (p *Partition) setLimits(chains []chain, parts, candidates []*entry) {
	others := slices.DeleteFunc(slices.Clone(candidates), func(f *entry) bool { return slices.Contains(parts, f) })
	for i := range chains {
		chains[i].limit = math.MaxInt64
		for _, f := range others {
			p.limitBy(&chains[i], parts, f)
		}
	}
}

// limitBy lowers the limit of a chain so far that none of the raw samples which the parts share with another are reached.
func (p *Partition) limitBy(c *chain, parts []*entry, other *entry) {
	for _, e := range parts {
		if at, ok := p.shared(c, e, other); ok {
			c.limit = min(c.limit, at-1)
		}
	}
}

// lowerUnsettled lowers the limits so far that no sample is reached which may have a copy in a head or in the log.
func (p *Partition) lowerUnsettled(chains []chain, parts []*entry) {
	for i := range chains {
		c := &chains[i]
		for _, e := range parts {
			r := c.raw(e)
			if r.Min > min(r.Max, c.limit) {
				continue
			}
			if _, found := p.unsettledIn(r); found {
				c.limit = r.Min - 1
			}
		}
	}
}

// within returns the rules as the limits of the chains leave them.
func within(rules []Rule, chains []chain) []Rule {
	out := slices.Clone(rules)
	for i := range out {
		l := &out[i].Level
		for j := range chains {
			if limit := max(0, chains[j].limit); l.Interval > 0 && chains[j].filter == out[i].Filter && limit < l.Before {
				l.Before = limit - limit%l.Interval
			}
		}
	}
	return out
}

// appliedOf returns what the meta file of a merge of parts says of the rules: the lowest time from which on some of its samples may be raw.
func appliedOf(rules []Rule, parts []*entry) map[string]int64 {
	if len(rules) == 0 {
		return nil
	}
	applied := make(map[string]int64, len(rules))
	for i := range rules {
		applied[rules[i].Key] = rules[i].appliedAfter(parts)
	}
	return applied
}

func (r *Rule) appliedAfter(parts []*entry) int64 {
	reach := r.reach()
	if r.Level.Interval == 0 {
		return reach
	}
	rawFrom, everything := int64(math.MaxInt64), reach
	for _, e := range parts {
		to := max(reach, e.appliedTo(r.Key))
		everything = max(everything, to)
		if to < e.MaxTimestamp {
			rawFrom = min(rawFrom, max(to, e.MinTimestamp-1))
		}
	}
	return min(rawFrom, everything)
}

// wait is what a part that rules ask for waits for: samples of its time that were in heads or in the log when it was first looked at. Those that come
// later do not matter, so that a stream of late samples cannot keep it waiting.
type wait struct {
	epoch int64            // has to be settled
	reach map[string]int64 // by filter of a chain: how far it reached then
}

// join returns what a merge of two parts waits for.
func (w *wait) join(o *wait) *wait {
	if w == nil || o == nil {
		return cmp.Or(w, o)
	}
	reach := maps.Clone(w.reach)
	for filter, to := range o.reach {
		reach[filter] = min(to, reach[filter])
	}
	return &wait{epoch: max(w.epoch, o.epoch), reach: reach}
}

// mustWait reports whether a part that rules ask for has to wait, together with the others of its closure. When it has waited, limits are set
// where samples on their way may be copies of such that the chains have reached since.
func (p *Partition) mustWait(chains []chain, e *entry, closure []*entry, settled int64) bool {
	if e.waits == nil {
		w := &wait{epoch: -1, reach: map[string]int64{}}
		for i := range chains {
			w.reach[chains[i].filter] = chains[i].rules[0].reach()
			w.epoch = max(w.epoch, p.unsettledOf(&chains[i], closure))
		}
		if w.epoch < 0 {
			return false
		}
		e.waits = w
	}
	return settled < e.waits.epoch
}

// unsettledOf returns the epoch of the youngest samples that the log may still hold of times at which the parts are raw; -1 for none.
func (p *Partition) unsettledOf(c *chain, parts []*entry) int64 {
	youngest := int64(-1)
	for _, e := range parts {
		if epoch, found := p.unsettledIn(c.raw(e)); found {
			youngest = max(youngest, epoch)
		}
	}
	return youngest
}

// lowerLate lowers the limits of a merge for a part which has waited: not beyond what chains reached when it began to, where
// there are samples on their way.
func (p *Partition) lowerLate(chains []chain, e *entry, parts []*entry) {
	if e.waits == nil {
		return
	}
	for i := range chains {
		c := &chains[i]
		reached := e.waits.reach[c.filter]
		for _, f := range parts {
			r := c.raw(f)
			if r.Min = max(r.Min, reached+1); r.Min > min(r.Max, c.limit) {
				continue
			}
			if _, found := p.unsettledIn(r); found {
				c.limit = r.Min - 1
			}
		}
	}
}

// dueSpan is the least stretch of time for which a part is rewritten. Larger parts wait for more, so that each is rewritten a few times at most.
const dueSpan = 24 * 3600 * 1000

// behind returns how much of the part's time the rule reaches and has not been applied to, in milliseconds.
func (r *Rule) behind(e *entry) int64 {
	return min(e.MaxTimestamp, r.reach()) - max(e.MinTimestamp-1, e.appliedTo(r.Key))
}

// due reports whether the rule is to be applied to the part now.
func (r *Rule) due(e *entry) bool {
	n := r.behind(e)
	return n > 0 && (r.reach() >= e.MaxTimestamp || n >= max(dueSpan, (e.MaxTimestamp-e.MinTimestamp)/8))
}

// appliedTo returns up to which timestamp a rule has been applied to the part.
func (e *entry) appliedTo(key string) int64 {
	if to, ok := e.passed[key]; ok {
		return to
	}
	to, ok := e.Meta().Applied[key]
	if !ok {
		return e.MinTimestamp - 1
	}
	return to
}

// pickDue returns the parts of a merge which some rule asks for, and the rules to apply in it; none when there is nothing to do. The
// caller holds mergeMu.
func (p *Partition) pickDue(ctx context.Context, parts []*entry, maxOutputBytes int64) ([]*entry, []Rule, error) {
	rules := p.rules()
	if len(rules) == 0 {
		return nil, nil, nil
	}
	chains := chainsOf(rules)
	settled, candidates := p.settledParts()
	for _, e := range parts {
		due := dueRules(rules, e)
		if len(due) == 0 || e.SizeBytes > maxOutputBytes {
			continue
		}
		closure := []*entry{e}
		if len(chainsOf(due)) > 0 {
			closure = p.closure(chains, e, candidates)
			if p.mustWait(chains, e, closure, settled) {
				continue
			}
		}
		if concerned, err := p.concerns(ctx, due, e); err != nil {
			return nil, nil, err
		} else if !concerned {
			continue
		}
		if len(chainsOf(due)) == 0 {
			return closure, p.carefulRules(closure), nil // there is nothing to wait for before samples are left out
		}
		for _, chosen := range [][]*entry{closure, {e}} {
			p.setLimits(chains, chosen, candidates)
			p.lowerLate(chains, e, chosen)
			limited := within(rules, chains)
			if len(dueRules(limited, e)) > 0 && affordable(rules, chosen, maxOutputBytes) {
				forgetWaits(chosen)
				return chosen, limited, nil
			}
		}
		forgetWaits([]*entry{e}) // the next look finds out anew what there is to wait for
	}
	return nil, nil, nil
}

func forgetWaits(parts []*entry) {
	for _, e := range parts {
		e.waits = nil
	}
}

func dueRules(rules []Rule, e *entry) (due []Rule) {
	for _, r := range rules {
		if r.due(e) {
			due = append(due, r)
		}
	}
	return due
}

// affordable reports whether a merge is worthwhile: the parts which no rule asks for yet are not larger together than the others. They wait until a rule
// asks for them, too.
func affordable(rules []Rule, parts []*entry, maxOutputBytes int64) bool {
	var due, others int64
	for _, e := range parts {
		if len(dueRules(rules, e)) > 0 {
			due += e.SizeBytes
		} else {
			others += e.SizeBytes
		}
	}
	return others <= due && due+others <= maxOutputBytes
}

// concerns reports whether some of the rules are about series of the part. What it finds out is remembered.
func (p *Partition) concerns(ctx context.Context, rules []Rule, e *entry) (bool, error) {
	if slices.ContainsFunc(rules, func(r Rule) bool { return e.concerned[r.Key] }) {
		return true, nil
	}
	set, err := p.resolve(ctx, rules, model.TimeRange{Min: e.MinTimestamp, Max: e.MaxTimestamp})
	if err != nil {
		return false, err
	}
	ids := idsOf(e)
	for i, r := range set.rules {
		if set.series[i].Intersects(ids) {
			e.concerned = map[string]bool{r.Key: true}
			return true, nil
		}
		// None of its series: there is nothing to write, and no need to look again.
		if e.passed == nil {
			e.passed = map[string]int64{}
		}
		e.passed[r.Key] = r.reach()
	}
	return false, nil
}
