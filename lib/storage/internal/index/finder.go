package index

import "runtime/debug"

// Finder finds flushed series, many of them one after the other. After a start every series that is scraped has to be found once, and
// scrapes bring them in the order in which they came when they got their ids. So the finder first compares a key with that of the
// id after the last one, whose rows are decoded already: that takes no look into the hash table, which costs two cache misses.
//
// It belongs to one goroutine, which opens it for a batch of series and closes it. The zero value is closed.
type Finder struct {
	ix      *Index
	st      *state
	next    uint32 // the id after the one found last
	guesses bool   // series have come in the order of ids
	decoded bool   // block is of a segment of the state
	block   rowBlock
}

// maxFinderBytes bounds the memory which a closed finder keeps.
const maxFinderBytes = 1 << 20

// Open begins a batch of lookups among the series of ix that are durable now. It finds nothing that somebody is just registering.
func (f *Finder) Open(ix *Index) {
	f.Close()
	f.ix, f.st = ix, ix.acquire()
}

// IsOpen reports whether Find may be called.
func (f *Finder) IsOpen() bool { return f.st != nil }

// Close ends the batch. The memory of the finder stays.
func (f *Finder) Close() {
	if f.st == nil {
		return
	}
	f.ix.release(f.st)
	block := f.block
	if block.heapBytes() > maxFinderBytes {
		block = rowBlock{}
	}
	*f = Finder{block: block}
}

// Find returns the id of the series with the key that is not deleted. Hash is model.HashSeriesKey(key). An error is that of Index.Lookup.
func (f *Finder) Find(hash uint64, key []byte) (id uint32, ok bool, err error) {
	defer f.ix.guard(debug.SetPanicOnFault(true), &err)
	if f.guesses && f.guess(key) {
		f.next++
		return f.next - 1, true, nil
	}
	flushed := f.st.with(nil, nil, f.st.segments)
	if id, ok, err = flushed.lookup(hash, key); ok {
		// A guess in another block of rows would decode it, so one has to be likely.
		f.guesses = id/rowBlockIDs == f.next/rowBlockIDs
		f.next = id + 1
	}
	return id, ok, err
}

// guess reports whether the next id has the key.
func (f *Finder) guess(key []byte) bool {
	if !f.decoded || f.block.first/rowBlockIDs != f.next/rowBlockIDs {
		if !f.decode() {
			f.guesses = false
			return false
		}
	}
	row, ok := f.block.rowOf(f.next)
	return ok && f.block.hasKey(row, key) && !f.st.isDeleted(f.next)
}

// decode reads the rows of the next id. What is wrong with them the lookup finds out as well.
func (f *Finder) decode() bool {
	for _, s := range f.st.segments {
		i, ok := s.rowBlockOf(f.next)
		if !ok {
			continue
		}
		f.decoded = false
		if err := s.decodeRows(&f.block, i); err != nil {
			return false
		}
		if _, ok := f.block.rowOf(f.next); ok {
			f.decoded = true
			return true
		}
	}
	return false
}
