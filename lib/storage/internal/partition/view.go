package partition

import (
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/storage/internal/part"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

// View is the set of heads and parts of a partition at one moment. It holds a
// reference to the partition.
type View struct {
	p     *Partition
	heads []*head.Head
	parts []*part.Part
}

// View returns the heads and parts which may have samples in r.
func (p *Partition) View(r model.TimeRange) *View {
	p.Acquire()
	v := &View{p: p}
	p.mu.RLock()
	defer p.mu.RUnlock()
	// The head takes samples all the time, so its range is no reason to leave it out.
	v.addHead(p.head.Load())
	for _, f := range p.mu.frozen {
		if f.TimeRange().Overlaps(r) {
			v.addHead(f)
		}
	}
	for _, e := range p.mu.parts {
		if r.Overlaps(model.TimeRange{Min: e.MinTimestamp, Max: e.MaxTimestamp}) {
			e.Acquire()
			v.parts = append(v.parts, e.Part)
		}
	}
	return v
}

func (v *View) addHead(h *head.Head) {
	h.Acquire()
	v.heads = append(v.heads, h)
}

// AppendBlocks appends the blocks of a series which overlap r, in no particular order. Native histograms in heads are among them when asked for, those in parts always. They alias *buf and the parts, and are
// valid until *buf is overwritten or the view released. Parts which cannot be read are skipped;
// the error is that of the first of them.
func (v *View) AppendBlocks(dst []tsblock.Block, buf *[]byte, id uint32, r model.TimeRange, histograms bool) ([]tsblock.Block, error) {
	var firstErr error
	for _, h := range v.heads {
		dst = h.AppendBlocks(dst, buf, id, r)
		if histograms {
			dst = h.AppendHistogramBlocks(dst, buf, id, r)
		}
	}
	for _, p := range v.parts {
		blocks, err := p.AppendBlocks(dst, id, r)
		if err == nil {
			dst = blocks
		} else if firstErr == nil {
			firstErr = err
		}
	}
	return dst, firstErr
}

// FaultErr returns the error for a fault of memory during AppendBlocks. It names the file where that is known.
func (v *View) FaultErr(f *vfs.Fault) error {
	for _, p := range v.parts {
		if path, offset, ok := p.OffsetOf(f); ok {
			return f.In(path, offset)
		}
	}
	return f.Err()
}

// Release gives the view's references back.
func (v *View) Release() error {
	for _, h := range v.heads {
		h.Release()
	}
	for _, p := range v.parts {
		p.Release()
	}
	v.parts, v.heads = nil, nil
	return v.p.Release()
}

// Partition returns the partition, which the view holds.
func (v *View) Partition() *Partition { return v.p }
