package held

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"vmcluster/lib/errkind"
	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// spoiling is a search which overwrites what it has handed out, as a real one may.
type spoiling struct {
	keys    [][]byte
	samples []tsblock.Samples
	next    int
	buf     []byte
	current storageapi.Series
	err     error
}

func (s *spoiling) Next() bool {
	for i := range s.buf {
		s.buf[i] = 0xee
	}
	if s.next == len(s.keys) {
		return false
	}
	s.buf = append(make([]byte, 0, 1<<16), s.keys[s.next]...)
	n := len(s.buf)
	s.current.Key = s.buf[:n]
	all := &s.samples[s.next]
	s.current.Blocks = s.current.Blocks[:0]
	for start := 0; start < all.Len(); start += 10 {
		end := min(start+10, all.Len())
		var b tsblock.Block
		s.buf, b = tsblock.AppendEncode(s.buf, &tsblock.Samples{Timestamps: all.Timestamps[start:end], Values: all.Values[start:end]})
		s.current.Blocks = append(s.current.Blocks, b)
	}
	s.next++
	return true
}

func (s *spoiling) At() *storageapi.Series        { return &s.current }
func (s *spoiling) Err() error                    { return s.err }
func (s *spoiling) Coverage() storageapi.Coverage { return storageapi.Coverage{} }
func (s *spoiling) Close() error                  { return nil }

// randomSearch returns series with random labels, sorted by key.
func randomSearch(t *testing.T, n int) *spoiling {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	text := func() string {
		b := make([]byte, 1+r.IntN(3))
		for i := range b {
			b[i] = "\x00\x01AZ__az\xff"[r.IntN(9)]
		}
		return string(b)
	}
	seen := map[string]bool{}
	s := &spoiling{}
	for range n {
		set := map[string]string{}
		for range r.IntN(4) {
			set[text()] = text()
		}
		var list []model.Label
		if r.IntN(4) > 0 {
			list = append(list, model.Label{Name: model.MetricNameLabel, Value: text()})
		}
		for name, value := range set {
			list = append(list, model.Label{Name: name, Value: value})
		}
		key, err := model.AppendSeriesKey(nil, model.TenantID{AccountID: 3}, list)
		if err != nil {
			t.Fatal(err)
		}
		if !seen[string(key)] {
			seen[string(key)] = true
			s.keys = append(s.keys, key)
		}
	}
	slices.SortFunc(s.keys, bytes.Compare)
	for i := range s.keys {
		var samples tsblock.Samples
		for k := range r.IntN(40) {
			samples.Append(int64(k)*15000+int64(i%3), float64(i*k))
		}
		s.samples = append(s.samples, samples)
	}
	return s
}

func TestCollect(t *testing.T) {
	search := randomSearch(t, 300)
	budget := memory.NewBudget(1 << 30)
	s, err := Collect(search, Options{Budget: budget, What: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != len(search.keys) {
		t.Fatalf("%d series, want %d", s.Len(), len(search.keys))
	}
	if budget.Used() < s.bytes {
		t.Errorf("%d bytes are reserved for %d", budget.Used(), s.bytes)
	}
	want := map[string]*tsblock.Samples{}
	for i, key := range search.keys {
		want[string(key)] = &search.samples[i]
		if !bytes.Equal(s.Key(i), key) {
			t.Fatalf("key %d is %q", i, s.Key(i))
		}
	}
	if err := s.SortByLabels(); err != nil {
		t.Fatal(err)
	}
	var previous labels.Labels
	for i := range s.Len() {
		var got tsblock.Samples
		if err := tsblock.ReadRange(&got, s.Blocks(i), model.TimeRange{Min: 0, Max: 1e12}, 0, &tsblock.Scratch{}); err != nil {
			t.Fatal(err)
		}
		w := want[string(s.Key(i))]
		if !slices.Equal(got.Timestamps, w.Timestamps) || !slices.Equal(got.Values, w.Values) {
			t.Fatalf("series %d: got %v, want %v", i, got, w)
		}
		current := promLabels(t, s.Key(i))
		if i > 0 && labels.Compare(previous, current) >= 0 {
			t.Fatalf("%v comes before %v", previous, current)
		}
		previous = current
	}
	s.Release()
	s.Release()
	if budget.Used() != 0 {
		t.Errorf("%d bytes are still reserved", budget.Used())
	}
}

// promLabels returns the labels of a key as Prometheus has them.
func promLabels(t *testing.T, key []byte) labels.Labels {
	t.Helper()
	list, err := AppendLabels(nil, key)
	if err != nil {
		t.Fatal(err)
	}
	b := labels.NewScratchBuilder(len(list))
	for _, l := range list {
		b.Add(l.Name, l.Value)
	}
	in := b.Labels()
	b.Sort()
	if sorted := b.Labels(); !labels.Equal(in, sorted) {
		t.Fatalf("%v is not in order", in)
	}
	return in
}

func TestSharedTimestamps(t *testing.T) {
	search := &spoiling{}
	var samples tsblock.Samples
	for i := range 200 {
		samples.Append(int64(i*i), 1)
	}
	for i := range 100 {
		key, err := model.AppendSeriesKey(nil, model.TenantID{}, []model.Label{{Name: "i", Value: fmt.Sprintf("%03d", i)}})
		if err != nil {
			t.Fatal(err)
		}
		search.keys, search.samples = append(search.keys, key), append(search.samples, samples)
	}
	s, err := Collect(search, Options{Budget: memory.NewBudget(1 << 30)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	shared := 0
	for k := range s.Blocks(0) {
		if &s.Blocks(98)[k].Timestamps[0] == &s.Blocks(99)[k].Timestamps[0] {
			shared++
		}
	}
	if n := len(s.Blocks(0)); shared <= n/2 { // a few columns push each other out
		t.Errorf("timestamps of %d of %d blocks are shared", shared, n)
	}
}

func TestLimits(t *testing.T) {
	search := randomSearch(t, 50)
	budget := memory.NewBudget(1 << 30)
	if _, err := Collect(search, Options{Budget: budget, MaxSeries: 10}); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("50 series within a limit of 10: %v", err)
	}
	search.next = 0
	if _, err := Collect(search, Options{Budget: budget, MaxBytes: 1000}); errkind.Of(err) != errkind.Unprocessable {
		t.Errorf("50 series within a limit of 1000 bytes: %v", err)
	}
	search.next = 0
	if _, err := Collect(search, Options{Budget: memory.NewBudget(1000), What: "a test"}); errkind.Of(err) != errkind.Overloaded {
		t.Errorf("50 series within 1000 bytes: %v", err)
	}
	search.next, search.err = 0, errkind.New(errkind.Unavailable, "a node is away")
	if _, err := Collect(search, Options{Budget: budget}); errkind.Of(err) != errkind.Unavailable {
		t.Errorf("error of the search: %v", err)
	}
	if budget.Used() != 0 {
		t.Errorf("%d bytes are still reserved", budget.Used())
	}
}
