package held

import (
	"bytes"
	"cmp"
	"slices"
	"unsafe"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// Options are what a Set is collected with.
type Options struct {
	Budget *memory.Budget
	// What names the user of the memory in errors.
	What string
	// MaxSeries and MaxBytes bound the Set; 0 means no limit.
	MaxSeries int
	MaxBytes  int64
}

// Set holds series.
type Set struct {
	o      Options
	series []entry
	blocks []tsblock.Block
	slab   []byte // with room for more
	bytes  int64  // taken so far
	held   int64  // bytes reserved
	shared [64][]byte
}

type entry struct {
	key         []byte
	first, last int // of the blocks
}

const (
	slabBytes    = 64 << 10
	reserveBytes = 1 << 20 // what is reserved at once
	entryBytes   = int64(unsafe.Sizeof(entry{}))
	blockBytes   = int64(unsafe.Sizeof(tsblock.Block{}))
)

// Collect copies all that the search finds. The caller closes the search, and releases the Set; after an error there is none.
func Collect(it storageapi.SeriesIterator, o Options) (*Set, error) {
	s := &Set{o: o}
	for it.Next() {
		if err := s.add(it.At()); err != nil {
			s.Release()
			return nil, err
		}
	}
	if err := it.Err(); err != nil {
		s.Release()
		return nil, err
	}
	s.shared = [len(s.shared)][]byte{}
	return s, nil
}

// Release gives the memory back. The Set is empty then.
func (s *Set) Release() {
	s.o.Budget.Release(s.held)
	*s = Set{o: s.o}
}

// Len returns the number of series.
func (s *Set) Len() int { return len(s.series) }

// Bytes returns the memory which the Set takes.
func (s *Set) Bytes() int64 { return s.bytes }

// Key returns the key of series i.
func (s *Set) Key(i int) []byte { return s.series[i].key }

// Blocks returns the blocks of series i.
func (s *Set) Blocks(i int) []tsblock.Block { return s.blocks[s.series[i].first:s.series[i].last] }

func (s *Set) add(found *storageapi.Series) error {
	if s.o.MaxSeries > 0 && len(s.series) >= s.o.MaxSeries {
		return errkind.New(errkind.Unprocessable, "cannot select more than %d series with one selector; narrow its filters or raise -search.maxUniqueTimeseries", s.o.MaxSeries)
	}
	need := entryBytes + int64(len(found.Key))
	for i := range found.Blocks {
		b := &found.Blocks[i]
		need += blockBytes + int64(len(b.Timestamps)+len(b.Values))
	}
	if err := s.reserve(need); err != nil {
		return err
	}
	e := entry{key: s.copyOf(found.Key), first: len(s.blocks)}
	for i := range found.Blocks {
		b := found.Blocks[i]
		b.Timestamps, b.Values = s.timestamps(&b), s.copyOf(b.Values)
		s.blocks = append(s.blocks, b)
	}
	e.last = len(s.blocks)
	s.series = append(s.series, e)
	return nil
}

// reserve makes sure that n more bytes may be taken.
func (s *Set) reserve(n int64) error {
	s.bytes += n
	if s.o.MaxBytes > 0 && s.bytes > s.o.MaxBytes {
		return errkind.New(errkind.Unprocessable, "cannot use more than %d bytes of memory for %s; select fewer series, shorten the range, or raise -search.maxMemoryPerQuery", s.o.MaxBytes, s.o.What)
	}
	if s.bytes <= s.held {
		return nil
	}
	more := max(s.bytes-s.held, reserveBytes)
	if err := s.o.Budget.ReserveMore(more, s.held, s.o.What); err != nil {
		return err
	}
	s.held += more
	return nil
}

// copyOf returns a copy of b in a slab.
func (s *Set) copyOf(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if cap(s.slab)-len(s.slab) < len(b) {
		s.slab = make([]byte, 0, max(slabBytes, len(b)))
	}
	start := len(s.slab)
	s.slab = append(s.slab, b...)
	return s.slab[start:len(s.slab):len(s.slab)]
}

// timestamps returns a copy of the column of timestamps, or one that was made for another series of the same target.
func (s *Set) timestamps(b *tsblock.Block) []byte {
	const mix = 0x9e3779b97f4a7c15
	slot := &s.shared[(uint64(b.MinTimestamp)*mix+uint64(b.MaxTimestamp))*mix>>58]
	if len(b.Timestamps) == 0 || !bytes.Equal(*slot, b.Timestamps) {
		*slot = s.copyOf(b.Timestamps)
	}
	return *slot
}

// SortByLabels puts the series into the order of Prometheus: by their labels sorted by name, __name__ among the
// others, compared one after the other. The order of keys differs, since keys begin texts with their lengths.
func (s *Set) SortByLabels() error {
	need := int64(0)
	for i := range s.series {
		need += 2 * int64(len(s.series[i].key))
	}
	if err := s.o.Budget.ReserveMore(need, s.held, s.o.What); err != nil {
		return err
	}
	defer s.o.Budget.Release(need)
	type sortable struct {
		text []byte
		entry
	}
	list := make([]sortable, len(s.series))
	var labels []model.Label
	var text []byte
	for i := range s.series {
		var err error
		if labels, err = AppendLabels(labels[:0], s.series[i].key); err != nil {
			return err
		}
		text = text[:0]
		for _, l := range labels {
			text = appendSortable(appendSortable(text, l.Name), l.Value)
		}
		list[i] = sortable{text: bytes.Clone(text), entry: s.series[i]}
	}
	slices.SortFunc(list, func(a, b sortable) int { return bytes.Compare(a.text, b.text) })
	for i := range list {
		s.series[i] = list[i].entry
	}
	return nil
}

// appendSortable appends a text such that the bytes of lists of texts compare as the lists do.
func appendSortable(dst []byte, text string) []byte {
	for i := range len(text) {
		if dst = append(dst, text[i]); text[i] == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0, 1)
}

// AppendLabels appends the labels of a key in the order of Prometheus: all by name, __name__ among them. They alias the key.
func AppendLabels(dst []model.Label, key []byte) ([]model.Label, error) {
	start := len(dst)
	_, dst, err := model.ParseSeriesKey(dst, key)
	if err != nil {
		return dst, err
	}
	labels := dst[start:]
	if len(labels) < 2 || labels[0].Name != model.MetricNameLabel || labels[1].Name > model.MetricNameLabel {
		return dst, nil
	}
	slices.SortFunc(labels, func(a, b model.Label) int { return cmp.Compare(a.Name, b.Name) })
	return dst, nil
}
