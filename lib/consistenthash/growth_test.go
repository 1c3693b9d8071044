package consistenthash

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/replication.md")

// growth is what adding a node does.
type growth struct {
	series float64 // share of the series which have another set of nodes
	copies float64 // share of the copies which are elsewhere
	worst  float64 // largest deviation of the share of a node from the mean, afterwards
}

// grow adds a node to n, and fails if any series moves but to the new node.
func grow(t *testing.T, n, copies int) growth {
	t.Helper()
	before, after := New(names(n)), New(names(n+1))
	usable := slices.Repeat([]bool{true}, n+1)
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	moved := 0
	counts := make([]int, n+1)
	for range keys {
		h := rng.Uint64()
		a, b := first(before, h, copies, usable[:n]), first(after, h, copies, usable)
		for _, node := range b {
			counts[node]++
		}
		if slices.Equal(a, b) {
			continue
		}
		moved++
		// The new node takes its place in the order, and the last one of before gives way.
		at := slices.Index(b, n)
		if at < 0 || !slices.Equal(slices.Delete(slices.Clone(b), at, at+1), a[:copies-1]) {
			t.Fatalf("a series moves from nodes %d to %d, where %d is new", a, b, n)
		}
	}
	return growth{series: float64(moved) / keys, copies: float64(moved) / float64(keys*copies), worst: deviation(counts)}
}

// TestGrowth adds a node to up to eight, with one to three copies, and keeps the table in docs/replication.md.
func TestGrowth(t *testing.T) {
	var b strings.Builder
	b.WriteString("| nodes | copies | series that change a node | R/(N+1) | copies that go to the new node | 1/(N+1) | a node has at most so much more or less than the mean |\n|---|---|---|---|---|---|---|\n")
	for n := 1; n <= 8; n++ {
		for copies := 1; copies <= min(3, n); copies++ {
			g := grow(t, n, copies)
			series, share := float64(copies)/float64(n+1), 1/float64(n+1)
			fmt.Fprintf(&b, "| %d to %d | %d | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.1f%% |\n", n, n+1, copies, 100*g.series, 100*series, 100*g.copies, 100*share, 100*g.worst)
			// Five standard deviations of a binomial distribution.
			if most := 5 * math.Sqrt(series*(1-series)/keys); math.Abs(g.series-series) > most || g.worst > 0.03 {
				t.Errorf("%d nodes with %d copies: %+v; want a share of %.4f to move, give or take %.4f", n, copies, g, series, most)
			}
		}
	}
	const path, begin, end = "../../docs/replication.md", "-update -->\n", "<!-- end of growth -->"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	got := before + begin + b.String() + end + after
	if got == string(text) {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is outdated; run go test ./lib/consistenthash -run TestGrowth -update", path)
	}
	if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}
