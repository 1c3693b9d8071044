package multitenant

import (
	"context"
	"slices"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storageapi"
)

const (
	// So many iterators of tenants to come may be open beside that of the current one. They hold places among the requests that a
	// storage node serves at once, until all they have to say is on its way.
	maxAhead = concurrency - 1
	// An answer of no more bytes is small: others like it do not wait for a reader.
	smallAnswer = 64 << 10
)

// Search implements storageapi.Searcher.
func (s *Searcher) Search(ctx context.Context, q *model.SearchQuery) (storageapi.SeriesIterator, error) {
	if !q.AllTenants {
		return s.Stores.Search(ctx, q)
	}
	parts, coverage, err := s.parts(ctx, q.Range, q.Filters)
	if err != nil {
		return nil, err
	}
	it := &iterator{stores: s.Stores, ctx: ctx, q: q, parts: parts, coverage: coverage}
	// The first one is opened here, so that faults of the query show where readers expect them.
	if it.open(); it.err != nil {
		return nil, it.err
	}
	return it, nil
}

// iterator is the iterators of all tenants, one after the other. It implements storageapi.SeriesIterator.
type iterator struct {
	stores storageapi.Searcher
	ctx    context.Context // of the query
	q      *model.SearchQuery

	parts    []part    // not opened yet
	streams  []*stream // open; the first is the current one
	ahead    int       // how many may be open besides it
	bytes    int       // of the current tenant so far
	series   int
	key      keyMaker
	current  storageapi.Series
	coverage storageapi.Coverage // of the tenants that are done
	done     bool
	err      error
}

// stream is the iterator of one tenant.
type stream struct {
	storageapi.SeriesIterator
	part part
}

// open opens iterators as far as is allowed.
func (it *iterator) open() {
	for len(it.parts) > 0 && len(it.streams) <= it.ahead && it.err == nil {
		p := it.parts[0]
		it.parts = it.parts[1:]
		found, err := it.stores.Search(it.ctx, p.query(it.q))
		if err != nil {
			it.stop(err)
			return
		}
		it.streams = append(it.streams, &stream{SeriesIterator: found, part: p})
	}
}

// Next implements storageapi.SeriesIterator.
func (it *iterator) Next() bool {
	for !it.done {
		it.open()
		if len(it.streams) == 0 {
			it.stop(it.err)
			return false
		}
		if s := it.streams[0]; s.Next() {
			return it.take(s)
		}
		it.endTenant()
	}
	return false
}

func tooMany(what string, most int) error {
	return errkind.New(errkind.Unprocessable, "cannot %s: the number of matching series of all tenants exceeds %d; "+
		"narrow down the selector, for example by vm_account_id, or the time range, or raise the limit (-search.max* flags)", what, most)
}

// take makes the current series of a tenant the current one.
func (it *iterator) take(s *stream) bool {
	found := s.At()
	it.series++
	if it.q.MaxSeries > 0 && it.series > it.q.MaxSeries {
		it.stop(tooMany("answer query", it.q.MaxSeries))
		return false
	}
	key, err := it.key.of(&s.part, found.Key)
	if err != nil {
		it.stop(err)
		return false
	}
	it.current = storageapi.Series{Key: key, Blocks: found.Blocks}
	it.bytes += len(key)
	for i := range found.Blocks {
		it.bytes += len(found.Blocks[i].Timestamps) + len(found.Blocks[i].Values)
	}
	return true
}

// endTenant ends the current tenant.
func (it *iterator) endTenant() {
	s := it.streams[0]
	it.streams = it.streams[1:]
	err := s.Err()
	it.coverage.Merge(s.Coverage())
	if closeErr := s.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		it.stop(err)
		return
	}
	if it.bytes <= smallAnswer {
		it.ahead = min(2*it.ahead+1, maxAhead)
	} else {
		it.ahead = 0
	}
	it.bytes = 0
}

// stop ends the iteration and closes all iterators.
func (it *iterator) stop(err error) {
	it.done, it.err = true, err
	it.closeStreams()
}

func (it *iterator) closeStreams() {
	for _, s := range it.streams {
		it.coverage.Merge(s.Coverage())
		_ = s.Close() // what it could say comes too late
	}
	it.streams, it.parts = nil, nil
}

// At implements storageapi.SeriesIterator.
func (it *iterator) At() *storageapi.Series { return &it.current }

// Err implements storageapi.SeriesIterator.
func (it *iterator) Err() error { return it.err }

// Coverage implements storageapi.SeriesIterator. Before the end it tells of the failures so far.
func (it *iterator) Coverage() storageapi.Coverage {
	c := storageapi.Coverage{Partial: it.coverage.Partial, Failed: slices.Clone(it.coverage.Failed)}
	for _, s := range it.streams {
		c.Merge(s.Coverage())
	}
	return c
}

// Close implements storageapi.SeriesIterator.
func (it *iterator) Close() error {
	it.done = true
	it.closeStreams()
	return nil
}

// exported is put before the names of stored labels which are those of tenants.
const exported = "exported_"

// keyMaker makes keys with the labels of tenants.
type keyMaker struct {
	labels []model.Label
	buf    []byte
}

// of returns the key of a series of the tenant, valid until the next call.
func (k *keyMaker) of(p *part, key []byte) ([]byte, error) {
	var err error
	if _, k.labels, err = model.ParseSeriesKey(k.labels[:0], key); err != nil {
		return nil, err
	}
	for i := range k.labels {
		if name := k.labels[i].Name; name == model.AccountLabel || name == model.ProjectLabel {
			k.labels[i].Name = k.freeName(exported + name)
		}
	}
	k.labels = append(k.labels, model.Label{Name: model.AccountLabel, Value: p.account}, model.Label{Name: model.ProjectLabel, Value: p.project})
	k.buf, err = model.AppendSeriesKey(k.buf[:0], p.tenant, k.labels)
	return k.buf, err
}

// freeName returns a name that no label of the series has.
func (k *keyMaker) freeName(name string) string {
	for slices.ContainsFunc(k.labels, func(l model.Label) bool { return l.Name == name }) {
		name = exported + name
	}
	return name
}
