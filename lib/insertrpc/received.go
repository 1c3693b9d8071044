package insertrpc

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/s2"

	"vmcluster/lib/invariants"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
)

// receiverDict holds the series a client has announced, by reference. References are the numbers of a space. It
// has no pointers per series for the garbage collector to follow.
type receiverDict struct {
	series announced
	last   []uint64 // bits of the last value received, by reference
	used   int      // bytes of the newest chunk
	text   []byte   // of the newest chunk
	bytes  int64    // memory held
	budget *memory.Budget
	space  *sharedSpace // nil while there are no series
}

// announced is what requests see of a dictionary. Entries and the keys in chunks do not
// change any more, so a copy may be read while the dictionary grows.
type announced struct {
	entries []receiverEntry
	chunks  []*keyChunk

	// Texts of packed chunks that were asked for last, of *unpackedChunk. A router asks for the keys of a batch from a goroutine for each node.
	unpacked sync.Pool
}

// unpackedChunk is the text of a packed chunk.
type unpackedChunk struct {
	of   *keyChunk
	text []byte
}

// receiverEntry is a series. The key is size bytes from start on in its chunk; a key of longKey bytes or more is a chunk of its own.
type receiverEntry struct {
	hash  uint64
	chunk uint32
	start uint16
	size  uint16
}

// keyBytes returns the size of the key, or what is surely no less.
func (e *receiverEntry) keyBytes() int {
	if e.size == longKey {
		return maxKeyBytes
	}
	return int(e.size)
}

// keyChunk is a run of keys. Hardly anybody asks for a key once the storage knows its series, and keys of one sender repeat
// each other, so chunks are compressed soon after they are full.
type keyChunk struct {
	text   atomic.Pointer[[]byte] // nil once it is packed
	packed []byte                 // set before text is cleared
}

const (
	receiverEntryBytes = 16
	lastBytes          = 8
	keyChunkBytes      = 64 << 10
	longKey            = math.MaxUint16
	// openChunks is the number of the newest chunks that are not packed: requests under way ask for keys that were just announced.
	openChunks = 4
)

// sharedSpace is the space of a dictionary. It ends when the dictionary and all requests that use it have.
type sharedSpace struct {
	space *model.Space
	users atomic.Int32
}

func (s *sharedSpace) release() {
	if s.users.Add(-1) == 0 {
		s.space.Close()
	}
}

func (d *receiverDict) reset() {
	if d.budget != nil {
		d.budget.Release(d.bytes)
	}
	if d.space != nil {
		d.space.release()
	}
	*d = receiverDict{budget: d.budget}
}

// begin returns the space, which the caller may use until the dictionary is changed.
func (d *receiverDict) begin() *sharedSpace {
	if d.space == nil {
		d.space = &sharedSpace{space: model.NewSpace()}
		d.space.users.Add(1)
	}
	return d.space
}

// add takes the next series. The key is copied.
func (d *receiverDict) add(hash uint64, key []byte) {
	a := &d.series
	if len(d.text)-d.used < len(key) || len(key) >= longKey {
		d.startChunk(len(key))
	}
	e := receiverEntry{hash: hash, chunk: uint32(len(a.chunks) - 1), start: uint16(d.used), size: uint16(min(len(key), longKey))}
	d.used += copy(d.text[d.used:], key)
	if len(key) >= longKey {
		d.text = nil // nobody else's
	}
	before := cap(a.entries)
	a.entries = append(a.entries, e)
	d.account(int64(cap(a.entries)-before) * receiverEntryBytes)
	before = cap(d.last)
	d.last = append(d.last, 0)
	d.account(int64(cap(d.last)-before) * lastBytes)
}

// startChunk begins a chunk with room for a key. Chunks grow with the dictionary, so that a connection with few series stays small.
func (d *receiverDict) startChunk(keyBytes int) {
	a := &d.series
	size := min(keyChunkBytes, max(1<<10, 2*len(d.text)))
	if len(a.chunks) >= openChunks {
		size = keyChunkBytes
	}
	if size < keyBytes || keyBytes >= longKey {
		size = keyBytes
	}
	text := make([]byte, size)
	d.text, d.used = text, 0
	c := &keyChunk{}
	c.text.Store(&text)
	a.chunks = append(a.chunks, c)
	d.account(int64(size))
	if n := len(a.chunks); n > openChunks {
		d.account(a.chunks[n-1-openChunks].pack())
	}
}

// pack compresses the chunk if that is worth it, and returns the change of its size.
func (c *keyChunk) pack() int64 {
	text := *c.text.Load()
	packed := s2.EncodeBetter(nil, text)
	if len(packed) > len(text)*3/4 {
		return 0
	}
	c.packed = append(make([]byte, 0, len(packed)), packed...)
	c.text.Store(nil)
	return int64(len(packed) - len(text))
}

func (d *receiverDict) account(n int64) {
	d.bytes += n
	if d.budget != nil {
		d.budget.ForceReserve(n)
	}
}

// AppendKey implements model.Keyer.
func (a *announced) AppendKey(dst []byte, ref uint32, _ uint64) []byte {
	e := &a.entries[ref]
	c := a.chunks[e.chunk]
	if text := c.text.Load(); text != nil {
		return e.appendKey(dst, *text)
	}
	u, _ := a.unpacked.Get().(*unpackedChunk)
	if u == nil {
		u = &unpackedChunk{}
	}
	if u.of != c {
		text, err := s2.Decode(u.text[:cap(u.text)], c.packed)
		invariants.Check(err == nil, "keys packed in memory: %v", err)
		u.of, u.text = c, text
	}
	dst = e.appendKey(dst, u.text)
	if cap(u.text) <= 2*keyChunkBytes {
		a.unpacked.Put(u)
	}
	return dst
}

// appendKey appends the key from the text of its chunk.
func (e *receiverEntry) appendKey(dst, text []byte) []byte {
	if e.size == longKey {
		return append(dst, text...)
	}
	return append(dst, text[e.start:int(e.start)+int(e.size)]...)
}

// snapshot makes a what it is to requests.
func (a *announced) snapshot(of *announced) { a.entries, a.chunks = of.entries, of.chunks }

// reset forgets the dictionary.
func (a *announced) reset() { a.entries, a.chunks = nil, nil }

// received is a decoded request. Its batch asks it for keys.
type received struct {
	batch    model.Batch
	series   announced
	space    *sharedSpace // nil unless the request was decoded without error
	keyBytes int          // size of all keys
	part     model.Batch
}

// maxKeysAtOnce bounds the keys of a batch which its consumer may ask for, in bytes: a request names
// a long key in a byte, many times.
const maxKeysAtOnce = 32 << 20

// ingest hands the batch on, in several when its keys are long.
func (r *received) ingest(ctx context.Context, ingest func(context.Context, *model.Batch) error) error {
	if r.keyBytes <= maxKeysAtOnce {
		return ingest(ctx, &r.batch)
	}
	defer func() { r.part = model.Batch{} }()
	size := 0
	for i := range r.batch.Len() {
		r.part.Append(&r.batch, i)
		size += r.series.entries[r.batch.Number(i)].keyBytes()
		if size < maxKeysAtOnce && i+1 < r.batch.Len() {
			continue
		}
		if err := ingest(ctx, &r.part); err != nil {
			return err
		}
		// Keys which were asked for are let go.
		r.part, size = model.Batch{}, 0
	}
	return nil
}

// reset empties the request.
func (r *received) reset() {
	r.batch.Reset()
	if r.space != nil {
		r.space.release()
	}
	r.series.reset()
	r.space, r.keyBytes = nil, 0
}
