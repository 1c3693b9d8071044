package storage

import (
	"context"
	"errors"
	"runtime/debug"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/partition"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

var _ storageapi.StartWriter = (*Storage)(nil)

// AddStarts implements storageapi.StartWriter. For a series which is not known, as most are whose start is told, it costs a look at the index of the month.
func (s *Storage) AddStarts(ctx context.Context, list []model.Start) error {
	if err := s.enter(); err != nil {
		return err
	}
	fresh, err := s.freshStarts(ctx, list)
	s.leave()
	if err != nil || fresh.Rows() == 0 {
		return err
	}
	s.m.startsAdded.Add(fresh.Rows())
	return s.Ingest(ctx, fresh)
}

// freshStarts returns a batch with the zeros of the series that have no sample at their start or later.
func (s *Storage) freshStarts(ctx context.Context, list []model.Start) (batch *model.Batch, err error) {
	partitions := s.acquire(allTime())
	defer func() { err = errors.Join(err, release(partitions)) }()
	batch = &model.Batch{}
	f := startFinder{partitions: partitions}
	for i := range list {
		if err := s.goOn(ctx); err != nil {
			return nil, err
		}
		x := &list[i]
		hash := model.HashSeriesKey(x.Series)
		began, err := f.began(x, hash)
		if err != nil { // a zero is not worth the risk
			s.damageWarn.Warnf("cannot find out whether a series has begun: %s; its first increase is not counted", err)
			continue
		}
		if !began {
			batch.AddKey(x.Series, hash)
			batch.AddSample(x.Timestamp, 0)
		}
	}
	return batch, nil
}

// startFinder looks for samples of series.
type startFinder struct {
	partitions []*partition.Partition
	blocks     []tsblock.Block
	buf        []byte
}

// began reports whether a series has a sample at its start or later.
func (f *startFinder) began(x *model.Start, hash uint64) (bool, error) {
	r := model.TimeRange{Min: x.Timestamp, Max: allTime().Max}
	for _, p := range f.partitions {
		if p.Month().Range().Max < r.Min {
			continue
		}
		id, ok, err := p.Index().Lookup(hash, x.Series)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		if found, err := f.inPartition(p, id, r); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

func (f *startFinder) inPartition(p *partition.Partition, id uint32, r model.TimeRange) (found bool, err error) {
	v := p.View(r)
	defer func() { err = errors.Join(err, v.Release()) }()
	defer vfs.CatchFault(debug.SetPanicOnFault(true), &err)
	f.buf = f.buf[:0]
	f.blocks, err = v.AppendBlocks(f.blocks[:0], &f.buf, id, r, true)
	for i := range f.blocks {
		found = found || f.blocks[i].MaxTimestamp >= r.Min // which is the time of a sample
	}
	return found, err
}
