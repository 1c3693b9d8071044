package partition

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/part"
)

// MergeNext runs the merge which PickMerge asks for, and drops parts outside
// of keep. It returns false when there was nothing to do.
func (p *Partition) MergeNext(ctx context.Context, keep model.TimeRange, maxOutputBytes int64) (bool, error) {
	if p.mergeIndex(ctx) {
		return true, nil
	}
	p.mergeMu.Lock()
	defer p.mergeMu.Unlock()
	parts := p.snapshot()
	infos := make([]PartInfo, len(parts))
	for i := range parts {
		infos[i] = parts[i].PartInfo
	}
	if expired := PickExpired(infos, keep); len(expired) > 0 {
		return true, p.dropPartsLocked(choose(parts, expired))
	}
	picked := PickMerge(infos, maxOutputBytes)
	if len(picked) == 0 {
		return p.rewriteNextLocked(ctx, parts, keep, maxOutputBytes)
	}
	chosen := choose(parts, picked)
	left, err := p.reachable(chosen)
	if err != nil || len(left) < len(chosen) {
		return true, err // the next call picks others
	}
	return true, p.mergeLocked(ctx, chosen, keep, p.carefulRules(chosen))
}

// carefulRules returns the rules as far as a merge which was not picked for their sake may apply them.
func (p *Partition) carefulRules(parts []*entry) []Rule {
	rules := p.rules()
	chains := chainsOf(rules)
	if len(chains) == 0 {
		return rules
	}
	_, candidates := p.settledParts()
	p.setLimits(chains, parts, candidates)
	p.lowerUnsettled(chains, parts)
	return within(rules, chains)
}

// mergeIndex merges segments of the index when there are many. Its failure must not keep parts from being merged.
func (p *Partition) mergeIndex(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	more, err := p.index.MergeNext(ctx)
	if err != nil && ctx.Err() == nil {
		p.o.Logger.Errorf("%s; it is tried again later; check the free space and the health of the disk", err)
	}
	return more && err == nil
}

// MergeAll merges all parts into one, which needs maxOutputBytes to cover them. With rules for downsampling it leaves out parts
// which are not settled: callers flush and settle before.
func (p *Partition) MergeAll(ctx context.Context, keep model.TimeRange, maxOutputBytes int64) error {
	p.mergeMu.Lock()
	defer p.mergeMu.Unlock()
	rules, parts := p.rules(), p.snapshot()
	if len(chainsOf(rules)) > 0 {
		_, parts = p.settledParts()
	}
	parts, err := p.reachable(parts)
	if err != nil {
		return err
	}
	var need int64
	single := len(parts) == 1
	deleted := p.deleted()
	for _, e := range parts {
		need += e.SizeBytes
		single = single && keep.Contains(e.MinTimestamp) && keep.Contains(e.MaxTimestamp) && !e.hasAny(deleted)
	}
	if len(parts) == 0 || single && p.o.MinIntervalMs == 0 && !slices.ContainsFunc(rules, func(r Rule) bool { return r.behind(parts[0]) > 0 }) {
		return nil
	}
	if need > maxOutputBytes {
		return errkind.New(errkind.Overloaded, "cannot merge partition %s: its %d parts need up to %d bytes of disk space and %d can be used; free some space first",
			p.month, len(parts), need, max(0, maxOutputBytes))
	}
	return p.mergeLocked(ctx, parts, keep, rules)
}

// reachable returns the parts all of whose series are in the index, and takes the others out of merging: the index has lost a
// segment, and without their keys they cannot be merged. What the index knows of them is served.
func (p *Partition) reachable(parts []*entry) ([]*entry, error) {
	var known *roaring.Bitmap
	var left []*entry
	for _, e := range parts {
		if e.known {
			left = append(left, e)
			continue
		}
		if known == nil {
			var err error
			if known, err = p.index.Known(); err != nil {
				return nil, err
			}
		}
		ids := idsOf(e)
		ids.AndNot(known)
		if e.known = ids.IsEmpty(); e.known {
			left = append(left, e)
			continue
		}
		e.damaged.Store(true)
		p.o.Logger.Errorf("part %s with %d samples of %s has %d series which are not in the index any more; it is kept and not merged; restore the whole directory %s from a backup to get them back",
			e.Dir(), e.Rows, model.TimeRange{Min: e.MinTimestamp, Max: e.MaxTimestamp}, ids.GetCardinality(), p.dir)
	}
	return left, nil
}

func idsOf(parts ...*entry) *roaring.Bitmap {
	ids := roaring.New()
	for _, e := range parts {
		e.Series(func(id uint32) bool {
			ids.Add(id)
			return true
		})
	}
	return ids
}

// snapshot returns the parts which merges may take.
func (p *Partition) snapshot() []*entry {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var parts []*entry
	for _, e := range p.mu.parts {
		if !e.damaged.Load() {
			parts = append(parts, e)
		}
	}
	return parts
}

func spanOf(parts []*entry) model.TimeRange {
	span := model.TimeRange{Min: parts[0].MinTimestamp, Max: parts[0].MaxTimestamp}
	for _, e := range parts[1:] {
		span.Min, span.Max = min(span.Min, e.MinTimestamp), max(span.Max, e.MaxTimestamp)
	}
	return span
}

func choose(parts []*entry, indexes []int) []*entry {
	var chosen []*entry
	for _, i := range indexes {
		chosen = append(chosen, parts[i])
	}
	return chosen
}

func (p *Partition) dropPartsLocked(parts []*entry) error {
	if err := p.publish(nil, parts, nil); err != nil {
		return err
	}
	for _, e := range parts {
		p.mergeCounters(e.SizeBytes).Deleted.Add(int(e.Rows))
		e.DeleteOnRelease()
		e.Release()
	}
	return nil
}

// mergeLocked merges parts into one and applies rules for old samples. The list of parts keeps them alive meanwhile, since only merges remove parts.
func (p *Partition) mergeLocked(ctx context.Context, parts []*entry, keep model.TimeRange, old []Rule) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	order, deleted, err := p.keyOrder(ctx, parts)
	if err != nil {
		return err
	}
	set, err := p.resolve(ctx, old, spanOf(parts))
	if err != nil {
		return err
	}
	rules := part.MergeRules{Keep: keep, MinIntervalMs: p.o.MinIntervalMs}
	if len(set.rules) > 0 {
		rules.Series = set.plan
	}
	if !deleted.IsEmpty() {
		rules.Drop = deleted.Contains
	}
	sources := make([]*part.Part, len(parts))
	var before, size int64
	for i, e := range parts {
		sources[i] = e.Part
		before += e.Rows
		size += e.SizeBytes
	}
	c := p.mergeCounters(size)
	c.Active.Add(1)
	defer c.Active.Add(-1)
	fill := func(w *part.Writer) error {
		rules.Deduplicated = 0
		w.SetApplied(appliedOf(old, parts))
		return part.Merge(ctx, w, sources, order, &rules)
	}
	rows, err := p.writePart(fill, parts, nil)
	if errkind.Of(err) == errkind.Corrupt {
		p.findDamaged(ctx, parts)
	}
	if err != nil {
		return fmt.Errorf("cannot merge %d parts of partition %s: %w", len(parts), p.month, err)
	}
	c.Merges.Inc()
	c.Rows.Add(int(rows))
	p.o.Stats.Deduplicated.Add(int(rules.Deduplicated))
	c.Deleted.Add(int(max(0, before-rows-rules.Deduplicated)))
	return nil
}

func (p *Partition) mergeCounters(sizeBytes int64) *MergeCounters {
	if sizeBytes < bigPartBytes {
		return &p.o.Stats.Small
	}
	return &p.o.Stats.Big
}

// findDamaged takes damaged parts out of merging, so that the others can be merged. When all checksums are right it takes all
// out: reading them again and again would neither help nor let the others be merged.
func (p *Partition) findDamaged(ctx context.Context, parts []*entry) {
	defer func() {
		if ctx.Err() != nil || slices.ContainsFunc(parts, func(e *entry) bool { return e.damaged.Load() }) {
			return
		}
		for _, e := range parts {
			e.damaged.Store(true)
			p.o.Logger.Errorf("part %s is not merged any more until the next start, since its merge failed although its checksums are right", e.Dir())
		}
	}()
	for _, e := range parts {
		err := e.Verify(ctx)
		if errkind.Of(err) != errkind.Corrupt {
			continue
		}
		e.damaged.Store(true)
		p.o.Stats.CorruptParts.Inc()
		p.o.Logger.Errorf("part %s is damaged: some of its %d samples of %s cannot be read, the others are served; restore it from a backup and restart: %s",
			e.Dir(), e.Rows, model.TimeRange{Min: e.MinTimestamp, Max: e.MaxTimestamp}, err)
	}
}

// keyOrder returns a comparison of the ids in parts by their keys, and the deleted ids, which it does not know.
func (p *Partition) keyOrder(ctx context.Context, parts []*entry) (order func(a, b uint32) int, deleted *roaring.Bitmap, err error) {
	ids := idsOf(parts...)
	sorted, deleted, err := p.aliveByKey(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	if ids.IsEmpty() {
		return func(a, b uint32) int { return cmp.Compare(a, b) }, deleted, nil
	}
	ranks := make([]uint32, ids.Maximum()+1)
	for rank, id := range sorted {
		ranks[id] = uint32(rank)
	}
	return func(a, b uint32) int { return cmp.Compare(ranks[a], ranks[b]) }, deleted, nil
}
