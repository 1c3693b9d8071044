package index

import (
	"fmt"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/memory"
	"vmcluster/lib/model"
	"vmcluster/lib/vfs/memfs"
)

func TestMatchCache(t *testing.T) {
	budget := memory.NewBudget(64 * 8 * 300)
	c := newMatchCache(budget)
	a, b := &segment{}, &segment{}
	key := func(s *segment, i int) matchKey { return matchKey{s: s, pattern: fmt.Sprint(i), regexp: true} }
	for i := range 20 {
		c.put(key(a, i), roaring.BitmapOf(uint32(i)))
		c.put(key(b, i), roaring.BitmapOf(uint32(i+100)))
		if _, ok := c.get(key(a, 0)); !ok {
			t.Fatalf("the entry used all the time is gone after %d others", i)
		}
		if used := budget.Used(); used != c.sizeBytes() || used > c.max {
			t.Fatalf("%d bytes of %d, of which %d are reserved", c.sizeBytes(), c.max, used)
		}
	}
	if _, ok := c.get(key(b, 0)); ok {
		t.Error("an entry which was not used stays")
	}
	if ids, ok := c.get(key(b, 19)); !ok || !ids.Contains(119) {
		t.Errorf("the last entry is %v, %t", ids, ok)
	}
	c.forget(b)
	if _, ok := c.get(key(b, 19)); ok {
		t.Error("an entry of a segment that is gone stays")
	}
	c.forget(a)
	if n := budget.Used(); n != 0 || len(c.mu.entries) != 0 {
		t.Errorf("%d bytes are left", n)
	}
	must(t, budget.Reserve(budget.Limit(), "the test"))
	c.put(key(a, 1), roaring.BitmapOf(1))
	if _, ok := c.get(key(a, 1)); ok {
		t.Error("an entry was kept without memory")
	}
}

// TestSearchUsesTheCache also merges, which makes entries useless.
func TestSearchUsesTheCache(t *testing.T) {
	ix := goldenIndex(t, memfs.New(memfs.Options{}))
	q := Query{Filters: [][]model.TagFilter{{{Name: "instance", Value: ".*1.*", Op: model.Regexp}}}, FirstDay: 20000, LastDay: 20001}
	want, err := ix.Search(ctx, q)
	must(t, err)
	for range 2 {
		if ix.matches.sizeBytes() == 0 {
			t.Error("nothing is remembered")
		}
		got, err := ix.Search(ctx, q)
		if err != nil || !got.Equals(want) {
			t.Fatalf("found %v, %v; want %v", got, err, want)
		}
		got.Clear() // what is returned belongs to the caller
		must(t, ix.Merge(ctx))
		if got, err = ix.Search(ctx, q); err != nil || !got.Equals(want) {
			t.Fatalf("found %v, %v; want %v", got, err, want)
		}
	}
	if n := ix.HeapBytes(); n <= 0 {
		t.Errorf("%d bytes of memory", n)
	}
	closed(t, ix)
}
