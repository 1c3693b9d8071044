package router

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"vmcluster/lib/consistenthash"
	"vmcluster/lib/model"
)

// Each step is one thing that happens to a call over the nodes a, b, c, d, and where
// the keys 0..5 go then.
func TestPlanScript(t *testing.T) {
	names := []string{"a:8400", "b:8400", "c:8400", "d:8400"}
	ring := consistenthash.New(names)
	for _, script := range []struct{ avoid, fail, want string }{
		// Keys stay where they are but for those of the lost nodes.
		{"", "", "PLAIN"},
		{"a", "", "NO-A"},
		{"", "a", "NO-A"},
		{"a", "b", "NO-AB"},
		{"ab", "", "NO-AB"},
		// All healthy nodes failed: those that cool down are better than none.
		{"cd", "ab", "NO-AB"},
		{"abcd", "", "PLAIN"},
		{"abcd", "a", "NO-A"},
		{"", "abcd", "none none none none none none"},
	} {
		v := newView([]bool{strings.Contains(script.avoid, "a"), strings.Contains(script.avoid, "b"), strings.Contains(script.avoid, "c"), strings.Contains(script.avoid, "d")})
		for _, f := range script.fail {
			v.fail(int(f - 'a'))
		}
		want := script.want
		if expand := map[string]string{"PLAIN": "", "NO-A": "a", "NO-AB": "ab"}; !strings.HasPrefix(want, "none") {
			want = preferences(ring, expand[script.want])
		}
		var got []string
		for key := range uint64(6) {
			node, preferred := v.pick(ring, hashOf(key))
			if preferred != ring.First(hashOf(key)) {
				t.Errorf("key %d prefers %d", key, preferred)
			}
			got = append(got, nodeName(node))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("avoid %q, failed %q: keys go to %s; want %s", script.avoid, script.fail, s, want)
		}
	}
}

func hashOf(key uint64) uint64 { return (key + 1) * 0x9e3779b97f4a7c15 }

func nodeName(i int) string {
	if i < 0 {
		return "none"
	}
	return string(rune('a' + i))
}

// preferences says where keys go by their preference lists when some nodes are out.
func preferences(ring *consistenthash.Ring, out string) string {
	var names []string
	for key := range uint64(6) {
		for _, i := range ring.FillFirst(make([]uint64, ring.Len()), hashOf(key), []bool{true, true, true, true}) {
			if name := nodeName(int(i)); !strings.Contains(out, name) {
				names = append(names, name)
				break
			}
		}
	}
	return strings.Join(names, " ")
}

func newTestPlan(t *testing.T, copies int, avoided ...bool) *plan {
	t.Helper()
	var names []string
	for i := range avoided {
		names = append(names, nodeName(i))
	}
	var src model.Batch
	for i := range 300 {
		if err := src.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprint("m", i)}}); err != nil {
			t.Fatal(err)
		}
		for j := range i % 4 {
			src.AddSample(int64(j), float64(i))
		}
	}
	return newPlan(consistenthash.New(names), newView(avoided), &src, copies)
}

// tally counts the rows of each node on the lists, and how many copies each series has.
func tally(t *testing.T, p *plan, l lists, copies []int) (rows []int) {
	t.Helper()
	rows = make([]int, len(l))
	for node, list := range l {
		seen := map[uint32]bool{}
		for _, i := range list {
			if n := len(p.batch.Samples(int(i))); n == 0 || seen[i] {
				t.Errorf("series %d with %d samples is listed for node %d, seen before: %v", i, n, node, seen[i])
			}
			seen[i] = true
			rows[node] += len(p.batch.Samples(int(i)))
			copies[i]++
		}
	}
	return rows
}

func TestSpreadKeepsEveryRow(t *testing.T) {
	for copies := 1; copies <= 4; copies++ {
		p := newTestPlan(t, copies, false, true, false, false)
		l, has := make(lists, 4), make([]int, p.batch.Len())
		p.spread(l)
		rows := tally(t, p, l, has)
		want := min(copies, 3)
		for i, n := range has {
			if len(p.batch.Samples(i)) > 0 && n != want {
				t.Fatalf("%d copies: series %d is on %d lists", copies, i, n)
			}
		}
		detoured := sum(p.from)
		if rows[1] > 0 || sum(rows) != want*p.batch.Rows() || p.from[1] != detoured || sum(p.to) != detoured || p.to[1] > 0 {
			t.Errorf("%d copies of %d rows: spread %v, re-routed from %v to %v", copies, p.batch.Rows(), rows, p.from, p.to)
		}
		if all := copies < 4; all != (detoured > 0) || all == (p.short > 0) || p.incomplete() != p.short {
			t.Errorf("%d copies: %d rows re-routed, %d short, %d incomplete", copies, detoured, p.short, p.incomplete())
		}
		if node := p.soleTarget(); node != -1 {
			t.Errorf("the only target is %d", node)
		}
	}
}

// When nodes fail one after the other, each series keeps as many different nodes as are left, and no node gets it twice.
func TestFailuresKeepCopiesApart(t *testing.T) {
	p := newTestPlan(t, 3, false, false, false, false, false)
	l, has := make(lists, 5), make([]int, p.batch.Len())
	p.spread(l)
	tally(t, p, l, has)
	held := slices.Clone(l)
	for left, node := range []int{2, 0, 4, 1, 3} {
		left = 4 - left
		for _, i := range held[node] {
			has[i]--
		}
		more := make(lists, 5)
		p.fail(node, held[node], more)
		tally(t, p, more, has)
		held[node] = nil
		for k := range more {
			held[k] = append(held[k], more[k]...)
		}
		incomplete, homeless := 0, 0
		for i, n := range has {
			rows := len(p.batch.Samples(i))
			if rows > 0 && n != min(left, 3) {
				t.Fatalf("%d nodes left: series %d has %d copies", left, i, n)
			}
			if n == 0 {
				homeless += rows
			} else if n < 3 {
				incomplete += rows
			}
		}
		if p.incomplete() != incomplete || p.homeless != homeless {
			t.Errorf("%d nodes left: %d rows are incomplete and %d homeless; want %d and %d", left, p.incomplete(), p.homeless, incomplete, homeless)
		}
		tally(t, p, held, make([]int, p.batch.Len())) // no node has a series twice
	}
}

func sum(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}
