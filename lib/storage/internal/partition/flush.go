package partition

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/storage/internal/part"
	"vmcluster/lib/tsblock"
)

// Freeze moves the head to the frozen heads and starts an empty one, unless it is empty. The caller holds the
// owner's flush lock exclusively.
func (p *Partition) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.head.Load()
	if h.SeriesCount() == 0 {
		return
	}
	p.mu.frozen = append(p.mu.frozen, h)
	p.head.Store(head.New())
	p.mu.epoch++
}

// FlushFrozen makes the index durable and writes every frozen head to a part, leaving samples outside
// of keep out. It returns the bytes of memory that the heads took. On an error the heads which are not in
// parts stay frozen; calling again tries again.
func (p *Partition) FlushFrozen(ctx context.Context, keep model.TimeRange) (freed int64, err error) {
	if err := p.index.Flush(); err != nil {
		return 0, err
	}
	for {
		p.mu.RLock()
		var h *head.Head
		if len(p.mu.frozen) > 0 {
			h = p.mu.frozen[0]
		}
		p.mu.RUnlock()
		if h == nil {
			return freed, nil
		}
		size := h.SizeBytes()
		if err := p.flushHead(ctx, h, keep); err != nil {
			return freed, fmt.Errorf("cannot flush %d recent samples of partition %s: %w", h.Rows(), p.month, err)
		}
		freed += size
		h.Release()
	}
}

func (p *Partition) flushHead(ctx context.Context, h *head.Head, keep model.TimeRange) error {
	fill := func(w *part.Writer) error { return p.writeHead(ctx, w, h, keep) }
	drop := func() {
		i := slices.Index(p.mu.frozen, h)
		p.mu.frozen = slices.Delete(slices.Clone(p.mu.frozen), i, i+1)
	}
	_, err := p.writePart(fill, nil, drop)
	return err
}

// writeHead writes all series of a head, in the order of idsByKey.
func (p *Partition) writeHead(ctx context.Context, w *part.Writer, h *head.Head, keep model.TimeRange) error {
	ids, _, err := p.aliveByKey(ctx, roaring.BitmapOf(h.IDs()...))
	if err != nil {
		return err
	}
	f := flusher{w: w, head: h, keep: keep, minIntervalMs: p.o.MinIntervalMs}
	for i, id := range ids {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := f.add(id); err != nil {
			return err
		}
	}
	p.o.Stats.Deduplicated.Add(f.scratch.TakeDeduplicated())
	return nil
}

// flusher writes series of a head to a part. What it needs it keeps from one series to the next.
type flusher struct {
	w             *part.Writer
	head          *head.Head
	keep          model.TimeRange
	minIntervalMs int64

	blocks  []tsblock.Block
	copied  []byte // which blocks alias
	samples tsblock.Samples
	scratch tsblock.Scratch
	blocksE tsblock.Encoder
	valuesE codec.Encoder
	encoded []byte

	histograms tsblock.HistogramSamples
	done       []tsblock.Block // in encoded
}

// add writes one series.
func (f *flusher) add(id uint32) error {
	f.copied = f.copied[:0]
	f.blocks = f.head.AppendBlocks(f.blocks[:0], &f.copied, id, model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64})
	if f.head.Histograms() > 0 {
		if err := f.readHistograms(id); err != nil {
			return err
		}
	}
	if len(f.blocks) == 1 && f.histograms.Len() == 0 && f.minIntervalMs <= 1 && f.keep.Contains(f.blocks[0].MinTimestamp) && f.keep.Contains(f.blocks[0].MaxTimestamp) {
		return f.addRun(id, &f.blocks[0])
	}
	f.samples.Reset()
	if err := tsblock.ReadRange(&f.samples, f.blocks, f.keep, f.minIntervalMs, &f.scratch); err != nil {
		return err
	}
	return f.addSamples(id)
}

// readHistograms reads the native histograms of a series.
func (f *flusher) readHistograms(id uint32) error {
	f.histograms.Reset()
	f.done = f.head.AppendHistogramBlocks(f.done[:0], &f.copied, id, model.TimeRange{Min: math.MinInt64, Max: math.MaxInt64})
	return tsblock.ReadHistograms(&f.histograms, f.done, f.keep, f.minIntervalMs, &f.scratch)
}

// addRun writes a series whose samples are in order and to be kept. Its timestamps, which many others have as
// well, are encoded already; its values were as they came and get smaller.
func (f *flusher) addRun(id uint32, b *tsblock.Block) (err error) {
	if codec.IsStream(b.Values) {
		if f.samples.Values, err = b.DecodeValues(f.samples.Values[:0]); err != nil {
			return err
		}
		f.encoded = f.valuesE.AppendValues(f.encoded[:0], f.samples.Values)
		b.Values = f.encoded
	}
	return f.w.AddBlock(id, b)
}

// addSamples cuts the samples and native histograms of a series into blocks.
func (f *flusher) addSamples(id uint32) error {
	f.done, f.encoded = f.blocksE.AppendBlocks(f.done[:0], f.encoded[:0], &f.samples)
	if f.histograms.Len() > 0 {
		f.done, f.encoded = f.blocksE.AppendHistogramBlocks(f.done, f.encoded, &f.histograms)
		tsblock.SortBlocks(f.done)
	}
	for i := range f.done {
		if err := f.w.AddBlock(id, &f.done[i]); err != nil {
			return err
		}
	}
	return nil
}

// idsByKey returns the ids in the order that parts have them: the series of a metric of a tenant come together, by
// id. Metrics come by a hash, which takes 8 bytes a series where their names would take hundreds of megabytes.
func (p *Partition) idsByKey(ctx context.Context, ids *roaring.Bitmap) ([]uint32, error) {
	n := ids.GetCardinality()
	ranks := make([]uint64, 0, n)
	err := p.index.Keys(ctx, ids, func(id uint32, key []byte) bool {
		ranks = append(ranks, model.HashSeriesKey(model.MetricOfKey(key))<<32|uint64(id))
		return true
	})
	if err != nil {
		return nil, err
	}
	if uint64(len(ranks)) != n {
		return nil, errkind.New(errkind.Corrupt, "cannot find the keys of %d of %d series in the index of partition %s", n-uint64(len(ranks)), n, p.month)
	}
	slices.Sort(ranks)
	sorted := make([]uint32, len(ranks))
	for i, rank := range ranks {
		sorted[i] = uint32(rank)
	}
	return sorted, nil
}

// writePart lets fill write a part and publishes it in place of the parts in
// replace; swap is called under the lock at the moment the list of parts changes. A part without
// samples is not published. It returns the rows of the new part.
//
// When publishing fails, nobody knows whether the MANIFEST on disk lists the new part. So its files stay until
// a MANIFEST that does not list it is durable, and so do those of the parts it would replace.
func (p *Partition) writePart(fill func(w *part.Writer) error, replace []*entry, swap func()) (int64, error) {
	name := p.nextName()
	tmp := p.partDir(name + tmpSuffix)
	rows, err := p.fillPart(tmp, fill)
	if err != nil {
		return 0, err
	}
	var added *entry
	if rows > 0 {
		if added, err = p.openFinished(tmp, name); err != nil {
			return 0, errors.Join(err, p.o.FS.RemoveAll(tmp), p.o.FS.RemoveAll(p.partDir(name))) // no MANIFEST ever listed it
		}
		p.setAge(added, replace)
	}
	if err := p.publish(added, replace, swap); err != nil {
		if added != nil {
			added.Release()
		}
		return 0, err
	}
	for _, e := range replace {
		e.DeleteOnRelease()
		e.Release()
	}
	return rows, nil
}

// setAge sets what a new part takes over from the parts it replaces; without them it is that of a frozen head.
func (p *Partition) setAge(added *entry, replace []*entry) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(replace) == 0 {
		added.epoch = p.mu.epoch - 1
		return
	}
	for _, e := range replace {
		added.epoch, added.waits = max(added.epoch, e.epoch), added.waits.join(e.waits)
	}
}

func (p *Partition) nextName() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.nextSeq++
	return fmt.Sprintf("%016x", p.mu.nextSeq-1)
}

func (p *Partition) fillPart(tmp string, fill func(w *part.Writer) error) (int64, error) {
	w, err := part.NewWriter(p.o.FS, tmp)
	if err != nil {
		return 0, err
	}
	if err := fill(w); err != nil {
		return 0, errors.Join(err, w.Abort())
	}
	meta, err := w.Finish()
	if err != nil || meta.Rows == 0 {
		return 0, errors.Join(err, w.Abort())
	}
	return meta.Rows, nil
}

// openFinished gives a finished part its name, durably, and opens it.
func (p *Partition) openFinished(tmp, name string) (*entry, error) {
	dir := p.partDir(name)
	if err := p.o.FS.Rename(tmp, dir); err != nil {
		return nil, err
	}
	if err := p.o.FS.SyncDir(p.partsDir()); err != nil {
		return nil, err
	}
	pt, err := part.Open(p.o.FS, dir)
	if err != nil {
		return nil, err
	}
	e := newEntry(name, pt)
	e.known = true // whoever wrote it got the keys of its series from the index
	return e, nil
}

// publish replaces parts by added, which may be nil, in the MANIFEST and then in memory.
func (p *Partition) publish(added *entry, replace []*entry, swap func()) error {
	p.publishMu.Lock()
	defer p.publishMu.Unlock()
	if err := p.goneErr(); err != nil {
		return err
	}
	p.mu.RLock()
	parts := slices.DeleteFunc(slices.Clone(p.mu.parts), func(e *entry) bool { return slices.Contains(replace, e) })
	p.mu.RUnlock()
	if added != nil {
		parts = append(parts, added)
	}
	if added != nil || len(replace) > 0 {
		if err := p.writeManifest(parts); err != nil {
			if added != nil {
				p.orphans = append(p.orphans, added.name)
			}
			return err
		}
		p.removeOrphans()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.parts = parts
	if swap != nil {
		swap()
	}
	return nil
}

// removeOrphans deletes parts of failed publications, now that a MANIFEST without them is durable. What cannot
// be deleted is left to the next open.
func (p *Partition) removeOrphans() {
	for _, name := range p.orphans {
		if err := p.o.FS.RemoveAll(p.partDir(name)); err != nil {
			p.o.Logger.Warnf("cannot delete the unused part %s; the next start does: %s", p.partDir(name), err)
		}
	}
	p.orphans = nil
}

func (p *Partition) goneErr() error {
	if p.dropped.Load() {
		return errkind.New(errkind.Unavailable, "partition %s has been dropped", p.month)
	}
	return nil
}
