package insertrpc

import (
	"context"
	"sync/atomic"

	"vmcluster/lib/memory"
	"vmcluster/lib/model"
)

// receiverDict holds the series a client has announced, by reference. References are the numbers of a space. It
// has no pointers per series for the garbage collector to follow.
type receiverDict struct {
	series announced
	last   []uint64 // bits of the last value received, by reference
	free   int      // bytes of the newest chunk which are not used
	bytes  int64    // memory held
	budget *memory.Budget
	space  *sharedSpace // nil while there are no series
}

// announced is what requests see of a dictionary. Entries, chunks and the used bytes of chunks do not
// change any more, so a copy may be read while the dictionary grows.
type announced struct {
	entries []receiverEntry
	chunks  [][]byte // keys; each as long as it will ever be
}

type receiverEntry struct {
	hash  uint64
	chunk uint32
	start uint32
	size  uint32
}

const (
	receiverEntryBytes = 24
	lastBytes          = 8
	keyChunkBytes      = 256 << 10
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
	if d.free < len(key) {
		size := min(keyChunkBytes, max(1<<10, d.nextChunk()))
		a.chunks = append(a.chunks, make([]byte, max(size, len(key))))
		d.free = len(a.chunks[len(a.chunks)-1])
		d.account(int64(d.free))
	}
	chunk := a.chunks[len(a.chunks)-1]
	start := len(chunk) - d.free
	d.free -= copy(chunk[start:], key)
	before := cap(a.entries)
	a.entries = append(a.entries, receiverEntry{hash: hash, chunk: uint32(len(a.chunks) - 1), start: uint32(start), size: uint32(len(key))})
	d.account(int64(cap(a.entries)-before) * receiverEntryBytes)
	before = cap(d.last)
	d.last = append(d.last, 0)
	d.account(int64(cap(d.last)-before) * lastBytes)
}

// nextChunk returns the size of the newest chunk times two, so that chunks grow
// with the dictionary and a connection with few series stays small.
func (d *receiverDict) nextChunk() int {
	n := len(d.series.chunks)
	if n == 0 {
		return 0
	}
	return 2 * len(d.series.chunks[n-1])
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
	return append(dst, a.chunks[e.chunk][e.start:e.start+e.size]...)
}

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
		size += int(r.series.entries[r.batch.Number(i)].size)
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
	r.space, r.series, r.keyBytes = nil, announced{}, 0
}
