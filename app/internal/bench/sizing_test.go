package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// costs are those of a cluster per sample or series, as docs/capacity-planning.md has them.
type costs struct {
	insertCPU, storageCPU, mergeCPU float64 // seconds per million samples
	storageAnon, insertAnon         float64 // bytes per active series
	head, disk, index, network      float64 // bytes per sample, the index per series
}

// readCosts reads the table of costs. A row has the symbol, what it is, the single node, the cluster, of it vminsert and the storage nodes.
func readCosts(t *testing.T, page string) costs {
	t.Helper()
	cell := func(symbol string, column int) float64 {
		_, line, ok := strings.Cut(page, "\n| "+symbol+" | ")
		line, _, _ = strings.Cut(line, "\n")
		cells := strings.Split(line, " |")
		if !ok || len(cells) < 6 {
			t.Fatalf("the table of costs has no row %q", symbol)
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(cells[column]), 64)
		if err != nil {
			t.Fatalf("row %q of the table of costs: %s", symbol, err)
		}
		return v
	}
	const cluster, insert, storage = 2, 3, 4
	return costs{
		insertCPU: cell("a", insert), storageCPU: cell("a", storage), mergeCPU: cell("m", storage),
		storageAnon: cell("b", cluster) - cell("b", insert), insertAnon: cell("b", insert),
		head: cell("h", storage), disk: cell("v", storage), index: cell("i", storage), network: cell("n", cluster),
	}
}

// sizingRow computes a row of the examples of docs/capacity-planning.md by the formulas above them.
func (c *costs) sizingRow(series, interval, copies float64) []string {
	const (
		mb, gb   = 1 << 20, 1e9
		fixed    = 100 * mb // of a process
		day      = 86400
		days     = 30
		churn    = 1 + 0.01*24*days // series of a month for each active one
		headroom = 2                // half of CPU and memory idle
		diskFree = 0.8
	)
	rate := series / interval
	insertCores := rate * c.insertCPU * (1 + (copies-1)/2) / 1e6
	storageCores := rate * copies * (c.storageCPU + c.mergeCPU) / 1e6
	insertAnon := fixed + series*c.insertAnon
	storageAnon := series * copies * (c.storageAnon + c.head*3600/interval)
	cache := rate * copies * c.disk * day
	disk := (rate*copies*c.disk*day*days + series*churn*copies*c.index*2) / diskFree
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 2, 64) }
	return []string{
		thousands(int64(series)), number(interval) + " s", thousands(int64(rate + 0.5)), number(copies),
		fmt.Sprintf("%.2f", headroom*insertCores), fmt.Sprintf("%.2f", headroom*storageCores),
		fmt.Sprintf("%.1f", headroom*insertAnon/(1<<30)), fmt.Sprintf("%.1f", headroom*storageAnon/(1<<30)),
		fmt.Sprintf("%.1f", cache/(1<<30)), thousands(int64(disk/gb + 0.5)), fmt.Sprintf("%.2f", rate*copies*c.network/1e6),
	}
}

// TestSizingExamples: the examples of clusters follow from the costs of the capacity planning; -update writes them.
func TestSizingExamples(t *testing.T) {
	docs := filepath.Join("..", "..", "..", "docs")
	planning, err := os.ReadFile(filepath.Join(docs, "capacity-planning.md"))
	if err != nil {
		t.Fatal(err)
	}
	c := readCosts(t, string(planning))
	var b strings.Builder
	row(&b, "active series", "every", "samples/s", "copies", "cores: all vminsert", "all storage nodes", "GiB: each vminsert", "all storage nodes", "page cache for a day", "disk, GB", "network to the storage nodes, MB/s")
	ruler(&b, 11)
	for _, series := range []float64{1e5, 1e6, 1e7} {
		for _, interval := range []float64{15, 30} {
			for _, copies := range []float64{1, 2} {
				row(&b, c.sizingRow(series, interval, copies)...)
			}
		}
	}
	path := filepath.Join(docs, "capacity-planning.md")
	guide, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(guide), "\n")
	first := slices.IndexFunc(lines, func(s string) bool { return strings.HasPrefix(s, "| active series | every |") })
	if first < 0 {
		t.Fatal("the page has no examples of clusters")
	}
	last := first
	for last < len(lines) && strings.HasPrefix(lines[last], "|") {
		last++
	}
	if *update {
		lines = slices.Replace(lines, first, last, b.String())
		if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := strings.Join(lines[first:last], ""); got != b.String() {
		t.Errorf("the examples are\n%s\nand should be\n%s\nrun go test -run TestSizingExamples -update", got, &b)
	}
}
