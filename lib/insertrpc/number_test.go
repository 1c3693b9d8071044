package insertrpc

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi/apitest"
)

// producer numbers the series of its batches, and is their keyer.
type producer struct {
	space   *model.Space
	numbers map[string]uint32
	keys    []string
	asked   int
}

func newProducer() *producer {
	return &producer{space: model.NewSpace(), numbers: map[string]uint32{}}
}

func (p *producer) AppendKey(dst []byte, number uint32, hint uint64) []byte {
	if hint != uint64(number)*3 {
		panic("wrong hint")
	}
	p.asked++
	return append(dst, p.keys[number]...)
}

// number fills dst with the series of src, most of them numbered.
func (p *producer) number(rng *rand.Rand, dst, src *model.Batch) {
	dst.Reset()
	dst.SetSpace(p.space, p)
	for i := range src.Len() {
		key := string(src.Key(i))
		number, known := p.numbers[key]
		switch {
		case rng.IntN(8) == 0:
			dst.AddKey(src.Key(i), src.Hash(i))
		case !known:
			number = uint32(len(p.keys))
			p.numbers[key], p.keys = number, append(p.keys, key)
			dst.AddKey(src.Key(i), src.Hash(i))
			dst.SetNumber(number)
		default:
			dst.AddNumbered(number, src.Hash(i), uint64(number)*3)
		}
		for _, s := range src.Samples(i) {
			dst.AddSample(s.Timestamp, s.Value)
		}
	}
}

// checkingStore checks the numbers of batches on their way to a store.
type checkingStore struct {
	*apitest.Memory
	mu     sync.Mutex
	spaces map[*model.Space]map[uint32]string
	ended  map[*model.Space]bool
	faults []string
}

type spaceEnd struct {
	store *checkingStore
	space *model.Space
}

func (e *spaceEnd) Detach() {
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	e.store.ended[e.space] = true
}

func newCheckingStore() *checkingStore {
	return &checkingStore{Memory: apitest.NewMemory(), spaces: map[*model.Space]map[uint32]string{}, ended: map[*model.Space]bool{}}
}

func (s *checkingStore) Ingest(ctx context.Context, b *model.Batch) error {
	space := b.Space()
	if space == nil {
		return errkind.New(errkind.Internal, "a batch has no space")
	}
	space.Attach(s, func() model.Attachment { return &spaceEnd{s, space} })
	err := s.Memory.Ingest(ctx, b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended[space] {
		s.faults = append(s.faults, "a space ended while a batch used it")
	}
	if s.spaces[space] == nil {
		s.spaces[space] = map[uint32]string{}
	}
	for i := range b.Len() {
		key, number := string(b.Key(i)), b.Number(i)
		if old, ok := s.spaces[space][number]; ok && old != key || b.Hash(i) != model.HashSeriesKey(b.Key(i)) {
			s.faults = append(s.faults, fmt.Sprintf("number %d is %q and %q", number, old, key))
		}
		s.spaces[space][number] = key
	}
	return err
}

// TestNumberedBatches sends batches of several producers, which start new spaces now and then, and compares what
// arrives with a store which got the same directly.
func TestNumberedBatches(t *testing.T) {
	for name, c := range map[string]struct {
		client func(o *ClientOptions)
		server func(o *ServerOptions)
	}{
		"defaults":         {nil, nil},
		"small dictionary": {func(o *ClientOptions) { o.Config.MaxDictSeries = 100 }, nil},
		"server asks":      {nil, func(o *ServerOptions) { o.Config.MaxDictBytes = 10000 }},
		"no memory at all": {func(o *ClientOptions) { o.Budget = memory.NewBudget(1) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			n := newNode(t)
			store := newCheckingStore()
			s := n.serve(func(o *ServerOptions) {
				if c.server != nil {
					c.server(o)
				}
				o.Ingester = store
			})
			client := n.client(c.client)
			direct := apitest.NewMemory()
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() { produce(t, rand.New(rand.NewPCG(seed, uint64(i))), client, direct) })
			}
			wg.Wait()
			if contents(t, store) != contents(t, direct) {
				t.Error("what arrived differs from what was sent")
			}
			_ = client.Close()
			s.Close()
			for _, fault := range store.faults {
				t.Error(fault)
			}
			if len(store.ended) != len(store.spaces) || len(store.spaces) == 0 {
				t.Errorf("%d of %d spaces have ended", len(store.ended), len(store.spaces))
			}
		})
	}
}

// produce sends random batches to both.
func produce(t *testing.T, rng *rand.Rand, client *Client, direct *apitest.Memory) {
	p := newProducer()
	var plain, b model.Batch
	for range 40 {
		if rng.IntN(10) == 0 {
			p.space.Close()
			p = newProducer()
		}
		randomBatch(t, rng, &plain, 1000)
		p.number(rng, &b, &plain)
		if err := client.Ingest(context.Background(), &b); err != nil {
			t.Error(err)
		}
		if err := direct.Ingest(context.Background(), &plain); err != nil {
			t.Error(err)
		}
	}
	p.space.Close()
}

// TestKnownNumbersNeedNoKey checks that a key is asked for once per connection, and that the memory per series is what
// the documentation says.
func TestKnownNumbersNeedNoKey(t *testing.T) {
	const series = 3 << 10
	n := newNode(t)
	n.serve(nil)
	budget := memory.NewBudget(64 << 20)
	c := n.client(func(o *ClientOptions) { o.Budget = budget })
	p := newProducer()
	var plain, b model.Batch
	scrape(t, &plain, series, 0)
	for i := range plain.Len() {
		p.keys = append(p.keys, string(plain.Key(i)))
	}
	for range 3 {
		b.Reset()
		b.SetSpace(p.space, p)
		for i := range plain.Len() {
			b.AddNumbered(uint32(i), plain.Hash(i), uint64(i)*3)
			b.AddSample(1, 1)
		}
		ingest(t, c, &b)
	}
	if p.asked != series {
		t.Errorf("the keyer was asked %d times for %d series", p.asked, series)
	}
	if perSeries := budget.Used() / series; perSeries > 32 {
		t.Errorf("%d bytes per series", perSeries)
	}
	p.space.Close()
	resets := c.metrics.resets.Get()
	ingest(t, c, &plain)
	if c.metrics.resets.Get() != resets+1 {
		t.Error("the dictionary is kept although all its series are gone")
	}
}

// TestLongKeysAreHandedOnInPieces names a few long keys many times.
func TestLongKeysAreHandedOnInPieces(t *testing.T) {
	var plain model.Batch
	for i := range 3 {
		if err := plain.AddSeries(model.TenantID{}, []model.Label{{Name: "a", Value: strings.Repeat("x", 700<<10) + fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
		plain.AddSample(1, 1)
	}
	var d decoder
	dict := newSenderDict(100, nil)
	decode := func(b *model.Batch) *received {
		t.Helper()
		e := encoder{dict: dict}
		if _, err := appendBody(&e, b, position{}, false); err != nil {
			t.Fatal(err)
		}
		r := &received{}
		if err := d.decode(e.dst, r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for i := range 3 { // an announcement each, since they fill a request
		var one model.Batch
		one.Append(&plain, i)
		decode(&one)
	}
	var many model.Batch
	for i := range 300 {
		many.Append(&plain, i%3)
	}
	r := decode(&many)
	rows, batches := 0, 0
	err := r.ingest(context.Background(), func(_ context.Context, b *model.Batch) error {
		size := 0
		for i := range b.Len() {
			if !bytes.Equal(b.Key(i), plain.Key((rows+i)%3)) {
				t.Fatal("wrong key")
			}
			size += len(b.Key(i))
		}
		if size > maxKeysAtOnce+maxKeyBytes {
			t.Errorf("a batch has keys of %d bytes", size)
		}
		rows, batches = rows+b.Rows(), batches+1
		return nil
	})
	if err != nil || rows != 300 || batches < 6 {
		t.Errorf("%d rows in %d batches, error %v", rows, batches, err)
	}
}

func TestTooManyRowsInARequest(t *testing.T) {
	key, err := model.AppendSeriesKey(nil, model.TenantID{}, seriesName(1))
	if err != nil {
		t.Fatal(err)
	}
	body := append(append([]byte{1, 1, byte(len(key))}, key...), 0, 0)
	for range maxReceivedRows {
		body = append(body, 4, 0, 0) // the same series again
	}
	var d decoder
	if err := d.decode(body, &received{}); errkind.Of(err) != errkind.Corrupt || !strings.Contains(err.Error(), "samples") {
		t.Errorf("error %v", err)
	}
}
