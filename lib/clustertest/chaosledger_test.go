package clustertest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"vmcluster/lib/model"
	"vmcluster/lib/query"
	"vmcluster/lib/storageapi"
	"vmcluster/lib/tsblock"
)

// maxChaosNodes is the largest number of storage nodes there ever are in a history.
const maxChaosNodes = 8

// ledger is the model: what was ever sent, what of it was acknowledged, and which nodes have it on their disks. Moments are
// numbers of events.
type ledger struct {
	mu      sync.Mutex
	events  int
	series  map[string]*account
	deletes [maxChaosNodes][]*deletion // of each node
}

// deletion is one on a node, from its begin to its end. What of the selected series came to the node between is neither owed nor gone.
type deletion struct {
	q     model.SearchQuery
	match func(labels []model.Label) bool
	began int
	ended int // 0: under way
	ok    bool
}

func (d *deletion) selects(a *account) bool { return a.tenant == d.q.Tenant && d.match(a.labels) }

// account is a series.
type account struct {
	tenant  model.TenantID
	labels  []model.Label
	samples map[int64][]*record
}

// record is a sample: the values which were sent for one time are different records.
type record struct {
	bits  uint64
	sent  int                // when it was first sent
	acked int                // when it was first acknowledged; 0: never
	held  [maxChaosNodes]int // since when each node has it; 0: it has not
	ever  uint16             // nodes which ever had it

	trying [maxChaosNodes]int8 // attempts under way to store it
	tried  [maxChaosNodes]int  // when the last one ended; 0: there was none
	gone   [maxChaosNodes]int  // since when a node cannot have it any more, as it was deleted; 0: it can
}

// mayBe reports whether a node may have the sample, as far as was known at a moment.
func (r *record) mayBe(node, at int) bool {
	return r.trying[node] > 0 || r.tried[node] > 0 && (r.gone[node] == 0 || r.gone[node] > at)
}

// may reports whether an answer may have the sample.
func (q *question) may(r *record) bool {
	return slices.ContainsFunc(q.lists, func(listed []int) bool {
		return slices.ContainsFunc(listed, func(n int) bool { return r.mayBe(n, q.began) })
	})
}

func newLedger() *ledger { return &ledger{series: map[string]*account{}} }

// now returns the number of the last event.
func (l *ledger) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events
}

// each calls do for the records of a batch, which are made where there are none.
func (l *ledger) eachLocked(b *model.Batch, do func(a *account, r *record)) {
	l.events++
	for i := range b.Len() {
		key := string(b.Key(i))
		a := l.series[key]
		if a == nil {
			tenant, labels, err := model.ParseSeriesKey(nil, []byte(key))
			if err != nil {
				panic(err)
			}
			a = &account{tenant: tenant, labels: labels, samples: map[int64][]*record{}}
			l.series[key] = a
		}
		for _, s := range b.Samples(i) {
			bits := math.Float64bits(s.Value)
			k := slices.IndexFunc(a.samples[s.Timestamp], func(r *record) bool { return r.bits == bits })
			if k < 0 {
				k = len(a.samples[s.Timestamp])
				a.samples[s.Timestamp] = append(a.samples[s.Timestamp], &record{bits: bits, sent: l.events})
			}
			do(a, a.samples[s.Timestamp][k])
		}
	}
}

func (l *ledger) send(b *model.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.eachLocked(b, func(*account, *record) {})
}

// attempt notes that a node begins to store a batch.
func (l *ledger) attempt(node int, b *model.Batch) (began int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.eachLocked(b, func(_ *account, r *record) {
		r.trying[node]++
		r.gone[node] = 0
	})
	return l.events
}

// attempted notes what became of an attempt: the node has the batch on its disk, or nobody knows.
func (l *ledger) attempted(node int, b *model.Batch, began int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var last *account
	doomed := false
	l.eachLocked(b, func(a *account, r *record) {
		if a != last {
			last = a
			doomed = slices.ContainsFunc(l.deletes[node], func(d *deletion) bool { return (d.ended == 0 || d.ended > began) && d.selects(a) })
		}
		r.trying[node]--
		r.tried[node] = l.events
		if !ok {
			return
		}
		r.ever |= 1 << node
		if r.held[node] == 0 && !doomed {
			r.held[node] = l.events
		}
	})
}

// beginDeletion notes that a node begins to delete series. None of their samples is owed by it from now on.
func (l *ledger) beginDeletion(node int, q *model.SearchQuery) *deletion {
	l.mu.Lock()
	defer l.mu.Unlock()
	match, err := matcher(q.Filters)
	if err != nil {
		panic(err)
	}
	l.events++
	d := &deletion{q: *q, match: match, began: l.events}
	l.deletes[node] = append(l.deletes[node], d)
	l.doomedLocked(d, func(r *record) { r.held[node] = 0 })
	return d
}

// endDeletion notes what became of a deletion: what had come to the node before is gone, or nobody knows.
func (l *ledger) endDeletion(node int, d *deletion, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events++
	d.ended, d.ok = l.events, ok
	if !ok {
		return
	}
	l.doomedLocked(d, func(r *record) {
		if r.trying[node] == 0 && r.tried[node] < d.began {
			r.gone[node] = l.events
		}
	})
}

func (l *ledger) doomedLocked(d *deletion, do func(r *record)) {
	for _, a := range l.series {
		if !d.selects(a) {
			continue
		}
		for _, list := range a.samples {
			for _, r := range list {
				do(r)
			}
		}
	}
}

// undeleted returns the nodes of a list which have not made the deletion of a tenant's series since a moment.
func (l *ledger) undeleted(q *model.SearchQuery, tenant model.TenantID, since int, listed []int) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(listed), func(node int) bool {
		return slices.ContainsFunc(l.deletes[node], func(d *deletion) bool {
			return d.ok && d.began > since && d.q.Tenant == tenant && fmt.Sprint(d.q.Filters) == fmt.Sprint(q.Filters)
		})
	})
}

// acknowledge returns how many rows have fewer copies than they should, and how many have none at all.
func (l *ledger) acknowledge(b *model.Batch, p *placement) (short, none int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var everyone [maxChaosNodes]int // groups are as large as they can be
	for i := range everyone {
		everyone[i] = i
	}
	l.eachLocked(b, func(_ *account, r *record) {
		if r.acked == 0 {
			r.acked = l.events
		}
		if !p.enough(everyone[:], func(node int) bool { return r.ever>>node&1 != 0 }) {
			short++
		}
		if r.ever == 0 {
			none++
		}
	})
	return short, none
}

// acked reports whether all of a batch was acknowledged.
func (l *ledger) acked(b *model.Batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := true
	l.eachLocked(b, func(_ *account, r *record) { all = all && r.acked > 0 })
	return all
}

// lose notes that a node and its disk are gone.
func (l *ledger) lose(node int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events++
	for _, a := range l.series {
		for _, list := range a.samples {
			for _, r := range list {
				r.held[node] = 0
				r.gone[node] = l.events
			}
		}
	}
}

// even reports whether all that is on any node has its copies.
func (l *ledger) even(nodes []int, p *placement) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.series {
		for _, list := range a.samples {
			for _, r := range list {
				held := func(node int) bool { return r.held[node] > 0 }
				may := slices.ContainsFunc(nodes, func(node int) bool { return r.mayBe(node, l.events) })
				if may && !p.enough(nodes, held) {
					return false
				}
			}
		}
	}
	return true
}

// question is what a reader asks, and what is known when it does.
type question struct {
	model.SearchQuery
	began int     // moment
	lists [][]int // the nodes it knows; several while it asks when they are replaced meanwhile
	place *placement
	skips bool // it does without slow nodes, which are not named when they have come in time for the rest
}

// coverage is what an answer says of itself.
type coverage struct {
	partial bool
	failed  map[int]bool // nodes which have not answered; nil: not known
}

// due reports whether an answer must have a record. Whoever says that his answer is whole has everything of which there are enough
// copies. Whoever names the nodes which have failed has everything that others have.
func (q *question) due(r *record, c coverage) bool {
	if r.acked == 0 || r.acked > q.began {
		return false
	}
	return !slices.ContainsFunc(q.lists, func(listed []int) bool {
		holds := func(n int) bool { return r.held[n] > 0 && r.held[n] <= q.began }
		if c.failed != nil && !q.skips && slices.ContainsFunc(listed, func(n int) bool { return holds(n) && !c.failed[n] }) {
			return false
		}
		return c.partial || !q.place.enough(listed, holds)
	})
}

// find returns the record of a value, or nil.
func (a *account) find(ts int64, bits uint64) *record {
	i := slices.IndexFunc(a.samples[ts], func(r *record) bool { return r.bits == bits })
	if i < 0 {
		return nil
	}
	return a.samples[ts][i]
}

// found is an answer: bits by time by key.
type found map[string]map[int64]uint64

func (f found) count() (n int) {
	for _, samples := range f {
		n += len(samples)
	}
	return n
}

// selected calls do for the series which a question selects.
func (l *ledger) selectedLocked(q *model.SearchQuery, do func(key string, a *account)) error {
	match, err := matcher(q.Filters)
	if err != nil {
		return err
	}
	for key, a := range l.series {
		if (q.AllTenants || a.tenant == q.Tenant) && match(a.labels) {
			do(key, a)
		}
	}
	return nil
}

// matcher returns what decides whether labels pass one of the sets of filters.
func matcher(filters [][]model.TagFilter) (func(labels []model.Label) bool, error) {
	type compiled struct {
		name string
		m    *model.Matcher
	}
	var sets [][]compiled
	for _, list := range filters {
		var set []compiled
		for _, f := range list {
			m, err := f.Compile()
			if err != nil {
				return nil, err
			}
			set = append(set, compiled{f.Name, m})
		}
		sets = append(sets, set)
	}
	value := func(labels []model.Label, name string) string {
		for _, l := range labels {
			if l.Name == name {
				return l.Value
			}
		}
		return ""
	}
	return func(labels []model.Label) bool {
		passes := func(set []compiled) bool {
			return !slices.ContainsFunc(set, func(c compiled) bool { return !c.m.Match(value(labels, c.name)) })
		}
		return len(sets) == 0 || slices.ContainsFunc(sets, passes)
	}, nil
}

// check compares an answer with what is known: nothing is lost, and nothing is invented.
func (l *ledger) check(q *question, got found, c coverage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, total, example := 0, 0, ""
	asked := map[string]bool{}
	err := l.selectedLocked(&q.SearchQuery, func(key string, a *account) {
		asked[key] = true
		for ts, list := range a.samples {
			if !q.Range.Contains(ts) {
				continue
			}
			for _, r := range list {
				if !q.due(r, c) {
					continue
				}
				total++
				bits, ok := got[key][ts]
				if !ok || bits != r.bits && !tsblock.Better(math.Float64frombits(bits), math.Float64frombits(r.bits)) {
					lost++
					example = fmt.Sprintf("%s at %d, %+v", model.SeriesKeyString([]byte(key)), ts, *r)
				}
			}
		}
	})
	if err != nil {
		return err
	}
	if lost > 0 {
		return fmt.Errorf("%d of %d samples which must be there are missing, such as %s; partial %t, failed nodes %v of %v, began at %d", lost, total, example, c.partial, slices.Sorted(maps.Keys(c.failed)), q.lists, q.began)
	}
	for key, samples := range got {
		for ts, bits := range samples {
			var r *record
			if asked[key] && q.Range.Contains(ts) {
				r = l.series[key].find(ts, bits)
			}
			if r == nil {
				return fmt.Errorf("the sample of %s at %d with bits %x was never sent, or was not asked for", model.SeriesKeyString([]byte(key)), ts, bits)
			}
			if !q.may(r) {
				return fmt.Errorf("the sample of %s at %d, %+v, was deleted, or is of a node that was not asked; began at %d, nodes %v", model.SeriesKeyString([]byte(key)), ts, *r, q.began, q.lists)
			}
		}
	}
	return nil
}

// samplesOf returns what an answer of a reader has at least, and at most.
func (l *ledger) samplesOf(q *question, c coverage) (least, most found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	least, most = found{}, found{}
	add := func(to found, key string, ts int64, bits uint64) {
		if to[key] == nil {
			to[key] = map[int64]uint64{}
		}
		to[key][ts] = bits
	}
	for key, a := range l.series {
		if a.tenant != q.Tenant {
			continue
		}
		for ts, list := range a.samples {
			for _, r := range list {
				if q.may(r) {
					add(most, key, ts, r.bits)
				}
				if q.due(r, c) {
					add(least, key, ts, r.bits)
				}
			}
		}
	}
	return least, most
}

// names returns the values of a label: those that must be there, and those that may.
func (l *ledger) names(q *question, label string, c coverage) (must, may map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	must, may = map[string]bool{}, map[string]bool{}
	for _, a := range l.series {
		if a.tenant != q.Tenant {
			continue
		}
		k := slices.IndexFunc(a.labels, func(x model.Label) bool { return x.Name == label })
		if k < 0 {
			continue
		}
		may[a.labels[k].Value] = true
		for _, list := range a.samples {
			if slices.ContainsFunc(list, func(r *record) bool { return q.due(r, c) }) {
				must[a.labels[k].Value] = true
				break
			}
		}
	}
	return must, may
}

// tenants returns those which must be found, and those which may.
func (l *ledger) tenants(q *question, c coverage) (must, may map[model.TenantID]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	must, may = map[model.TenantID]bool{}, map[model.TenantID]bool{}
	for _, a := range l.series {
		may[a.tenant] = true
		for _, list := range a.samples {
			if slices.ContainsFunc(list, func(r *record) bool { return q.due(r, c) }) {
				must[a.tenant] = true
				break
			}
		}
	}
	return must, may
}

// readFound reads a search to its end. Keys out of order, of another tenant or twice are errors.
func readFound(s storageapi.Searcher, ctx context.Context, q *model.SearchQuery) (found, storageapi.Coverage, error) {
	it, err := s.Search(ctx, q)
	if err != nil {
		return nil, storageapi.Coverage{}, err
	}
	defer func() { _ = it.Close() }() // the answer has been read
	got := found{}
	var scratch tsblock.Scratch
	var previous []byte
	for it.Next() {
		key := it.At().Key
		if previous != nil && bytes.Compare(key, previous) <= 0 && !q.AllTenants {
			return nil, storageapi.Coverage{}, fmt.Errorf("series %s after %s", model.SeriesKeyString(key), model.SeriesKeyString(previous))
		}
		previous = append(previous[:0], key...)
		var samples tsblock.Samples
		if err := tsblock.ReadRange(&samples, it.At().Blocks, q.Range, 0, &scratch); err != nil {
			return nil, storageapi.Coverage{}, err
		}
		if got[string(key)] != nil {
			return nil, storageapi.Coverage{}, fmt.Errorf("series %s twice", model.SeriesKeyString(key))
		}
		byTime := map[int64]uint64{}
		for i, ts := range samples.Timestamps {
			byTime[ts] = math.Float64bits(samples.Values[i])
		}
		got[string(key)] = byTime
	}
	return got, it.Coverage(), it.Err()
}

// bookSource is a source of queries which has the samples of an answer.
type bookSource struct{ samples found }

// Reading implements query.Source.
func (bookSource) Reading() query.Reading { return query.Reading{} }

// Select implements query.Source.
func (s bookSource) Select(_ context.Context, q *model.SearchQuery) (query.SeriesIterator, error) {
	match, err := matcher(q.Filters)
	if err != nil {
		return nil, err
	}
	it := &bookIterator{at: -1}
	for _, key := range slices.Sorted(maps.Keys(s.samples)) {
		tenant, labels, err := model.ParseSeriesKey(nil, []byte(key))
		if err != nil {
			return nil, err
		}
		var list tsblock.Samples
		for _, ts := range slices.Sorted(maps.Keys(s.samples[key])) {
			if q.Range.Contains(ts) {
				list.Append(ts, math.Float64frombits(s.samples[key][ts]))
			}
		}
		if tenant == q.Tenant && match(labels) && list.Len() > 0 {
			_, block := tsblock.AppendEncode(nil, &list)
			it.series = append(it.series, query.EncodedSeries{Key: []byte(key), Blocks: []tsblock.Block{block}})
		}
	}
	return it, nil
}

type bookIterator struct {
	series []query.EncodedSeries
	at     int
}

// Next implements query.SeriesIterator.
func (it *bookIterator) Next() bool {
	it.at++
	return it.at < len(it.series)
}

// At implements query.SeriesIterator.
func (it *bookIterator) At() *query.EncodedSeries { return &it.series[it.at] }

// Err implements query.SeriesIterator.
func (it *bookIterator) Err() error { return nil }

// Partial implements query.SeriesIterator.
func (it *bookIterator) Partial() bool { return false }

// Close implements query.SeriesIterator.
func (it *bookIterator) Close() error { return nil }
