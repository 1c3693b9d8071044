package query

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"slices"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/query/rollup"
	"vmcluster/lib/query/vector"
)

// What a cache keeps can be written to a file and taken up again by another process, see docs/format/result_cache.md. Whether samples have
// changed meanwhile the stores tell, as they do between two queries.

const (
	cacheMagic   = "vmrc"
	cacheVersion = 1
	// maxCacheSection bounds what is allocated for a section before it is read.
	maxCacheSection = 1 << 30
)

// CacheOrigin says what results that are saved rest on, besides samples.
type CacheOrigin struct {
	// Identity stands for everything that makes two processes answer alike: program, configuration, the list of stores.
	Identity [32]byte
	// Stores is a number which the process has in the instances of all versions, by exclusive or.
	Stores uint64
	// MaxBytes is the size beyond which the rest is left out when saving.
	MaxBytes int64
}

// Save writes what is kept, what was used last first, and returns how many results that are.
func (c *Cache) Save(w io.Writer, o CacheOrigin) (n int, err error) {
	out := sectionWriter{out: w}
	out.begin()
	b := append(out.buf, o.Identity[:]...)
	b = binary.LittleEndian.AppendUint64(b, o.Stores)
	out.end(binary.LittleEndian.AppendUint64(b, c.seed))
	for _, e := range c.entries() {
		out.begin()
		b := e.kept.appendTo(codec.AppendBytes(out.buf, bytesutil.Bytes(e.key)))
		if out.size+int64(len(b)) > o.MaxBytes || len(b) > maxCacheSection || out.err != nil {
			break
		}
		out.end(b)
		n++
	}
	out.begin()
	out.end(out.buf)
	return n, out.err
}

// entries returns the results that are kept, the one used last first.
func (c *Cache) entries() (list []*cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.mu.used.Front(); e != nil; e = e.Next() {
		if entry := e.Value.(*cacheEntry); entry.kept != nil {
			list = append(list, entry)
		}
	}
	return list
}

// Load takes up what Save has written, as far as there is room, before the cache is used, and returns how many results that are. The error is of
// kind Unsupported when the file is of another origin, and Corrupt when it is damaged; the cache is empty then.
func (c *Cache) Load(r io.Reader, o CacheOrigin) (n int, err error) {
	defer func() {
		if err != nil {
			n = 0
			c.clear()
		}
	}()
	in := sectionReader{in: r}
	head, err := in.next()
	switch {
	case err != nil:
		return 0, err
	case len(head) != len(o.Identity)+16:
		return 0, errkind.New(errkind.Corrupt, "cannot read an origin of %d bytes; want %d", len(head), len(o.Identity)+16)
	case !bytes.Equal(head[:len(o.Identity)], o.Identity[:]):
		return 0, errkind.New(errkind.Unsupported, "it was written by another version, with other flags, or for other storage nodes")
	}
	head = head[len(o.Identity):]
	moved := binary.LittleEndian.Uint64(head) ^ o.Stores
	c.seed = binary.LittleEndian.Uint64(head[8:])
	for room := true; ; {
		section, err := in.next()
		if err != nil || len(section) == 0 {
			return n, err
		}
		key, k, err := parseEntry(section)
		if err != nil {
			return n, err
		}
		for i := range k.versions {
			k.versions[i].Instance ^= moved
		}
		if room = room && c.restore(key, k); room {
			n++
		}
	}
}

// restore adds a result that was used before all others; false when there is no room.
func (c *Cache) restore(key string, k *kept) bool {
	entry := &cacheEntry{key: key, kept: k, bytes: int64(len(key)) + entryBytes + k.bytes}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.byKey[key] != nil || c.mu.bytes+entry.bytes > c.max || c.budget.Reserve(entry.bytes, "cached results") != nil {
		return false
	}
	c.mu.bytes += entry.bytes
	c.mu.byKey[key] = c.mu.used.PushBack(entry)
	return true
}

// sectionWriter writes sections with their checksums.
type sectionWriter struct {
	out  io.Writer
	buf  []byte
	crc  uint32
	size int64
	err  error
}

// begin makes room for the size in buf, after the file's header if it is the first section.
func (w *sectionWriter) begin() {
	w.buf = w.buf[:0]
	if w.size == 0 {
		w.buf = append(append(w.buf, cacheMagic...), cacheVersion)
	}
	w.buf = append(w.buf, 0, 0, 0, 0)
}

// end writes a section, which begins where begin has left off in b.
func (w *sectionWriter) end(b []byte) {
	start := len(w.buf)
	binary.LittleEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	w.crc = codec.UpdateChecksum(w.crc, b)
	w.buf = binary.LittleEndian.AppendUint32(b, w.crc)
	w.size += int64(len(w.buf))
	if w.err == nil {
		_, w.err = w.out.Write(w.buf)
	}
}

// sectionReader reads them.
type sectionReader struct {
	in    io.Reader
	begun bool
	crc   uint32
	buf   []byte
}

// next returns the next section, which is valid until the next call; the last one is empty.
func (r *sectionReader) next() ([]byte, error) {
	if !r.begun {
		r.begun = true
		head, err := r.read(len(cacheMagic) + 1)
		switch {
		case err != nil:
			return nil, err
		case string(head[:len(cacheMagic)]) != cacheMagic:
			return nil, errkind.New(errkind.Corrupt, "cannot take %q for a file of results", head)
		case head[len(cacheMagic)] != cacheVersion:
			return nil, errkind.New(errkind.Unsupported, "its format has version %d; this program reads %d", head[len(cacheMagic)], cacheVersion)
		}
	}
	head, err := r.read(4)
	if err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head)
	if size > maxCacheSection {
		return nil, errkind.New(errkind.Corrupt, "cannot read a section of %d bytes; the largest has %d", size, maxCacheSection)
	}
	section, err := r.read(int(size))
	if err != nil {
		return nil, err
	}
	var sum [4]byte
	if _, err := io.ReadFull(r.in, sum[:]); err != nil {
		return nil, errkind.New(errkind.Corrupt, "cannot read a checksum: %w", err)
	}
	if got := binary.LittleEndian.Uint32(sum[:]); got != r.crc {
		return nil, errkind.New(errkind.Corrupt, "cannot take a section of %d bytes: its checksum is %#x, want %#x", size, got, r.crc)
	}
	return section, nil
}

// read reads n bytes which the checksum is about. What is allocated grows with what is there.
func (r *sectionReader) read(n int) ([]byte, error) {
	r.buf = r.buf[:0]
	for len(r.buf) < n {
		piece := min(n-len(r.buf), 1<<20)
		r.buf = slices.Grow(r.buf, piece)
		start := len(r.buf)
		r.buf = r.buf[:start+piece]
		if _, err := io.ReadFull(r.in, r.buf[start:]); err != nil {
			return nil, errkind.New(errkind.Corrupt, "cannot read %d bytes: %w", n, err)
		}
	}
	r.crc = codec.UpdateChecksum(r.crc, r.buf)
	return r.buf, nil
}

func (k *kept) appendTo(dst []byte) []byte {
	for _, n := range k.numbers() {
		dst = codec.AppendVarint(dst, *n)
	}
	dst = codec.AppendUvarint(dst, uint64(len(k.versions)))
	for i := range k.versions {
		dst = binary.LittleEndian.AppendUint64(dst, k.versions[i].Instance)
		dst = codec.AppendUvarint(dst, k.versions[i].Sequence)
	}
	dst = codec.AppendUvarint(dst, uint64(len(k.groups)))
	for _, g := range k.groups {
		dst = appendCached(dst, g)
	}
	dst = codec.AppendUvarint(dst, uint64(len(k.series)))
	var times []int64
	for i := range k.series {
		s := &k.series[i]
		dst = binary.LittleEndian.AppendUint64(dst, s.hash)
		dst = s.facts.AppendTo(dst)
		dst = appendTimes(dst, times, s.facts.Times)
		times = s.facts.Times
		if s.result == nil {
			dst = append(dst, 0)
			continue
		}
		dst = codec.AppendBytes(append(dst, 1), bytesutil.Bytes(s.key))
		dst = appendCached(dst, s.result)
	}
	return dst
}

// numbers returns the numbers of a result in their order in files.
func (k *kept) numbers() []*int64 {
	return []*int64{&k.grid.Start, &k.grid.End, &k.grid.Step, &k.read.Min, &k.read.Max, &k.until, &k.settled, &k.from, &k.reach, &k.needs}
}

// appendTimes appends timestamps, or that they are those of the series before.
func appendTimes(dst []byte, before, times []int64) []byte {
	if len(times) > 0 && len(times) == len(before) && &times[0] == &before[0] {
		return append(dst, 0)
	}
	dst = codec.AppendUvarint(dst, uint64(len(times))+1)
	last := int64(0)
	for _, t := range times {
		dst = codec.AppendVarint(dst, t-last)
		last = t
	}
	return dst
}

func appendCached(dst []byte, s *vector.Series) []byte {
	dst = codec.AppendBytes(dst, bytesutil.Bytes(s.Name))
	dst = codec.AppendUvarint(dst, uint64(len(s.Labels)))
	for _, l := range s.Labels {
		dst = codec.AppendBytes(dst, bytesutil.Bytes(l.Name))
		dst = codec.AppendBytes(dst, bytesutil.Bytes(l.Value))
	}
	for _, v := range s.Values {
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	return dst
}

// entryReader takes fields off a section. After the first failure it returns zero values.
type entryReader struct {
	src []byte
	err error
}

func (r *entryReader) fail(err error) {
	if r.err == nil {
		r.err = errkind.New(errkind.Corrupt, "cannot read a result: %w", err)
	}
	r.src = nil
}

func (r *entryReader) uvarint() uint64 {
	x, tail, err := codec.CutUvarint(r.src)
	if err != nil {
		r.fail(err)
		return 0
	}
	r.src = tail
	return x
}

func (r *entryReader) text() string {
	b, tail, err := codec.CutBytes(r.src)
	if err != nil {
		r.fail(err)
		return ""
	}
	r.src = tail
	return string(b)
}

func (r *entryReader) uint64() uint64 {
	if len(r.src) < 8 {
		r.fail(io.ErrUnexpectedEOF)
		return 0
	}
	x := binary.LittleEndian.Uint64(r.src)
	r.src = r.src[8:]
	return x
}

// count reads the number of things that follow, which take at least size bytes each.
func (r *entryReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.src)/size) {
		r.fail(io.ErrUnexpectedEOF)
		return 0
	}
	return int(n)
}

func parseEntry(section []byte) (key string, k *kept, err error) {
	r := &entryReader{src: section}
	key, k = r.text(), &kept{}
	for _, n := range k.numbers() {
		*n = codec.UnZigZag(r.uvarint())
	}
	const farthest = math.MaxInt64 / 8 // sums of times do not overflow
	if g := k.grid; r.err == nil && (g.Step <= 0 || g.End < g.Start || g.Start < -farthest || g.End > farthest || k.until < g.Start || k.until > g.End) {
		r.fail(errkind.New(errkind.Corrupt, "its times are from %d to %d by %d", g.Start, g.End, g.Step))
	}
	for range r.count(9) {
		k.versions = append(k.versions, Version{Instance: r.uint64(), Sequence: r.uvarint()})
	}
	for range r.count(2) {
		k.groups = append(k.groups, r.cached(k.grid))
	}
	r.series(k)
	if r.err == nil && len(r.src) > 0 {
		r.fail(errkind.New(errkind.Corrupt, "%d bytes are left over", len(r.src)))
	}
	if r.err != nil {
		return "", nil, r.err
	}
	if k.index(); len(k.byHash) < len(k.series) {
		r.fail(errkind.New(errkind.Corrupt, "two series have the same hash"))
	}
	return key, k, r.err
}

func (r *entryReader) series(k *kept) {
	var times []int64
	for range r.count(42) {
		s := keptSeries{hash: r.uint64()}
		var ok bool
		if s.facts, r.src, ok = rollup.CutFacts(r.src); !ok {
			r.fail(io.ErrUnexpectedEOF)
			return
		}
		times = r.times(times)
		s.facts.Times = times
		if r.uvarint() != 0 {
			s.key, s.result = r.text(), r.cached(k.grid)
		}
		k.series = append(k.series, s)
	}
}

// times reads timestamps, given those of the series before.
func (r *entryReader) times(before []int64) []int64 {
	n := r.count(1)
	if n == 0 {
		return before
	}
	times := make([]int64, n-1)
	last := int64(0)
	for i := range times {
		last += codec.UnZigZag(r.uvarint())
		times[i] = last
	}
	return times
}

func (r *entryReader) cached(g vector.Grid) *vector.Series {
	s := &vector.Series{Name: r.text()}
	for range r.count(2) {
		s.Labels = append(s.Labels, model.Label{Name: r.text(), Value: r.text()})
	}
	if r.err != nil || uint64(g.End-g.Start)/uint64(g.Step) >= uint64(len(r.src)/8) {
		r.fail(io.ErrUnexpectedEOF)
		return s
	}
	s.Values = make([]float64, g.Points())
	for i := range s.Values {
		s.Values[i] = math.Float64frombits(r.uint64())
	}
	return s
}
