package index

import (
	"encoding/binary"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// maxPackedPosting is the number of ids from which a growing posting is a bitmap.
const maxPackedPosting = 1024

const (
	postingOverhead = 48 // bytes of a posting without ids
	bitmapIDBytes   = 2  // about what one more id of a bitmap takes
)

// posting is the growing set of ids of one label pair: packed differences while it is
// small and ascending, a bitmap afterwards.
type posting struct {
	packed []byte
	bitmap *roaring.Bitmap
	last   uint32
	count  uint32 // of packed ids
}

// add adds an id and returns about how many bytes of memory that takes.
func (p *posting) add(id uint32) int64 {
	if p.bitmap != nil {
		p.bitmap.Add(id)
		return bitmapIDBytes
	}
	before := cap(p.packed)
	if p.count == 0 || (id > p.last && p.count < maxPackedPosting) {
		p.packed = binary.AppendUvarint(p.packed, uint64(id-p.last))
		p.last = id
		p.count++
		return int64(cap(p.packed) - before)
	}
	p.bitmap = roaring.New()
	p.bitmap.AddMany(p.unpack(nil))
	p.bitmap.Add(id)
	p.packed = nil
	return int64(p.bitmap.GetSizeInBytes()) - int64(before)
}

// unpack appends the ids of a posting that is no bitmap.
func (p *posting) unpack(dst []uint32) []uint32 {
	id := uint32(0)
	for b := p.packed; len(b) > 0; {
		d, n := binary.Uvarint(b)
		b = b[n:]
		id += uint32(d)
		dst = append(dst, id)
	}
	return dst
}

// addTo adds all ids to s.
func (p *posting) addTo(s *idSet) {
	if p.bitmap != nil {
		s.or(p.bitmap)
		return
	}
	s.few = p.unpack(s.few)
	s.spill()
}

// run is a range of ids, both ends included.
type run struct{ first, last uint32 }

// runSet is a set of ids that arrive mostly one after the other.
type runSet struct {
	runs []run    // ascending, disjoint
	late []uint32 // ids that did not arrive in ascending order
}

func (r *runSet) sizeBytes() int64 { return int64(cap(r.runs))*8 + int64(cap(r.late))*4 }

func (r *runSet) add(id uint32) {
	n := len(r.runs)
	switch {
	case n == 0 || id > r.runs[n-1].last+1:
		r.runs = append(r.runs, run{id, id})
	case id == r.runs[n-1].last+1:
		r.runs[n-1].last = id
	default:
		r.late = append(r.late, id)
	}
}

// bitmap returns all ids.
func (r *runSet) bitmap() *roaring.Bitmap {
	var all idSet
	r.addTo(&all)
	return all.take()
}

func (r *runSet) addTo(s *idSet) {
	s.few = append(s.few, r.late...)
	for _, v := range r.runs {
		if v.last-v.first < 16 {
			for id := uint64(v.first); id <= uint64(v.last); id++ {
				s.few = append(s.few, uint32(id))
			}
			s.spill()
			continue
		}
		s.own().AddRange(uint64(v.first), uint64(v.last)+1)
	}
}

// idSet collects ids from many small and a few large sets.
type idSet struct {
	bitmap *roaring.Bitmap
	few    []uint32
}

// maxFew bounds the ids kept aside until they are sorted into the bitmap.
const maxFew = 1 << 16

func (s *idSet) own() *roaring.Bitmap {
	if s.bitmap == nil {
		s.bitmap = roaring.New()
	}
	return s.bitmap
}

func (s *idSet) add(id uint32) {
	s.few = append(s.few, id)
	s.spill()
}

func (s *idSet) or(b *roaring.Bitmap) { s.own().Or(b) }

// orOwned is or for a bitmap which the caller gives away.
func (s *idSet) orOwned(b *roaring.Bitmap) {
	if s.bitmap == nil {
		s.bitmap = b
		return
	}
	s.bitmap.Or(b)
}

func (s *idSet) spill() {
	if len(s.few) >= maxFew {
		s.settle()
	}
}

func (s *idSet) settle() {
	if len(s.few) == 0 {
		return
	}
	if !slices.IsSorted(s.few) {
		slices.Sort(s.few)
	}
	if b := s.own(); b.IsEmpty() {
		b.AddMany(s.few)
	} else {
		b.Or(roaring.BitmapOf(s.few...))
	}
	s.few = s.few[:0]
}

// take returns the bitmap of all ids and empties the set.
func (s *idSet) take() *roaring.Bitmap {
	s.settle()
	b := s.own()
	s.bitmap = nil
	return b
}
