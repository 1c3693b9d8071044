package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
)

const headPageSize = 256

// headPage holds the references to the rows of ids with equal upper bits; 0 means absent.
type headPage [headPageSize]uint64

// head is the mutable source of an index. Series become label pairs, which are kept once
// per tenant. Once frozen it is only read.
type head struct {
	seed maphash.Seed
	mu   struct {
		sync.RWMutex
		arena   arena
		pages   map[uint32]*headPage
		series  hashTable // of keys, to ids
		count   int
		tenants map[model.TenantID]*headTenant
		slots   []*headTenant
		row     []byte   // scratch of add
		pair    []byte   // scratch of add
		last    []uint32 // pairs of the series added last, and the tenant it belongs to
		lastOf  *headTenant
		sets    int64 // bytes of postings
	}
}

// headTenant holds the dictionary and the postings of one tenant. The lock of the head guards it.
type headTenant struct {
	id    model.TenantID
	slot  uint32
	pairs []headPair
	table hashTable // of encoded pairs, to indexes in pairs
	names map[string]uint32
	list  []*headName
	all   runSet
}

// headPair is one label pair. Ref and name never change.
type headPair struct {
	ref  uint64 // in the arena
	name uint32 // index in headTenant.list
	id   uint32 // the only id, while more is nil
	next uint32 // the pair that stood in the same place of the series after the last one with this pair
	more *posting
}

type headName struct {
	name  string
	pairs []uint32
	ids   runSet // series that have the label
}

func newHead() *head {
	h := &head{seed: maphash.MakeSeed()}
	h.mu.pages = map[uint32]*headPage{}
	h.mu.tenants = map[model.TenantID]*headTenant{}
	return h
}

func (h *head) hash(b []byte) uint32 { return uint32(maphash.Bytes(h.seed, b)) }

// fold makes the hash of a key one for the table of series.
func fold(hash uint64) uint32 { return uint32(hash) ^ uint32(hash>>32) }

// lookup returns the id of the series with the key that is not deleted. Hash is model.HashSeriesKey(key).
func (h *head) lookup(hash uint64, key []byte, deleted *roaring.Bitmap) (uint32, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.mu.series.find(fold(hash), func(id uint32) bool { return h.keyEqualsLocked(id, key) && !deleted.Contains(id) })
}

func (h *head) rowLocked(id uint32) (row []byte, ok bool) {
	page := h.mu.pages[id/headPageSize]
	if page == nil || page[id%headPageSize] == 0 {
		return nil, false
	}
	return h.mu.arena.at(page[id%headPageSize]), true
}

func (h *head) keyEqualsLocked(id uint32, key []byte) bool {
	row, ok := h.rowLocked(id)
	if !ok {
		return false
	}
	c := h.openRowLocked(row)
	if !bytes.HasPrefix(key, c.tenantBytes()) {
		return false
	}
	key = key[model.TenantSize:]
	for encoded := c.next(); encoded != nil; encoded = c.next() {
		if !bytes.HasPrefix(key, encoded) {
			return false
		}
		key = key[len(encoded):]
	}
	return len(key) == 0
}

// appendKey appends the key of id, if the head has it.
func (h *head) appendKey(dst []byte, id uint32) ([]byte, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	row, ok := h.rowLocked(id)
	if !ok {
		return dst, false
	}
	c := h.openRowLocked(row)
	dst = c.tenant.id.AppendTo(dst)
	for encoded := c.next(); encoded != nil; encoded = c.next() {
		dst = append(dst, encoded...)
	}
	return dst, true
}

// rowCursor walks over the parts of a row, in the order and encoding of the key.
type rowCursor struct {
	h      *head
	tenant *headTenant
	row    []byte
	left   int
	first  bool
	buf    [model.TenantSize]byte
}

func (h *head) openRowLocked(row []byte) rowCursor {
	slot, n := binary.Uvarint(row)
	row = row[n:]
	count, n := binary.Uvarint(row)
	return rowCursor{h: h, tenant: h.mu.slots[slot], row: row[n:], left: int(count), first: true}
}

func (c *rowCursor) tenantBytes() []byte { return c.tenant.id.AppendTo(c.buf[:0]) }

// next returns the next part of the key behind the tenant, or nil at the end.
func (c *rowCursor) next() []byte {
	if c.left == 0 && !c.first {
		return nil
	}
	first := c.first
	c.first = false
	if c.left == 0 {
		return []byte{0} // neither name nor labels
	}
	index, n := binary.Uvarint(c.row)
	encoded, _ := c.h.mu.arena.pairAt(c.tenant.pairs[index].ref)
	isName := encoded[0] == 0
	if first && !isName {
		return []byte{0} // the empty metric name; the pair comes with the next call
	}
	c.row = c.row[n:]
	c.left--
	if isName {
		return encoded[1:]
	}
	return encoded
}

// add registers a key that the head does not have. The key must be canonical. Hash is model.HashSeriesKey(key).
func (h *head) add(hash uint64, id uint32, key []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tenantLocked(model.SeriesKeyTenant(key))
	t.all.add(id)
	pairs := h.mu.row[:0]
	if h.mu.lastOf != t {
		h.mu.last, h.mu.lastOf = h.mu.last[:0], t
	}
	count := 0
	for i, b := 0, key[model.TenantSize:]; len(b) > 0; i++ {
		encoded, tail := h.cutPairLocked(b, i == 0)
		b = tail
		if encoded == nil {
			continue
		}
		index := h.addPairLocked(t, encoded, id, count)
		pairs = binary.AppendUvarint(pairs, uint64(index))
		if count == len(h.mu.last) {
			h.mu.last = append(h.mu.last, index)
		}
		t.pairs[h.mu.last[count]].next = index
		h.mu.last[count] = index
		count++
	}
	h.mu.row = pairs
	head := binary.AppendUvarint(h.mu.pair[:0], uint64(t.slot))
	head = binary.AppendUvarint(head, uint64(count))
	h.mu.pair = append(head, pairs...)
	page := h.mu.pages[id/headPageSize]
	if page == nil {
		page = &headPage{}
		h.mu.pages[id/headPageSize] = page
	}
	invariants.Check(page[id%headPageSize] == 0, "series id %d is registered twice", id)
	page[id%headPageSize] = h.mu.arena.put(h.mu.pair)
	h.mu.series.insert(fold(hash), id)
	h.mu.count++
}

// cutPairLocked splits the next pair off a key. Encoded is nil for an empty metric name.
func (h *head) cutPairLocked(b []byte, metric bool) (encoded, tail []byte) {
	first, n := binary.Uvarint(b)
	end := n + int(first)
	if metric {
		if first == 0 {
			return nil, b[end:]
		}
		h.mu.pair = append(append(h.mu.pair[:0], 0), b[:end]...)
		return h.mu.pair, b[end:]
	}
	second, n := binary.Uvarint(b[end:])
	end += n + int(second)
	return b[:end], b[end:]
}

func (h *head) tenantLocked(id model.TenantID) *headTenant {
	if t := h.mu.tenants[id]; t != nil {
		return t
	}
	t := &headTenant{id: id, slot: uint32(len(h.mu.slots)), names: map[string]uint32{}}
	h.mu.tenants[id] = t
	h.mu.slots = append(h.mu.slots, t)
	return t
}

// guessLocked finds a pair without its hash. Most often it is the one that the series added last has in the same place, or the
// one that followed that the last time: scrapes bring the same targets in the same order for each metric.
func (h *head) guessLocked(t *headTenant, encoded []byte, place int) (uint32, bool) {
	if place >= len(h.mu.last) {
		return 0, false
	}
	last := h.mu.last[place]
	if bytes.HasPrefix(h.mu.arena.at(t.pairs[last].ref), encoded) {
		return last, true
	}
	next := t.pairs[last].next
	return next, bytes.HasPrefix(h.mu.arena.at(t.pairs[next].ref), encoded)
}

// addPairLocked adds id to the postings of a pair and returns the index of the pair.
func (h *head) addPairLocked(t *headTenant, encoded []byte, id uint32, place int) uint32 {
	index, ok := h.guessLocked(t, encoded, place)
	if !ok {
		hash := h.hash(encoded)
		if index, ok = h.findPairLocked(t, hash, encoded); !ok {
			return h.newPairLocked(t, hash, encoded, id)
		}
	}
	p := &t.pairs[index]
	if p.more == nil {
		p.more = &posting{}
		h.mu.sets += postingOverhead + p.more.add(p.id)
	}
	h.mu.sets += p.more.add(id)
	t.list[p.name].ids.add(id)
	return index
}

func (h *head) findPairLocked(t *headTenant, hash uint32, encoded []byte) (uint32, bool) {
	return t.table.find(hash, func(i uint32) bool {
		return bytes.HasPrefix(h.mu.arena.at(t.pairs[i].ref), encoded)
	})
}

func (h *head) newPairLocked(t *headTenant, hash uint32, encoded []byte, id uint32) uint32 {
	nameLen, n := binary.Uvarint(encoded)
	name := encoded[n : n+int(nameLen)]
	nameIndex, ok := t.names[string(name)]
	if !ok {
		nameIndex = uint32(len(t.list))
		t.list = append(t.list, &headName{name: string(name)})
		t.names[string(name)] = nameIndex
	}
	index := uint32(len(t.pairs))
	t.pairs = append(t.pairs, headPair{ref: h.mu.arena.put(encoded), name: nameIndex, id: id})
	t.table.insert(hash, index)
	l := t.list[nameIndex]
	l.pairs = append(l.pairs, index)
	l.ids.add(id)
	return index
}

// sizeBytes returns about how much memory the head takes.
func (h *head) sizeBytes() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := h.mu.arena.sizeBytes() + h.mu.series.sizeBytes() + int64(len(h.mu.pages))*(headPageSize*8+64) + h.mu.sets
	for _, t := range h.mu.slots {
		n += t.table.sizeBytes() + int64(cap(t.pairs))*int64(unsafe.Sizeof(headPair{})) + t.all.sizeBytes()
		for _, l := range t.list {
			n += int64(cap(l.pairs))*4 + int64(len(l.name)) + l.ids.sizeBytes() + int64(unsafe.Sizeof(*l))
		}
	}
	return n
}

func (h *head) seriesCount() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.mu.count
}

// firstID returns the smallest id of a head that is not empty.
func (h *head) firstID() uint32 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	n := slices.Min(slices.Collect(maps.Keys(h.mu.pages)))
	i := slices.IndexFunc(h.mu.pages[n][:], func(ref uint64) bool { return ref != 0 })
	return n*headPageSize + uint32(i)
}

// ids returns all ids in ascending order.
func (h *head) ids() []uint32 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	ids := make([]uint32, 0, h.mu.count)
	for _, n := range slices.Sorted(maps.Keys(h.mu.pages)) {
		for i, ref := range h.mu.pages[n] {
			if ref != 0 {
				ids = append(ids, n*headPageSize+uint32(i))
			}
		}
	}
	return ids
}

func (h *head) appendTenants(dst []model.TenantID) []model.TenantID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, t := range h.mu.slots {
		dst = append(dst, t.id)
	}
	return dst
}

func (h *head) tenant(id model.TenantID) (tenantSource, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	t := h.mu.tenants[id]
	return &headReader{h: h, t: t}, t != nil
}

// headReader answers for one tenant of a head.
type headReader struct {
	h *head
	t *headTenant
}

func (r *headReader) addAll(dst *idSet) error {
	r.h.mu.RLock()
	defer r.h.mu.RUnlock()
	r.t.all.addTo(dst)
	return nil
}

func (r *headReader) addLabel(dst *idSet, name string) error {
	r.h.mu.RLock()
	defer r.h.mu.RUnlock()
	if i, ok := r.t.names[name]; ok {
		r.t.list[i].ids.addTo(dst)
	}
	return nil
}

func (r *headReader) hasAll(ids *roaring.Bitmap) (bool, error) {
	var all idSet
	err := r.addAll(&all)
	return isWithin(all.take(), ids), err
}

func (r *headReader) hasAllWith(name string, ids *roaring.Bitmap) (bool, error) {
	var with idSet
	err := r.addLabel(&with, name)
	return isWithin(with.take(), ids), err
}

func isWithin(b, ids *roaring.Bitmap) bool { return b.AndCardinality(ids) == b.GetCardinality() }

func (r *headReader) intersects(name string, ids *roaring.Bitmap) (bool, error) {
	var with idSet
	err := r.addLabel(&with, name)
	return ids.Intersects(with.take()), err
}

func (r *headReader) addValue(dst *idSet, name, value string) error {
	encoded := binary.AppendUvarint(make([]byte, 0, len(name)+len(value)+6), uint64(len(name)))
	encoded = append(encoded, name...)
	encoded = binary.AppendUvarint(encoded, uint64(len(value)))
	encoded = append(encoded, value...)
	r.h.mu.RLock()
	defer r.h.mu.RUnlock()
	if i, ok := r.h.findPairLocked(r.t, r.h.hash(encoded), encoded); ok {
		r.addPairLocked(dst, i)
	}
	return nil
}

func (r *headReader) addPairLocked(dst *idSet, i uint32) {
	if p := &r.t.pairs[i]; p.more != nil {
		p.more.addTo(dst)
	} else {
		dst.add(p.id)
	}
}

func (r *headReader) valueCount(name string) (int, error) {
	r.h.mu.RLock()
	defer r.h.mu.RUnlock()
	if i, ok := r.t.names[name]; ok {
		return len(r.t.list[i].pairs), nil
	}
	return 0, nil
}

func (r *headReader) labelNames() ([]string, error) {
	r.h.mu.RLock()
	defer r.h.mu.RUnlock()
	names := make([]string, 0, len(r.t.list))
	for _, l := range r.t.list {
		names = append(names, l.name)
	}
	slices.Sort(names)
	return names, nil
}

// headValue is a value together with the index of its pair.
type headValue struct {
	value string // aliases the arena
	pair  uint32
}

// candidates returns the values of a label that start with prefix, in no order. It
// takes the lock for an instant only: what it reads afterwards never changes.
func (r *headReader) candidates(name, prefix string) []headValue {
	r.h.mu.RLock()
	i, ok := r.t.names[name]
	if !ok {
		r.h.mu.RUnlock()
		return nil
	}
	indexes, pairs, texts := r.t.list[i].pairs, r.t.pairs, arena{chunks: r.h.mu.arena.chunks}
	r.h.mu.RUnlock()
	var values []headValue
	for _, p := range indexes {
		_, value := texts.pairAt(pairs[p].ref)
		if len(value) >= len(prefix) && string(value[:len(prefix)]) == prefix {
			values = append(values, headValue{bytesutil.String(value), p})
		}
	}
	return values
}

// addMatching walks over the values without the lock and takes it for a few postings at a time.
func (r *headReader) addMatching(ctx context.Context, dst *idSet, m valueMatch) error {
	const batch = 1024
	values := r.candidates(m.name, m.prefix)
	if m.match != nil {
		values = slices.DeleteFunc(values, func(v headValue) bool { return !m.match(v.value) })
	}
	for part := range slices.Chunk(values, batch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.h.mu.RLock()
		for _, v := range part {
			r.addPairLocked(dst, v.pair)
		}
		r.h.mu.RUnlock()
	}
	return nil
}

func (r *headReader) values(name string) (valueCursor, error) { return r.sortedValues(name), nil }

func (r *headReader) sortedValues(name string) *headValues {
	values := r.candidates(name, "")
	slices.SortFunc(values, func(a, b headValue) int { return bytes.Compare(bytesutil.Bytes(a.value), bytesutil.Bytes(b.value)) })
	return &headValues{r: r, list: values}
}

// headValues is the sorted values of one label.
type headValues struct {
	r    *headReader
	list []headValue
	pos  int
}

func (c *headValues) next() (bool, error) {
	c.pos++
	return c.pos <= len(c.list), nil
}

func (c *headValues) value() string { return c.list[c.pos-1].value }

func (c *headValues) addIDs(dst *idSet) error {
	c.r.h.mu.RLock()
	defer c.r.h.mu.RUnlock()
	c.r.addPairLocked(dst, c.list[c.pos-1].pair)
	return nil
}

func (c *headValues) intersects(ids *roaring.Bitmap) (bool, error) {
	c.r.h.mu.RLock()
	defer c.r.h.mu.RUnlock()
	p := &c.r.t.pairs[c.list[c.pos-1].pair]
	switch {
	case p.more == nil:
		return ids.Contains(p.id), nil
	case p.more.bitmap != nil:
		return ids.Intersects(p.more.bitmap), nil
	}
	return slices.ContainsFunc(p.more.unpack(nil), ids.Contains), nil
}

func (c *headValues) count(ids *roaring.Bitmap) (uint64, error) {
	c.r.h.mu.RLock()
	defer c.r.h.mu.RUnlock()
	p := &c.r.t.pairs[c.list[c.pos-1].pair]
	switch {
	case p.more == nil:
		return countIn([]uint32{p.id}, ids), nil
	case p.more.bitmap != nil:
		return ids.AndCardinality(p.more.bitmap), nil
	}
	return countIn(p.more.unpack(nil), ids), nil
}
