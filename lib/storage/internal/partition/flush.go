package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

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
		if err := p.flushHead(ctx, h, keep); err != nil {
			return freed, fmt.Errorf("cannot flush %d recent samples of partition %s: %w", h.Rows(), p.month, err)
		}
		freed += h.SizeBytes()
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

// writeHead writes all series of a head by ascending key, blocks cut anew.
func (p *Partition) writeHead(ctx context.Context, w *part.Writer, h *head.Head, keep model.TimeRange) error {
	ids, _, err := p.aliveByKey(ctx, roaring.BitmapOf(h.IDs()...))
	if err != nil {
		return err
	}
	var (
		samples tsblock.Samples
		scratch tsblock.Scratch
		encoder tsblock.Encoder
		blocks  []tsblock.Block
		buf     []byte
	)
	for i, id := range ids {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		buf = buf[:0]
		blocks = h.AppendBlocks(blocks[:0], &buf, id, keep)
		samples.Reset()
		if err := tsblock.ReadRange(&samples, blocks, keep, 0, &scratch); err != nil {
			return err
		}
		if p.o.MinIntervalMs > 0 {
			n := samples.Len()
			samples.Dedup(0, p.o.MinIntervalMs)
			p.o.Stats.Deduplicated.Add(n - samples.Len())
		}
		if buf, err = writeSamples(w, id, &samples, &encoder, buf[:0]); err != nil {
			return err
		}
	}
	return nil
}

// writeSamples cuts the samples of a series into blocks.
func writeSamples(w *part.Writer, id uint32, s *tsblock.Samples, encoder *tsblock.Encoder, buf []byte) ([]byte, error) {
	for start := 0; start < s.Len(); start += tsblock.MaxSamplesPerBlock {
		end := min(s.Len(), start+tsblock.MaxSamplesPerBlock)
		run := tsblock.Samples{Timestamps: s.Timestamps[start:end], Values: s.Values[start:end]}
		var b tsblock.Block
		buf, b = encoder.AppendEncode(buf[:0], &run)
		if err := w.AddBlock(id, &b); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// idsByKey returns the ids in the order of their keys.
func (p *Partition) idsByKey(ctx context.Context, ids *roaring.Bitmap) ([]uint32, error) {
	type ref struct {
		start, end int
		id         uint32
	}
	var keys []byte
	refs := make([]ref, 0, ids.GetCardinality())
	err := p.index.Keys(ctx, ids, func(id uint32, key []byte) bool {
		refs = append(refs, ref{start: len(keys), end: len(keys) + len(key), id: id})
		keys = append(keys, key...)
		return true
	})
	if err != nil {
		return nil, err
	}
	if n := ids.GetCardinality(); uint64(len(refs)) != n {
		return nil, errkind.New(errkind.Corrupt, "cannot find the keys of %d of %d series in the index of partition %s", n-uint64(len(refs)), n, p.month)
	}
	slices.SortFunc(refs, func(a, b ref) int { return bytes.Compare(keys[a.start:a.end], keys[b.start:b.end]) })
	sorted := make([]uint32, len(refs))
	for i := range refs {
		sorted[i] = refs[i].id
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
