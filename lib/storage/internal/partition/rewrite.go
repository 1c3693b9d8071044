package partition

import (
	"context"

	"vmcluster/lib/model"
)

// rewriteFromMs is the least time outside of retention for which a part is rewritten.
const rewriteFromMs = 3600 * 1000

// PickOutdated returns the index of the part, at most maxOutputBytes large, of which at least half lies outside of keep, or -1. Since a
// rewritten part is left with half the time at most, all rewrites of a part together write less than it had.
func PickOutdated(parts []PartInfo, keep model.TimeRange, maxOutputBytes int64) int {
	for i, p := range parts {
		outside := keep.Min - p.MinTimestamp
		if p.MinTimestamp < keep.Min && outside >= rewriteFromMs && outside >= (p.MaxTimestamp-p.MinTimestamp)/2 && p.SizeBytes <= maxOutputBytes {
			return i
		}
	}
	return -1
}

// rewriteNextLocked rewrites a part which is mostly outside of keep, or mostly of deleted series, or which the rules for old samples ask for; false when there is none.
func (p *Partition) rewriteNextLocked(ctx context.Context, parts []*entry, keep model.TimeRange, maxOutputBytes int64) (bool, error) {
	infos := make([]PartInfo, len(parts))
	for i := range parts {
		infos[i] = parts[i].PartInfo
	}
	picked := PickOutdated(infos, keep, maxOutputBytes)
	if picked < 0 {
		picked = p.pickDeletedLocked(parts, maxOutputBytes)
	}
	if picked >= 0 {
		chosen, err := p.reachable(parts[picked : picked+1])
		if err != nil || len(chosen) == 0 {
			return true, err // the next call picks another
		}
		return true, p.mergeLocked(ctx, chosen, keep, p.carefulRules(chosen))
	}
	due, rules, err := p.pickDue(ctx, parts, maxOutputBytes)
	if err != nil || len(due) == 0 {
		return false, err
	}
	chosen, err := p.reachable(due)
	if err != nil || len(chosen) < len(due) {
		return true, err // the next call picks others
	}
	return true, p.mergeLocked(ctx, chosen, keep, rules)
}
