package graphiteapi

import (
	"fmt"
	"math/rand"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/graphite"
	"vmcluster/lib/model"
)

// checkPassed moves over texts in order and compares what the filters leave with what it should be.
func checkPassed(t *testing.T, texts []string, skips []bool) {
	t.Helper()
	slices.Sort(texts)
	texts = slices.Compact(texts)
	var d passed
	gone := map[string]bool{}
	for i, s := range texts {
		if gone[s] {
			continue
		}
		skip := skips[i%len(skips)]
		d.advance(s, skip)
		gone[s] = true
		for _, later := range texts[i+1:] {
			gone[later] = gone[later] || skip && strings.HasPrefix(later, s)
		}
		var matchers []*model.Matcher
		for _, f := range d.appendTo(nil, "l") {
			m, err := f.Compile()
			if err != nil {
				t.Fatal(err)
			}
			matchers = append(matchers, m)
		}
		for _, v := range texts {
			left := !slices.ContainsFunc(matchers, func(m *model.Matcher) bool { return !m.Match(v) })
			if left == gone[v] {
				t.Fatalf("%q, skips %v: after %q is %q left: %v, want %v", texts, skips, s, v, left, !gone[v])
			}
		}
	}
}

func TestPassed(t *testing.T) {
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	t.Logf("seed %d", seed)
	alphabet := []rune{'a', 'b', '.', '-', 'ü', '\n', '\\', '\U0010ffff', '('}
	for range 200 {
		var texts []string
		var skips []bool
		for range 1 + rng.Intn(30) {
			var s []rune
			for range 1 + rng.Intn(5) {
				s = append(s, alphabet[rng.Intn(len(alphabet))])
			}
			texts, skips = append(texts, string(s)), append(skips, rng.Intn(3) == 0)
		}
		checkPassed(t, texts, skips)
	}
}

// TestFindAgainstAllNames compares random trees with what follows from the list of all names.
func TestFindAgainstAllNames(t *testing.T) {
	seed := time.Now().UnixNano()
	rng := rand.New(rand.NewSource(seed))
	e := newEnv(t)
	pieces := []string{"a", "b", "a-b", "ab", "a b", "ü", "x0", "10"}
	names := map[string]bool{}
	for range 4000 {
		var parts []string
		for range 1 + rng.Intn(5) {
			parts = append(parts, pieces[rng.Intn(len(pieces))])
		}
		if name := strings.Join(parts, "."); !names[name] {
			names[name] = true
			e.ingest(t, model.TenantID{}, name, 1)
		}
	}
	for _, query := range []string{"*", "a.*", "*.*", "a*.*.b", "*.{a,ü}.*", "*.*.*.*.*", "[a-w]*.a", "a.a.?.*", "nosuch.*", "a.*.*.10"} {
		pattern, err := graphite.ParsePattern(query, '.')
		if err != nil {
			t.Fatal(err)
		}
		re := regexp.MustCompile("^(?:" + pattern.Regexp() + ")$")
		depth := len(pattern.Components)
		want := map[string]bool{}
		for name := range names {
			parts := strings.Split(name, ".")
			if len(parts) < depth || !re.MatchString(strings.Join(parts[:depth], ".")) {
				continue
			}
			node := strings.Join(parts[:depth], ".")
			if len(parts) > depth {
				node += "."
			}
			want[node] = true
		}
		r := &request{tenant: model.TenantID{}}
		r.Request = newRequest(t)
		list, err := e.api.entries(&lookup{r: r, label: model.MetricNameLabel, delimiter: '.', times: model.TimeRange{Max: t0 * 2000}}, query)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, e := range list {
			if got[e.path] {
				t.Errorf("seed %d: %s answers %q twice", seed, query, e.path)
			}
			got[e.path] = true
		}
		if fmt.Sprint(keys(got)) != fmt.Sprint(keys(want)) {
			t.Errorf("seed %d: %s:\ngot  %q\nwant %q", seed, query, keys(got), keys(want))
		}
	}
}

func keys(m map[string]bool) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
