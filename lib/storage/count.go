package storage

import (
	"context"
	"hash/maphash"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/storageapi"
)

// keySet counts distinct series of several months, which have ids of their own each, by a hash of their keys with the seed
// of the process.
type keySet struct {
	s        *Storage
	seen     map[uint64]struct{}
	reserved int64
}

// bytesPerSetEntry is about what an entry of the map takes while it grows.
const bytesPerSetEntry = 40

func (k *keySet) len() int { return len(k.seen) }

func (k *keySet) free() { k.s.o.Budget.Release(k.reserved) }

// addAll adds the keys of ids.
func (k *keySet) addAll(ctx context.Context, p *partition.Partition, ids *roaring.Bitmap) error {
	need := int64(ids.GetCardinality()) * bytesPerSetEntry
	if err := k.s.o.Budget.ReserveMore(need, k.reserved, "counting series"); err != nil {
		return err
	}
	k.reserved += need
	if k.seen == nil {
		k.seen = make(map[uint64]struct{}, ids.GetCardinality())
	}
	return p.Index().Keys(ctx, ids, func(_ uint32, key []byte) bool {
		k.seen[maphash.Bytes(k.s.seed, key)] = struct{}{}
		return true
	})
}

// SeriesCount implements storageapi.Catalog. Series of several months are counted once.
func (s *Storage) SeriesCount(ctx context.Context, tenant model.TenantID) (storageapi.Count, error) {
	q := &model.SearchQuery{Tenant: tenant, Range: allTime()}
	keys := keySet{s: s}
	defer keys.free()
	var single *roaring.Bitmap // the only month so far; nothing needs to be looked up then
	var of *partition.Partition
	err := s.eachMonth(ctx, allTime(), func(p *partition.Partition) error {
		ids, err := p.Index().Search(ctx, wholeMonth(q, p.Month()))
		if err != nil || ids.IsEmpty() {
			return err
		}
		if single == nil && of == nil {
			single, of = ids, p
			return nil
		}
		if single != nil {
			if err := keys.addAll(ctx, of, single); err != nil {
				return err
			}
			single = nil
		}
		return keys.addAll(ctx, p, ids)
	})
	if err != nil {
		return storageapi.Count{}, err
	}
	if single != nil {
		return storageapi.Count{Value: single.GetCardinality()}, nil
	}
	return storageapi.Count{Value: uint64(keys.len())}, nil
}
