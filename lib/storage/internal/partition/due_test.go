package partition

import (
	"context"
	"testing"

	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/downsample"
	"vmcluster/lib/storage/internal/head"
	"vmcluster/lib/vfs/memfs"
)

const dueInterval = 300_000

// flushSpan flushes a part with samples of one series at both ends of a range, in intervals from the first whole one of the month.
func flushSpan(t *testing.T, p *Partition, from, to int64) *entry {
	t.Helper()
	key := testKey(t, "b")
	id, _, err := p.Index().Add(model.HashSeriesKey(key), key)
	if err != nil {
		t.Fatal(err)
	}
	var d head.Delta
	d.Reset()
	p.Head().Append(id, []model.Sample{{Timestamp: from, Value: 1}, {Timestamp: to, Value: 2}}, &d)
	p.Head().Add(&d)
	p.Freeze()
	if _, err := p.FlushFrozen(context.Background(), p.Month().Range()); err != nil {
		t.Fatal(err)
	}
	return p.mu.parts[len(p.mu.parts)-1]
}

func dueRule(before int64) Rule {
	return Rule{
		Key: "5m", Filters: func(model.TenantID) ([][]model.TagFilter, bool) { return nil, true }, General: true,
		Level: downsample.Level{Before: before, Interval: dueInterval},
	}
}

func TestLimits(t *testing.T) {
	p := openOn(t, memfs.New(memfs.Options{}))
	defer func() {
		if err := p.Release(); err != nil {
			t.Error(err)
		}
	}()
	start := p.Month().Range().Min // an end of an interval
	at := func(n int64) int64 { return start + n*dueInterval }
	a := flushSpan(t, p, at(1), at(10))
	b := flushSpan(t, p, at(10), at(20)) // has the last time of a
	c := flushSpan(t, p, at(30), at(40))
	d := flushSpan(t, p, at(36), at(50))
	all := []*entry{a, b, c, d}
	rules := []Rule{dueRule(at(100))}
	chains := chainsOf(rules)
	for i, x := range []struct {
		parts, closure []*entry
		before         int64
	}{
		// A limit lies before the first shared time, and at the end of an interval.
		{[]*entry{a}, []*entry{a, b}, at(9)},
		{[]*entry{b}, []*entry{a, b}, at(9)},
		{[]*entry{a, b}, []*entry{a, b}, at(100)},
		{[]*entry{c}, []*entry{c, d}, at(35)},
		{[]*entry{a, b, c}, nil, at(35)},
		{all, nil, at(100)},
	} {
		p.setLimits(chains, x.parts, all)
		if got := within(rules, chains)[0].Level.Before; got != x.before {
			t.Errorf("case %d: limited to %d intervals; want %d", i, (got-start)/dueInterval, (x.before-start)/dueInterval)
		}
		if x.closure == nil {
			continue
		}
		got := p.closure(chains, x.parts[0], all)
		for _, e := range x.closure {
			if len(got) != len(x.closure) || got[0] != e && got[1] != e {
				t.Errorf("case %d: the closure has %d parts; want %d", i, len(got), len(x.closure))
			}
		}
	}
	// What is beyond the reach of the rule is not shared.
	rules = []Rule{dueRule(at(35))}
	if got := p.closure(chainsOf(rules), c, all); len(got) != 1 {
		t.Errorf("the closure has %d parts although the rule does not reach the others", len(got))
	}
}

func TestUnsettledSamplesLimit(t *testing.T) {
	p := openOn(t, memfs.New(memfs.Options{}))
	defer func() {
		if err := p.Release(); err != nil {
			t.Error(err)
		}
	}()
	start := p.Month().Range().Min
	at := func(n int64) int64 { return start + n*dueInterval }
	a := flushSpan(t, p, at(1), at(10))
	rules := []Rule{dueRule(at(100))}
	limited := func() int64 {
		chains := chainsOf(rules)
		p.lowerUnsettled(chains, []*entry{a})
		return within(rules, chains)[0].Level.Before
	}
	if got := limited(); got >= at(1) {
		t.Errorf("a part is downsampled up to %d although the log still has it", got)
	}
	p.Settle()
	if got := limited(); got >= at(1) {
		t.Errorf("a part is downsampled up to %d although no cut was marked", got)
	}
	p.MarkCut()
	if got := limited(); got >= at(1) {
		t.Errorf("a part is downsampled up to %d although the cut is not done", got)
	}
	p.Settle()
	if got := limited(); got != at(100) {
		t.Errorf("a settled part is downsampled up to %d; want %d", got, at(100))
	}
	for _, c := range []struct {
		time int64
		want bool
	}{{at(5), false}, {at(11), true}} {
		var d head.Delta
		d.Reset()
		p.Head().Append(0, []model.Sample{{Timestamp: c.time, Value: 1}}, &d)
		p.Head().Add(&d)
		if got := limited() == at(100); got != c.want {
			t.Errorf("with a sample at %d in the head the part is downsampled: %t; want %t", c.time, got, c.want)
		}
		p.Freeze()
		if got := limited() == at(100); got != c.want {
			t.Errorf("with a sample at %d in a frozen head the part is downsampled: %t; want %t", c.time, got, c.want)
		}
		if _, err := p.FlushFrozen(context.Background(), p.Month().Range()); err != nil {
			t.Fatal(err)
		}
		p.MarkCut()
		p.Settle()
	}
}

func TestAppliedAfter(t *testing.T) {
	part := func(from, to, applied int64) *entry {
		e := &entry{passed: map[string]int64{"5m": applied}}
		e.MinTimestamp, e.MaxTimestamp = from, to
		return e
	}
	for i, c := range []struct {
		reach int64
		parts []*entry
		want  int64
	}{
		{100, []*entry{part(10, 50, 9)}, 100},
		{100, []*entry{part(10, 500, 9)}, 100},
		{100, []*entry{part(10, 500, 200)}, 200},
		{100, []*entry{part(10, 150, 150), part(120, 130, 119)}, 119}, // raw samples in the middle of others which are downsampled
		{100, []*entry{part(10, 150, 150), part(20, 130, 19)}, 100},
		{5, []*entry{part(10, 150, 150), part(20, 130, 19)}, 19},
	} {
		r := dueRule(c.reach)
		if got := r.appliedAfter(c.parts); got != c.want {
			t.Errorf("case %d: applied up to %d; want %d", i, got, c.want)
		}
	}
}
