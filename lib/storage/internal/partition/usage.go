package partition

import (
	"cmp"
	"context"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/vfs"
)

// Usage is what a tenant has in a partition.
type Usage struct {
	Series int64   // known to the index, deleted ones included while they are
	Active int64   // series which are not deleted, with a sample at or after the time asked for
	Bytes  float64 // of parts and of the index
}

// usage is what is remembered from one question to the next. Parts never change, so each is looked through once.
type usage struct {
	sync.Mutex
	tenants map[model.TenantID]Usage // as of parts and indexBytes, when no series was active
	parts   []*entry
	bytes   int64
}

// activitySlotMs is the precision with which a part remembers the newest samples of series.
const activitySlotMs = 300_000

// ActiveSince rounds a time down to one which Usage takes.
func ActiveSince(t int64) int64 { return t - t%activitySlotMs }

// tenantShares is what usage knows of a part, guarded by its lock.
type tenantShares struct {
	newest map[int64]*roaring.Bitmap  // series by the slot of their newest sample; nil before it is asked for, and when none is new
	bytes  map[model.TenantID]float64 // nil before it is asked for
}

// Usage returns what the tenants have, with the series active since a time that ActiveSince has rounded, and which never goes back. Nobody may change the map.
//
// Work is proportional to the series in the heads, and in parts that are new since the last call; otherwise to the number of tenants. It ends early with
// the context's error; the parts which have been looked through by then need not be again.
func (p *Partition) Usage(ctx context.Context, since int64) (_ map[model.TenantID]Usage, err error) {
	defer vfs.CatchFault(debug.SetPanicOnFault(true), &err)
	u := &p.usage
	u.Lock()
	defer u.Unlock()
	heads, parts := p.acquireAll()
	defer func() {
		for _, h := range heads {
			h.Release()
		}
		for _, e := range parts {
			e.Release()
		}
	}()
	bytes := p.index.SizeBytes()
	active, err := u.active(ctx, heads, parts, since)
	if err != nil {
		return nil, err
	}
	if active.IsEmpty() && u.tenants != nil && bytes == u.bytes && slices.Equal(parts, u.parts) {
		return u.tenants, nil
	}
	if deleted := p.index.Deleted(); deleted != nil {
		active.AndNot(deleted)
	}
	tenants, err := p.sharesOf(active, bytes)
	if err != nil {
		return nil, err
	}
	for _, e := range parts {
		if err := p.shareOut(ctx, e, tenants); err != nil {
			return nil, err
		}
		for t, n := range e.shares.bytes {
			x := tenants[t]
			x.Bytes += n
			tenants[t] = x
		}
	}
	u.tenants, u.parts, u.bytes = nil, nil, 0
	if active.IsEmpty() {
		u.tenants, u.parts, u.bytes = tenants, parts, bytes
	}
	return tenants, nil
}

// acquireAll returns all heads and parts, with a reference to each.
func (p *Partition) acquireAll() (heads []*head.Head, parts []*entry) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	heads = append(slices.Clone(p.mu.frozen), p.head.Load())
	for _, h := range heads {
		h.Acquire()
	}
	parts = slices.Clone(p.mu.parts)
	for _, e := range parts {
		e.Acquire()
	}
	return heads, parts
}

// active returns the series with a sample at or after since.
func (u *usage) active(ctx context.Context, heads []*head.Head, parts []*entry, since int64) (*roaring.Bitmap, error) {
	active := roaring.New()
	for _, h := range heads {
		if h.TimeRange().Max >= since {
			active.AddMany(h.Active(since))
		}
	}
	for _, e := range parts {
		if e.MaxTimestamp < since {
			e.shares.newest = nil
			continue
		}
		if e.shares.newest == nil {
			newest, err := newestOf(ctx, e, since)
			if err != nil {
				return nil, err
			}
			e.shares.newest = newest
		}
		for slot, ids := range e.shares.newest {
			if slot >= since {
				active.Or(ids)
			}
		}
	}
	return active, nil
}

// given returns the context's error, at one in so many ids that asking costs nothing.
func given(ctx context.Context, id uint32) error {
	if id%1024 == 0 {
		return ctx.Err()
	}
	return nil
}

// newestOf returns the series of a part with a sample at or after since, by the slot of the newest one.
func newestOf(ctx context.Context, e *entry, since int64) (map[int64]*roaring.Bitmap, error) {
	newest := map[int64]*roaring.Bitmap{}
	slot, ids := since-1, (*roaring.Bitmap)(nil) // of the series before: most have the same
	err := e.Newest(since, func(id uint32, timestamp int64) error {
		if timestamp < slot || timestamp >= slot+activitySlotMs || ids == nil {
			slot = ActiveSince(timestamp)
			if ids = newest[slot]; ids == nil {
				ids = roaring.New()
				newest[slot] = ids
			}
		}
		ids.Add(id)
		return given(ctx, id)
	})
	return newest, err
}

// sharesOf returns the tenants of the index with their active series, and their part of the bytes of the index, which is that of the series.
func (p *Partition) sharesOf(active *roaring.Bitmap, indexBytes int64) (map[model.TenantID]Usage, error) {
	tenants := map[model.TenantID]Usage{}
	all := int64(0)
	err := p.index.EachTenant(func(t model.TenantID, ids *roaring.Bitmap) error {
		x := tenants[t]
		n := int64(ids.GetCardinality())
		all += n
		x.Series += n
		x.Active += int64(ids.AndCardinality(active))
		tenants[t] = x
		return nil
	})
	for t, x := range tenants {
		x.Bytes = float64(indexBytes) * float64(x.Series) / float64(max(all, 1))
		tenants[t] = x
	}
	return tenants, err
}

// shareOut finds out what the tenants have of a part, once. Bytes of series which are not in the index are nobody's.
func (p *Partition) shareOut(ctx context.Context, e *entry, tenants map[model.TenantID]Usage) error {
	if len(tenants) == 1 {
		for t := range tenants { // a look at each series would say the same; should there be more tenants one day, it is taken then
			e.shares.bytes = nil
			x := tenants[t]
			x.Bytes += float64(e.SizeBytes)
			tenants[t] = x
		}
		return nil
	}
	if e.shares.bytes != nil {
		return nil
	}
	sizes, err := e.Sizes()
	if err != nil {
		return err
	}
	has := roaring.New()
	e.IDs(func(id uint32) { has.Add(id) })
	shares := map[model.TenantID]float64{}
	err = p.index.EachTenant(func(t model.TenantID, ids *roaring.Bitmap) error {
		sum := 0.0
		for it := roaring.And(ids, has).Iterator(); it.HasNext(); {
			id := it.Next()
			n, err := sizes.Of(id)
			if err = cmp.Or(err, given(ctx, id)); err != nil {
				return err
			}
			sum += n
		}
		if sum > 0 {
			shares[t] += sum
		}
		return nil
	})
	if err == nil {
		e.shares.bytes = shares
	}
	return err
}
