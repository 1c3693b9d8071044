package insertrpc

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/transport"
	"vmcluster/lib/transport/replay"
)

// ledger is an Ingester that notes all rows.
type ledger struct {
	mu   sync.Mutex
	rows []string
}

func (l *ledger) Ingest(_ context.Context, b *model.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range b.Len() {
		key := model.SeriesKeyString(b.Key(i))
		if b.Hash(i) != model.HashSeriesKey(b.Key(i)) {
			return errkind.New(errkind.Internal, "the hash of %s is wrong", key)
		}
		for _, s := range b.Samples(i) {
			l.rows = append(l.rows, fmt.Sprintf("%s@%d=%#x", key, s.Timestamp, math.Float64bits(s.Value)))
		}
		for _, h := range b.AppendHistograms(nil, i) {
			l.rows = append(l.rows, fmt.Sprintf("%s@%d=%x", key, h.Timestamp, h.Payload))
		}
	}
	return nil
}

func (l *ledger) sorted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.rows)
	return l.rows
}

// addHistograms adds native histograms to some of the series of a batch, which it makes anew.
func addHistograms(t testing.TB, rng *rand.Rand, b *model.Batch) {
	t.Helper()
	src := *b
	*b = model.Batch{}
	for i := range src.Len() {
		b.Append(&src, i)
		for range rng.IntN(3) {
			kind := histogramtest.Kind(rng.IntN(histogramtest.Kinds))
			b.AddHistogram(rng.Int64N(1<<41), histogramtest.New(rng, kind).Payload())
		}
	}
}

// TestHistogramsArrive sends random batches from several goroutines, some of which have native histograms.
func TestHistogramsArrive(t *testing.T) {
	for name, change := range map[string]func(o *ClientOptions){
		"defaults":         nil,
		"small dictionary": func(o *ClientOptions) { o.Config.MaxDictSeries = 10 },
		"no memory":        func(o *ClientOptions) { o.Budget = memory.NewBudget(1) },
	} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			n := newNode(t)
			var got, want ledger
			n.serve(func(o *ServerOptions) { o.Ingester = &got })
			client := n.client(change)
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					var b model.Batch
					for round := range 20 {
						if randomBatch(t, rng, &b, 300); round%4 != i {
							addHistograms(t, rng, &b)
						}
						if err := client.Ingest(context.Background(), &b); err != nil {
							t.Error(err)
						}
						if err := want.Ingest(context.Background(), &b); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if !slices.Equal(got.sorted(), want.sorted()) {
				t.Errorf("%d rows arrived, which are not the %d that were sent", len(got.rows), len(want.rows))
			}
			if n.metric(`vm_rpc_native_histograms_converted_total{name="vminsert", addr="node", rpc_call="metric_rows"}`) != "0" {
				t.Error("native histograms were converted")
			}
		})
	}
}

func TestManyHistogramsAreSplit(t *testing.T) {
	n := newNode(t)
	var got, want ledger
	n.serve(func(o *ServerOptions) { o.Ingester = &got })
	var b model.Batch
	h := nativehistogram.Histogram{Float: true, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Length: 5000}}, Floats: make([]float64, 5000)}}
	for i := range h.Positive.Floats {
		h.Positive.Floats[i] = 0.1 + float64(i)
	}
	for i := range 200 { // 9 MB
		addSeries(t, &b, i%50)
		h.FloatCount = float64(i)
		b.AddHistogram(int64(i), h.Append(nil))
		b.AddSample(int64(i), float64(i))
	}
	ingest(t, n.client(nil), &b)
	if err := want.Ingest(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.sorted(), want.sorted()) {
		t.Errorf("%d rows arrived, which are not the %d that were sent", len(got.rows), len(want.rows))
	}
	addSeries(t, &b, 1)
	b.AddHistogram(1, make([]byte, nativehistogram.MaxPayloadBytes+1))
	if err := n.client(nil).Ingest(t.Context(), &b); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("a payload that is too large: %v", err)
	}
}

// TestOldNodeGetsSamples: a node that does not know native histograms gets the numbers they are made of, and all else.
func TestOldNodeGetsSamples(t *testing.T) {
	n := newNode(t)
	var got ledger
	n.serve(func(o *ServerOptions) { o.Ingester = &got })
	old := replay.Recorder{}
	client := n.client(func(o *ClientOptions) { o.Dial = old.Dialer(n.network.Dial) })
	var b model.Batch
	h := nativehistogram.Histogram{Count: 3, Sum: 4.5, ZeroCount: 1, Positive: nativehistogram.Buckets{Spans: []nativehistogram.Span{{Offset: 1, Length: 1}}, Counts: []uint64{2}}}
	addSeries(t, &b, 1)
	b.AddSample(5, 1)
	addSeries(t, &b, 2)
	b.AddHistogram(6, h.Append(nil))
	b.AddSample(7, 2)
	var plain model.Batch
	addSeries(t, &plain, 4)
	plain.AddSample(8, 3)
	var wg sync.WaitGroup
	for _, batch := range []*model.Batch{&b, &plain} {
		wg.Go(func() {
			if err := client.Ingest(t.Context(), batch); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	bits := func(v float64) string { return fmt.Sprintf("%#x", math.Float64bits(v)) }
	want := []string{
		`tenant 1:0 metric_1{instance="host-1:9100",job="node"}@5=` + bits(1),
		`tenant 1:0 metric_4{instance="host-4:9100",job="node"}@8=` + bits(3),
		`tenant 2:0 metric_2_bucket{instance="host-2:9100",job="node",vmrange="-0.000e+00...0.000e+00"}@6=` + bits(1),
		`tenant 2:0 metric_2_bucket{instance="host-2:9100",job="node",vmrange="1.000e+00...2.000e+00"}@6=` + bits(2),
		`tenant 2:0 metric_2_count{instance="host-2:9100",job="node"}@6=` + bits(3),
		`tenant 2:0 metric_2_sum{instance="host-2:9100",job="node"}@6=` + bits(4.5),
		`tenant 2:0 metric_2{instance="host-2:9100",job="node"}@7=` + bits(2),
	}
	// Samples are sent again when it is not before the connection is there that the age of the node is known.
	if rows := slices.Compact(got.sorted()); !slices.Equal(rows, want) {
		t.Errorf("got %q\nwant %q", rows, want)
	}
	if n := n.metric(`vm_rpc_native_histograms_converted_total{name="vminsert", addr="node", rpc_call="metric_rows"}`); n != "1" {
		t.Errorf("%s are counted", n)
	}
	// The next one is converted before anything is sent, and what does not fit a request goes in several.
	b.Reset()
	for i := range 10_000 {
		addSeries(t, &b, i)
		b.AddHistogram(6, h.Append(nil))
	}
	got.rows = nil
	ingest(t, client, &b)
	if len(got.rows) != 40_000 {
		t.Errorf("%d rows; want 40000", len(got.rows))
	}
}

func histogramRequest(t testing.TB) []byte {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	b := goldenBatches(t)[1]
	addHistograms(t, rng, b)
	e := encoder{dict: newSenderDict(1000, nil)}
	e.begin(true, flagHistograms)
	if n, err := e.appendHistograms(b, 0); err != nil || n != b.HistogramRows() || n == 0 {
		t.Fatal(n, err)
	}
	return e.dst
}

func TestDamagedHistogramsAreRefused(t *testing.T) {
	good := histogramRequest(t)
	for n := range good[1:] {
		var d decoder
		var r received
		// What is cut off between two entries is a good request.
		if err := d.decode(good[:n+1], &r); err != nil && errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("%d of %d bytes: %v", n+1, len(good), err)
		}
	}
	e := encoder{dict: newSenderDict(1000, nil)}
	e.begin(true, flagHistograms)
	var b model.Batch
	addSeries(t, &b, 1)
	b.AddHistogram(1, []byte("what is this"))
	if _, err := e.appendHistograms(&b, 0); err != nil {
		t.Fatal(err)
	}
	var d decoder
	if err := d.decode(e.dst, &received{}); errkind.Of(err) != errkind.Corrupt {
		t.Errorf("a payload which is none: %v", err)
	}
}

// TestHistogramsOldAndNew plays recorded sessions with native histograms.
func TestHistogramsOldAndNew(t *testing.T) {
	replay.Pair[*Client]{
		Name:         "session-v1-histograms",
		Capabilities: transport.CapabilityHistograms,
		Server: func(t *testing.T) (transport.Dialer, func() string) {
			n := newNode(t)
			l := &ledger{}
			n.serve(func(o *ServerOptions) { o.Ingester = l })
			return n.network.Dial, func() string { return fmt.Sprint(l.sorted()) }
		},
		Client: func(dial transport.Dialer) *Client {
			o := ClientOptions{Addr: "node", Dial: dial}
			o.Config.Transport.PingInterval = flagvalue.Duration(24 * time.Hour)
			return NewClient(o)
		},
		Converse: func(t *testing.T, c *Client, result func(text string)) {
			rng := rand.New(rand.NewPCG(1, 2))
			for range 3 {
				for _, b := range goldenBatches(t) {
					result(fmt.Sprint(c.Ingest(t.Context(), b)))
					var only model.Batch // requests of one call may be answered in any order
					for i := range b.Len() {
						only.AddKey(b.Key(i), b.Hash(i))
					}
					addHistograms(t, rng, &only)
					result(fmt.Sprint(c.Ingest(t.Context(), &only)))
				}
			}
		},
	}.Test(t, *update)
}
