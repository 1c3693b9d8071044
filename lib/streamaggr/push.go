package streamaggr

import (
	"context"
	"slices"

	"vmcluster/lib/model"
)

// push is one batch on its way. It is reused.
type push struct {
	a       *Aggregator
	rules   *generation
	batch   *model.Batch
	now     int64    // Unix ms
	lists   [][]item // by rule and shard
	used    []uint32 // lists which are not empty
	rest    []uint32 // series which are stored as they came
	bare    []uint32 // series of which native histograms alone are stored
	again   []item
	gone    []lost
	unknown []int
	routes  []*route // of unknown
	labels  []model.Label
	copied  []model.Label
	keys    [2][]byte
	out     model.Batch
	scratch []model.Histogram
}

// lost is a series of the batch which was gone from the shard it was known in.
type lost struct {
	list  uint32
	index int
}

// unmatched is the route of series which no rule matches.
func (g *generation) unmatched() *route { return &g.none }

// sort finds out where the series of the batch go.
func (p *push) sort() {
	p.lists = slices.Grow(p.lists[:0], len(p.rules.rules)*p.a.shards)[:len(p.rules.rules)*p.a.shards]
	var t *table
	if space := p.batch.Space(); space != nil {
		t = space.Attach(p.a, func() model.Attachment { return &table{budget: p.a.budget} }).(*table)
		p.sortKnown(t)
	} else {
		for i := range p.batch.Len() {
			p.unknown = append(p.unknown, i)
		}
	}
	if len(p.unknown) == 0 {
		return
	}
	for _, i := range p.unknown {
		r := p.find(i)
		p.routes = append(p.routes, r)
		p.place(i, r)
	}
	if t != nil {
		t.learn(p.rules.number, p.batch, p.unknown, p.routes)
	}
}

// sortKnown places the series whose routes are in the table, and notes the others.
func (p *push) sortKnown(t *table) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	known := t.byNumber
	if t.generation != p.rules.number {
		known = nil
	}
	for i := range p.batch.Len() {
		var e *entry
		if n := p.batch.Number(i); uint64(n) < uint64(len(known)) && known[n].state != unknown {
			e = &known[n]
		}
		switch {
		case e == nil:
			p.unknown = append(p.unknown, i)
		case e.state == several:
			p.place(i, e.more)
		default:
			if e.series != nil {
				p.add(e.list, item{e.series, i})
			}
			p.keep(i, e.state == matched)
		}
	}
}

// place puts a series of the batch where it goes.
func (p *push) place(i int, r *route) {
	for _, to := range r.places {
		p.add(to.list, item{to.series, i})
	}
	p.keep(i, r.matched)
}

// keep notes a series of the batch when it is stored as it came.
func (p *push) keep(i int, matched bool) {
	keep := !p.rules.defaults.DropInput
	if matched {
		keep = p.rules.defaults.KeepInput
	}
	switch {
	case keep:
		p.rest = append(p.rest, uint32(i))
	case matched && p.batch.HistogramRows() > 0:
		p.bare = append(p.bare, uint32(i))
	}
}

func (p *push) add(list uint32, it item) {
	if len(p.lists[list]) == 0 {
		p.used = append(p.used, list)
	}
	p.lists[list] = append(p.lists[list], it)
}

// find returns the route of a series of the batch which is not known, or is gone from one of its rules.
func (p *push) find(index int) *route {
	key := p.batch.Key(index)
	tenant, labels, err := model.ParseSeriesKey(p.labels[:0], key)
	p.labels = labels
	if err != nil {
		return p.rules.unmatched()
	}
	r := &route{}
	for i, rule := range p.rules.rules {
		if !rule.match.Match(labels) {
			continue
		}
		var ok bool
		if p.keys, p.copied, ok = rule.shape(p.keys, tenant, append(p.copied[:0], labels...)); !ok {
			r.matched = true
			continue
		}
		shard := uint32(model.HashSeriesKey(p.keys[0]) % uint64(p.a.shards))
		s := rule.shards[shard].find(p.keys[0], p.keys[1], p.now)
		if s == nil {
			p.a.noRoom(key)
			rule.full.Add(len(p.batch.Samples(index)))
			r.passing = true
			continue
		}
		r.matched = true
		r.places = append(r.places, place{s, uint32(i*p.a.shards) + shard})
	}
	if !r.matched && !r.passing {
		return p.rules.unmatched()
	}
	return r
}

// store hands on what is stored as it came.
func (p *push) store(ctx context.Context) error {
	if len(p.rest) == p.batch.Len() {
		return p.a.next.Ingest(ctx, p.batch)
	}
	p.out.AppendSome(p.batch, p.rest)
	for _, i := range p.bare {
		p.scratch = p.batch.AppendHistograms(p.scratch[:0], int(i))
		if len(p.scratch) == 0 {
			continue
		}
		p.out.AddKey(p.batch.Key(int(i)), p.batch.Hash(int(i)))
		for _, h := range p.scratch {
			p.out.AddHistogram(h.Timestamp, h.Payload)
		}
	}
	if p.out.Len() == 0 {
		return ctx.Err()
	}
	return p.a.next.Ingest(ctx, &p.out)
}

// aggregate has the rules take the samples.
func (p *push) aggregate(ctx context.Context) error {
	for len(p.used) > 0 {
		for _, list := range p.used {
			sh := p.shard(list)
			p.again = sh.push(p.lists[list], p.batch, p.now, p.again[:0])
			for _, it := range p.again {
				p.gone = append(p.gone, lost{list, it.index})
			}
			if !sh.rule.passThrough {
				continue
			}
			if err := p.passOn(ctx, sh); err != nil {
				return err
			}
		}
		p.clear()
		p.revive()
	}
	return nil
}

// revive finds new places for series which were gone.
func (p *push) revive() {
	for _, l := range p.gone {
		r := p.find(l.index)
		if space := p.batch.Space(); space != nil {
			t := space.Attach(p.a, func() model.Attachment { return &table{budget: p.a.budget} }).(*table)
			t.learn(p.rules.number, p.batch, []int{l.index}, []*route{r})
		}
		for _, to := range r.places {
			if to.list == l.list {
				p.add(to.list, item{to.series, l.index})
			}
		}
	}
	p.gone = p.gone[:0]
}

// passOn stores what deduplication alone has let through when it is much.
func (p *push) passOn(ctx context.Context, sh *shard) error {
	p.out.Reset()
	n := sh.takeReady(&p.out)
	if n == 0 {
		return nil
	}
	sh.rule.written[0].Add(n)
	return p.a.next.Ingest(ctx, &p.out)
}

// clear empties the lists.
func (p *push) clear() {
	for _, list := range p.used {
		p.lists[list] = p.lists[list][:0]
	}
	p.used = p.used[:0]
}

func (p *push) shard(list uint32) *shard {
	return &p.rules.rules[int(list)/p.a.shards].shards[int(list)%p.a.shards]
}
