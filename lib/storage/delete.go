package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/index"
	"vmcluster/lib/storage/internal/partition"
)

// doomed are the series of a partition which are to be deleted.
type doomed struct {
	p   *partition.Partition
	ids *roaring.Bitmap
}

// DeleteSeries implements storageapi.Catalog.
//
// A deleted series is a tombstone in the index of its month, durable before the return. Whoever finds series goes by
// the tombstones, so it is hidden at once; flushes and merges leave its samples out. Its key is free: the next sample
// with it makes a new series with another id.
func (s *Storage) DeleteSeries(ctx context.Context, q *model.SearchQuery) (int, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	s.deleting.Lock() // so that no two count the same series
	defer s.deleting.Unlock()
	partitions := s.acquire(allTime())
	n, err := s.deleteIn(ctx, partitions, q)
	if err == nil {
		err = s.exemplars.Delete(ctx, q)
	}
	if s.closed.Load() && err != nil {
		err = s.drainingErr()
	}
	return n, errors.Join(err, release(partitions))
}

func (s *Storage) deleteIn(ctx context.Context, partitions []*partition.Partition, q *model.SearchQuery) (int, error) {
	keys := keySet{s: s}
	defer keys.free()
	var found []doomed
	for _, p := range partitions {
		if err := s.goOn(ctx); err != nil {
			return 0, err
		}
		ids, err := p.Index().Search(ctx, wholeMonth(q, p.Month()))
		if err != nil {
			return 0, err
		}
		if ids.IsEmpty() {
			continue
		}
		found = append(found, doomed{p: p, ids: ids})
		if err := keys.addAll(ctx, p, ids); err != nil {
			return 0, err
		}
	}
	if len(found) == 0 {
		return 0, nil
	}
	if q.MaxSeries > 0 && keys.len() > q.MaxSeries {
		return 0, errkind.New(errkind.Unprocessable, "cannot delete %d series at once: the limit is %d; narrow the filters, or raise -search.maxDeleteSeries", keys.len(), q.MaxSeries)
	}
	defer s.versions.changeAll() // after a failure some are deleted
	for _, d := range found {
		err := d.p.Index().Delete(d.ids)
		if err != nil && s.table.Load().byMonth[d.p.Month()] != d.p {
			continue // retention has dropped the whole month meanwhile
		}
		if err != nil {
			return 0, fmt.Errorf("cannot delete %d series of partition %s: %w", d.ids.GetCardinality(), d.p.Month(), err)
		}
	}
	s.forgetIDs()
	s.logger.Infof("deleted %d series of tenant %s", keys.len(), q.Tenant)
	return keys.len(), nil
}

// forgetIDs makes writers ask the index for the ids of all series. What writers under way have taken an id for belongs to the
// time before it.
func (s *Storage) forgetIDs() {
	s.flushLock.Lock()
	defer s.flushLock.Unlock()
	s.forgetSeries()
}

// wholeMonth selects the series of q in a month, whatever days they have samples on. The index's own limit is not asked for, since it
// counts by month.
func wholeMonth(q *model.SearchQuery, m partition.Month) index.Query {
	r := m.Range()
	return index.Query{Tenant: q.Tenant, Filters: q.Filters, FirstDay: unixDay(r.Min), LastDay: unixDay(r.Max)}
}

// goOn returns why a call which is not a search must stop.
func (s *Storage) goOn(ctx context.Context) error {
	if s.closed.Load() {
		return s.drainingErr()
	}
	return ctx.Err()
}

// deletedSeries is the number of tombstones.
func (s *Storage) deletedSeries() (n uint64) {
	partitions := s.acquire(allTime())
	for _, p := range partitions {
		if ids := p.Index().Deleted(); ids != nil {
			n += ids.GetCardinality()
		}
	}
	s.noteErr("close", release(partitions))
	return n
}
