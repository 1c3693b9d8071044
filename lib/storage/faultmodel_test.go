package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/nativehistogram/histogramtest"
	"vmcluster/lib/storage"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// event is one sample that was sent. Moments are numbers of the history's steps.
type event struct {
	bits    uint64
	sentAt  int
	ackedAt int   // 0: never acknowledged
	now     int64 // Unix ms, when it was sent
}

// oracle is the naive model: everything that was ever sent and accepted, and when.
type oracle struct {
	t         testing.TB
	series    map[string]map[int64][]event // by key and timestamp
	deletions []*deletion
	keep      func(key string) int64 // retention of a series of its own in ms; 0 for none
	reduced   func(key string) (offset, interval int64)
	dedup     int64 // ms
	done      *tally
}

func newOracle(t testing.TB) *oracle {
	return &oracle{
		t:       t,
		series:  map[string]map[int64][]event{},
		keep:    func(string) int64 { return 0 },
		reduced: func(string) (int64, int64) { return 0, 0 },
	}
}

// moment is what has to hold at a point of the history: samples acknowledged up to acked must be
// there when they are inside of retention; what is there must have been sent up to sent.
type moment struct {
	acked, sent int
	now         int64 // Unix ms
	keepFrom    int64 // Unix ms, the limit of retention
}

// send notes the samples of b inside of the accepted range.
func (o *oracle) send(b *model.Batch, at int, now int64, accepted model.TimeRange) {
	storage.ModelSamples(o.t, b, func(key string, timestamp int64, bits uint64) {
		if !accepted.Contains(timestamp) {
			return
		}
		if o.series[key] == nil {
			o.series[key] = map[int64][]event{}
		}
		o.series[key][timestamp] = append(o.series[key][timestamp], event{bits: bits, sentAt: at, now: now})
	})
}

// acknowledge notes that what was sent at a moment was acknowledged at another.
func (o *oracle) acknowledge(b *model.Batch, sentAt, at int) {
	storage.ModelSamples(o.t, b, func(key string, timestamp int64, _ uint64) {
		events := o.series[key][timestamp]
		for j, e := range events {
			if e.sentAt == sentAt {
				events[j].ackedAt = at
			}
		}
	})
}

// smp is a sample that was read.
type smp struct {
	ts   int64
	bits uint64
}

// answer is what a search found.
type answer struct {
	series  map[string][]smp
	order   []string
	partial bool
}

// search runs a query and decodes everything, native histograms too. Keys out of order, of another tenant or twice are errors.
func search(s storageapi.Searcher, q *model.SearchQuery) (*answer, error) {
	with := *q
	with.Histograms = model.WithHistograms
	it, err := s.Search(context.Background(), &with)
	if err != nil {
		return nil, err
	}
	a := &answer{series: map[string][]smp{}}
	err = a.readAll(it, q)
	return a, errors.Join(err, it.Close())
}

// addHistograms adds the native histograms of a series.
func (a *answer) addHistograms(key string, list *tsblock.HistogramSamples) error {
	if list.Len() == 0 {
		return nil
	}
	key += storage.HistogramsMark
	for i, ts := range list.Timestamps {
		bits, err := histogramtest.Bits(list.Payloads[i])
		if err != nil {
			return err
		}
		a.series[key] = append(a.series[key], smp{ts, bits})
	}
	a.order = append(a.order, key)
	return nil
}

// keyText renders a key of the model.
func keyText(key string) string {
	text := model.SeriesKeyString([]byte(storage.SeriesOf(key)))
	if storage.IsMarked(key) {
		text += ", histograms"
	}
	return text
}

func (a *answer) readAll(it storageapi.SeriesIterator, q *model.SearchQuery) error {
	var scratch tsblock.Scratch
	previous := []byte(nil)
	for it.Next() {
		key := it.At().Key
		if bytes.Compare(key, previous) <= 0 && previous != nil {
			return fmt.Errorf("series %s after %s", model.SeriesKeyString(key), model.SeriesKeyString(previous))
		}
		if tenant := model.SeriesKeyTenant(key); tenant != q.Tenant {
			return fmt.Errorf("series %s of tenant %s in an answer for %s", model.SeriesKeyString(key), tenant, q.Tenant)
		}
		previous = append(previous[:0], key...)
		var samples tsblock.Samples
		if err := tsblock.ReadRange(&samples, it.At().Blocks, q.Range, 0, &scratch); err != nil {
			a.partial = true // a reader says so as well
			continue
		}
		a.add(string(key), &samples)
		var list tsblock.HistogramSamples
		if err := tsblock.ReadHistograms(&list, it.At().Blocks, q.Range, 0, &scratch); err != nil {
			a.partial = true
			continue
		}
		if err := a.addHistograms(string(key), &list); err != nil {
			return err
		}
	}
	a.partial = a.partial || it.Coverage().Partial
	return it.Err()
}

func (a *answer) add(key string, samples *tsblock.Samples) {
	list := make([]smp, samples.Len())
	for i := range list {
		list[i] = smp{samples.Timestamps[i], math.Float64bits(samples.Values[i])}
	}
	a.series[key] = list
	a.order = append(a.order, key)
}

// equal compares two answers to the same question.
func (a *answer) equal(b *answer) error {
	if !slices.Equal(a.order, b.order) {
		return fmt.Errorf("%d and %d series", len(a.order), len(b.order))
	}
	for key, list := range a.series {
		if !slices.Equal(list, b.series[key]) {
			return fmt.Errorf("two answers for %s: %d and %d samples", keyText(key), len(list), len(b.series[key]))
		}
	}
	return nil
}

// missing finds what an answer should hold and does not; wanted tells which series are in question.
func (o *oracle) missing(a *answer, m moment, r model.TimeRange, wanted func(key string) bool) error {
	for key, samples := range o.series {
		if !wanted(key) {
			continue
		}
		got := a.series[key]
		from, until := o.wholeRange(key, m)
		for ts, events := range samples {
			best, ok := o.bestAcked(key, events, m)
			if !ok || ts < from || ts <= until || !r.Contains(ts) || o.deduplicated(got, ts) || o.losesTo(key, ts, r, m) {
				continue
			}
			i, found := slices.BinarySearchFunc(got, ts, func(x smp, ts int64) int { return compareInt(x.ts, ts) })
			if !found {
				return fmt.Errorf("the acknowledged sample at %d of %s is missing; the answer has %d samples of the series", ts, keyText(key), len(got))
			}
			if have := got[i].bits; have != best && !storage.BetterBits(key, have, best) {
				return fmt.Errorf("the sample at %d of %s has bits %x, which lose against the acknowledged %x; sent %+v; reduced up to %d at %+v", ts, keyText(key), have, best, events, until, m)
			}
		}
	}
	return nil
}

// foreign finds what an answer holds and should not.
func (o *oracle) foreign(a *answer, m moment, r model.TimeRange, wanted func(key string) bool) error {
	for key, list := range a.series {
		if !wanted(key) {
			return fmt.Errorf("series %s does not match", keyText(key))
		}
		from, _ := o.wholeRange(key, m)
		for i, x := range list {
			if x.ts < from {
				return fmt.Errorf("the sample at %d of %s is older than the limit %d of its retention", x.ts, keyText(key), from)
			}
			if i > 0 && list[i-1].ts >= x.ts {
				return fmt.Errorf("sample at %d of %s after that at %d", x.ts, keyText(key), list[i-1].ts)
			}
			sent := slices.ContainsFunc(o.series[key][x.ts], func(e event) bool { return e.bits == x.bits && e.sentAt <= m.sent && !o.gone(key, &e, m) })
			if !sent || !r.Contains(x.ts) {
				return fmt.Errorf("the sample at %d of %s with bits %x was never sent, or was not asked for", x.ts, keyText(key), x.bits)
			}
		}
	}
	return nil
}

// bestAcked returns the value that stays, of those which must be there.
func (o *oracle) bestAcked(key string, events []event, m moment) (bits uint64, ok bool) {
	for i := range events {
		e := &events[i]
		if e.ackedAt == 0 || e.ackedAt > m.acked || o.deletedBy(key, e, m) != nil {
			continue
		}
		if !ok || storage.BetterBits(key, e.bits, bits) {
			bits, ok = e.bits, true
		}
	}
	return bits, ok
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// keysSent returns the series of a tenant with a sample in r sent until the moment; with acked, with one that must be there.
func (o *oracle) keysIn(t model.TenantID, r model.TimeRange, m moment, acked bool) map[string]bool {
	keys := map[string]bool{}
	for key, samples := range o.series {
		if model.SeriesKeyTenant([]byte(key)) != t {
			continue
		}
		for ts, events := range samples {
			if !r.Contains(ts) {
				continue
			}
			_, ok := o.bestAcked(key, events, m)
			may := slices.ContainsFunc(events, func(e event) bool { return e.sentAt <= m.sent && !o.gone(key, &e, m) })
			from, until := o.wholeRange(key, m)
			if acked && ok && ts >= from && ts > until || !acked && may {
				keys[storage.SeriesOf(key)] = true
				break
			}
		}
	}
	return keys
}
