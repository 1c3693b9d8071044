package partition

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
)

// deleted returns the ids of deleted series, never nil.
func (p *Partition) deleted() *roaring.Bitmap {
	if ids := p.index.Deleted(); ids != nil {
		return ids
	}
	return roaring.New()
}

// aliveByKey returns the ids which are not deleted in the order of their keys, and the deleted ones of that moment.
func (p *Partition) aliveByKey(ctx context.Context, ids *roaring.Bitmap) ([]uint32, *roaring.Bitmap, error) {
	for {
		deleted := p.deleted()
		sorted, err := p.idsByKey(ctx, roaring.AndNot(ids, deleted))
		if errkind.Of(err) != errkind.Corrupt || p.deleted().GetCardinality() == deleted.GetCardinality() {
			return sorted, deleted, err
		}
		// The keys which are missing may be those of series deleted meanwhile.
	}
}

// hasAny reports whether a part has one of the series.
func (e *entry) hasAny(ids *roaring.Bitmap) bool {
	return !ids.IsEmpty() && idsOf(e).Intersects(ids)
}

// pickDeletedLocked returns the index of a part of which at least half of the series are deleted, or -1. It looks into a part only when
// there are new tombstones.
func (p *Partition) pickDeletedLocked(parts []*entry, maxOutputBytes int64) int {
	deleted := p.deleted()
	n := deleted.GetCardinality()
	if n == 0 {
		return -1
	}
	for i, e := range parts {
		if e.tombstones == n || e.SizeBytes > maxOutputBytes {
			continue
		}
		e.tombstones = n
		ids := idsOf(e)
		if gone := ids.AndCardinality(deleted); gone > 0 && 2*gone >= ids.GetCardinality() {
			return i
		}
	}
	return -1
}
