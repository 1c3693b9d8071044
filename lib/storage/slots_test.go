package storage

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
	"vmcluster/lib/vfs/memfs"
)

// numbering turns batches into batches of numbered series, as a sender does which has seen them before.
type numbering struct {
	mu      sync.Mutex
	space   *model.Space
	numbers map[string]uint32
	keys    [][]byte
	asked   int
}

func newNumbering() *numbering {
	return &numbering{space: model.NewSpace(), numbers: map[string]uint32{}}
}

// AppendKey implements model.Keyer.
func (n *numbering) AppendKey(dst []byte, number uint32, _ uint64) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	return append(dst, n.keys[number]...)
}

// number returns the batch with numbers. With rng, some series go without, and some bring number and key.
func (n *numbering) number(b *model.Batch, rng *rand.Rand) *model.Batch {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := &model.Batch{}
	out.SetSpace(n.space, n)
	for i := range b.Len() {
		number, ok := n.numbers[string(b.Key(i))]
		if !ok {
			number = uint32(len(n.keys))
			n.numbers[string(b.Key(i))] = number
			n.keys = append(n.keys, b.Key(i))
		}
		switch {
		case rng != nil && rng.IntN(6) == 0:
			out.AddKey(b.Key(i), b.Hash(i))
		case rng != nil && rng.IntN(6) == 0 || !ok:
			out.AddKey(b.Key(i), b.Hash(i))
			out.SetNumber(number)
		default:
			out.AddNumbered(number, b.Hash(i), 0)
		}
		for _, x := range b.Samples(i) {
			out.AddSample(x.Timestamp, x.Value)
		}
		for _, x := range b.AppendHistograms(nil, i) {
			out.AddHistogram(x.Timestamp, x.Payload)
		}
	}
	return out
}

// numbered is an Ingester which numbers the series, and now and then starts a new space or makes the storage forget.
type numbered struct {
	*Storage
	rng *rand.Rand
	n   *numbering
	mu  sync.Mutex
}

func (x *numbered) Ingest(ctx context.Context, b *model.Batch) error {
	x.mu.Lock()
	switch x.rng.IntN(20) {
	case 0:
		x.n.space.Close()
		x.n = newNumbering()
	case 1:
		x.flushLock.Lock()
		x.forgetSeries()
		x.flushLock.Unlock()
	case 2:
		old := x.n
		x.n = newNumbering()
		defer old.space.Close()
	}
	out := x.n.number(b, x.rng)
	x.mu.Unlock()
	return x.Storage.Ingest(ctx, out)
}

func TestConformanceWithNumbers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	apitest.Run(t, func(t *testing.T) apitest.Target {
		s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
		t.Cleanup(func() { closeTest(t, s) })
		return apitest.Target{Ingester: &numbered{Storage: s, rng: rand.New(rand.NewPCG(seed, 1)), n: newNumbering()}, Searcher: s, Admin: s}
	})
}

// TestNumbersAgainstModel sends random batches over three months, so that slots hold other months than are asked for.
func TestNumbersAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fsys := memfs.New(memfs.Options{})
	g := newGenerator(rng, 60)
	n := newNaive()
	x := &numbered{Storage: openTest(t, testConfig(), testOptions(fsys)), rng: rng, n: newNumbering()}
	ctx := context.Background()
	for range 800 {
		var err error
		switch r := rng.IntN(200); {
		case r < 170:
			b := g.batch(t)
			n.send(t, b)
			if err = x.Ingest(ctx, b); err == nil {
				n.acknowledge(t, b)
			}
		case r < 180:
			err = x.Flush(ctx)
		case r < 184: // the space outlives the storage
			closeTest(t, x.Storage)
			x.Storage = openTest(t, testConfig(), testOptions(fsys))
		default:
			n.check(t, x.Storage, g.timeRange())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n.check(t, x.Storage, allTime())
	closeTest(t, x.Storage)
}

// TestKnownNumbersNeedNoKeys is what numbers are for.
func TestKnownNumbersNeedNoKeys(t *testing.T) {
	s := openTest(t, testConfig(), testOptions(memfs.New(memfs.Options{})))
	defer closeTest(t, s)
	n := newNumbering()
	ts := testNow().UnixMilli() // late on a day in November
	const series = 10_000       // more than a page of slots
	ingest(t, s, n.number(batchOf(t, series, ts, 1), nil))
	for i := range int64(3) {
		ingest(t, s, n.number(batchOf(t, series, ts+i*1000, 1), nil))
	}
	if n.asked != 0 || s.hot.sizeBytes() != 0 {
		t.Errorf("%d keys were asked for, and the hot table takes %d bytes; want none", n.asked, s.hot.sizeBytes())
	}
	// Samples of an older month cost a key each time, and do not drive the newer month out of the slots.
	ingest(t, s, n.number(batchOf(t, 10, ts-40*dayMs, 1), nil))
	if n.asked != 10 {
		t.Errorf("%d keys were asked for; want 10", n.asked)
	}
	ingest(t, s, n.number(batchOf(t, series, ts+5000, 1), nil))
	if n.asked != 10 {
		t.Errorf("after samples of another month %d keys were asked for; want none", n.asked-10)
	}
	if got := readAll(t, s, allTime()); len(got) != series {
		t.Errorf("%d series; want %d", len(got), series)
	}
}

// TestNumbersOfDroppedMonth drops the month that slots point to and writes to it again.
func TestNumbersOfDroppedMonth(t *testing.T) {
	now := testNow()
	o := testOptions(memfs.New(memfs.Options{}))
	var mu sync.Mutex
	at := func(moment time.Time) {
		mu.Lock()
		defer mu.Unlock()
		now = moment
	}
	o.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	s := openTest(t, testConfig(), o)
	defer closeTest(t, s)
	n := newNumbering()
	old := now.UnixMilli() - 90*dayMs
	ingest(t, s, n.number(batchOf(t, 3, old, 1), nil))
	at(testNow().Add(60 * 24 * time.Hour))
	s.watch()
	if got := readAll(t, s, allTime()); len(got) != 0 {
		t.Fatalf("%d series are left; want none", len(got))
	}
	at(testNow()) // the clock was wrong
	ingest(t, s, n.number(batchOf(t, 4, testNow().UnixMilli(), 1), nil))
	ingest(t, s, n.number(batchOf(t, 2, old, 1), nil))
	if got := readAll(t, s, model.TimeRange{Min: old, Max: old}); len(got) != 2 {
		t.Errorf("%d series; want 2", len(got))
	}
}
