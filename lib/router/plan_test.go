package router

import (
	"fmt"
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
		for _, i := range ring.AppendPreference(nil, hashOf(key), ring.Len()) {
			if !strings.Contains(out, nodeName(i)) {
				names = append(names, nodeName(i))
				break
			}
		}
	}
	return strings.Join(names, " ")
}

func TestSplitKeepsEveryRow(t *testing.T) {
	ring := consistenthash.New([]string{"a", "b", "c"})
	var src model.Batch
	for i := range 100 {
		if err := src.AddSeries(model.TenantID{}, []model.Label{{Name: model.MetricNameLabel, Value: fmt.Sprint("m", i)}}); err != nil {
			t.Fatal(err)
		}
		for j := range i % 4 {
			src.AddSample(int64(j), float64(i))
		}
	}
	v := newView([]bool{false, true, false})
	shares := v.split(ring, &src, func() *model.Batch { return &model.Batch{} }, make(lists, ring.Len()))
	rows, detoured := 0, 0
	for node, s := range shares {
		if s.batch == nil {
			continue
		}
		if node == 1 {
			t.Error("the avoided node gets rows")
		}
		if s.rows != s.batch.Rows() {
			t.Errorf("share of node %d says %d rows and has %d", node, s.rows, s.batch.Rows())
		}
		rows += s.rows
		for preferred, n := range s.detoured {
			if preferred != 1 && n > 0 {
				t.Errorf("%d rows of the healthy node %d went to %d", n, preferred, node)
			}
			detoured += n
		}
	}
	if rows != src.Rows() || detoured == 0 {
		t.Errorf("%d of %d rows, %d of them detoured", rows, src.Rows(), detoured)
	}
	if node := v.soleTarget(ring, &src); node != -1 {
		t.Errorf("the only target is %d", node)
	}
}
