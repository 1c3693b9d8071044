package codec

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var corpus = flag.String("corpus", "", "comma-separated files of scrapes in text format, each ended by a line `# EOF`, from which -update makes the tables of tokens")

// readScrapes returns the series of a file of scrapes.
func readScrapes(path string) (map[string][]float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	series := map[string][]float64{}
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		at := bytes.LastIndexByte(line, ' ')
		if at < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(string(line[at+1:]), 64)
		if err != nil {
			return nil, fmt.Errorf("cannot parse sample %q of %s: %w", line, path, err)
		}
		series[string(line[:at])] = append(series[string(line[:at])], v)
	}
	return series, nil
}

// shape counts the symbols of a column.
type shape [tokenSymbols]float64

// bits returns the size of the symbols under ideal codes.
func (s *shape) bits(model *shape) float64 {
	sum := 0.0
	for i, n := range s {
		if n > 0 {
			sum += n * model[i]
		}
	}
	return sum
}

// model returns the length in bits of an ideal code of each symbol.
func (s *shape) model() shape {
	total := 0.0
	for _, n := range s {
		total += n + 0.002
	}
	var m shape
	for i, n := range s {
		m[i] = min(tokenMaxLen, max(1, -math.Log2((n+0.002)/total)))
	}
	return m
}

// cluster finds k models which give the shapes few bits: Lloyd's algorithm from several random starts.
func cluster(shapes []shape, k int) []shape {
	r := rand.New(rand.NewPCG(11, 12))
	var best []shape
	bestBits := math.Inf(1)
	for range 6 {
		models := make([]shape, k)
		for i := range models {
			models[i] = shapes[r.IntN(len(shapes))].model()
		}
		total := 0.0
		for range 40 {
			sums := make([]shape, k)
			total = 0
			for i := range shapes {
				at, bits := nearest(&shapes[i], models)
				total += bits
				for j, n := range shapes[i] {
					sums[at][j] += n
				}
			}
			for i := range sums {
				if sums[i] == (shape{}) {
					sums[i] = shapes[r.IntN(len(shapes))]
				}
				models[i] = sums[i].model()
			}
			if total < bestBits {
				best, bestBits = sums, total
			}
		}
	}
	return best
}

// textbookShapes are distributions which any set of tables should serve, seen in the corpus or not: uniform,
// normal and exponential ones.
func textbookShapes() []shape {
	var shapes []shape
	add := func(density func(x float64) float64) {
		var s shape
		sum := 0.0
		for i := range s[:tokenEscape] {
			s[i] = density(float64(i))
			sum += s[i]
		}
		s[tokenEscape] = sum / 200
		for i := range s {
			s[i] *= 480 / sum
		}
		shapes = append(shapes, s)
	}
	for width := 7.0; width < 15; width++ {
		add(func(x float64) float64 {
			if x > width {
				return 0
			}
			return 1
		})
	}
	for center := 3.0; center <= 11; center++ {
		for _, sigma := range []float64{0.7, 1, 1.5, 2, 3, 4} {
			add(func(x float64) float64 { return math.Exp(-(x - center) * (x - center) / (2 * sigma * sigma)) })
			add(func(x float64) float64 { return math.Exp(-math.Abs(x-center) / sigma) })
		}
	}
	for _, mean := range []float64{0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6} {
		add(func(x float64) float64 { return math.Exp(-x / mean) })
	}
	return shapes
}

func nearest(s *shape, models []shape) (at int, bits float64) {
	bits = math.Inf(1)
	for i := range models {
		if b := s.bits(&models[i]); b < bits {
			at, bits = i, b
		}
	}
	return at, bits
}

// codeLengths returns the lengths of a Huffman code of at most tokenMaxLen bits, by package-merge
// (Larmore and Hirschberg 1990).
func codeLengths(s shape) [tokenSymbols]int {
	type item struct {
		weight  float64
		symbols []int
	}
	var leaves []item
	for i, n := range s {
		leaves = append(leaves, item{n + 1e-6*float64(i+1), []int{i}})
	}
	byWeight := func(a, b item) int {
		switch {
		case a.weight < b.weight:
			return -1
		case a.weight > b.weight:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(leaves, byWeight)
	var packages []item
	for range tokenMaxLen {
		level := append(slices.Clone(leaves), packages...)
		slices.SortStableFunc(level, byWeight)
		packages = nil
		for i := 0; i+1 < len(level); i += 2 {
			packages = append(packages, item{level[i].weight + level[i+1].weight, append(slices.Clone(level[i].symbols), level[i+1].symbols...)})
		}
	}
	var lengths [tokenSymbols]int
	for _, p := range packages[:tokenSymbols-1] {
		for _, i := range p.symbols {
			lengths[i]++
		}
	}
	return lengths
}

// TestTokenTables checks the built-in tables, and with -corpus and -update makes them anew.
func TestTokenTables(t *testing.T) {
	if *corpus != "" && *update {
		writeTokenTables(t)
		return
	}
	tables := builtinTokenTables()
	for i := range tokenTableCount {
		for _, table := range []*tokenTable{&tables.plain[i], &tables.zero[i]} {
			kraft := 0
			for _, l := range table.lengths {
				if l == 0 || l > tokenMaxLen {
					t.Fatalf("table %d has a code of %d bits", i, l)
				}
				kraft += 1 << (tokenMaxLen - l)
			}
			if kraft != 1<<tokenMaxLen {
				t.Errorf("the code of table %d is not complete", i)
			}
		}
	}
}

func writeTokenTables(t *testing.T) {
	plain, zero := textbookShapes(), textbookShapes()
	var e Encoder
	for _, path := range strings.Split(*corpus, ",") {
		series, err := readScrapes(path)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for name := range series {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			for _, n := range []int{120, 480} {
				for values := series[name]; len(values) >= tokensFrom; values = values[min(n, len(values)):] {
					e.plan.bits = 0
					e.AppendValues(nil, values[:min(n, len(values))])
					if e.plan.bits == 0 {
						continue
					}
					var s shape
					for i, c := range e.plan.counts {
						s[i] = float64(c)
					}
					if e.plan.zero {
						zero = append(zero, s)
					} else {
						plain = append(plain, s)
					}
				}
			}
		}
	}
	t.Logf("%d plain and %d zero columns", len(plain), len(zero))
	var out bytes.Buffer
	out.WriteString("// Code generated by go test ./lib/codec -run TestTokenTables -update -corpus FILES; DO NOT EDIT.\n\npackage codec\n\n")
	fmt.Fprintf(&out, "// tokenTableCount is the number of tables of either form.\nconst tokenTableCount = %d\n\n", trainedTables)
	out.WriteString("// The lengths of the codes of symbols 0 to 15, as hexadecimal digits, table after table. The place of a table is part of the format.\nconst (\n")
	for _, f := range []struct {
		name   string
		shapes []shape
	}{{"plainTokenLengths", plain}, {"zeroTokenLengths", zero}} {
		fmt.Fprintf(&out, "\t%s = \"\"", f.name)
		sums := cluster(f.shapes, trainedTables)
		var lines []string
		for _, s := range sums {
			line := ""
			for _, l := range codeLengths(s) {
				line += strconv.FormatInt(int64(l), 16)
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		for _, line := range lines {
			fmt.Fprintf(&out, " +\n\t\t%q", line)
		}
		out.WriteString("\n")
	}
	out.WriteString(")\n")
	if err := os.WriteFile("tokentables.go", out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

const trainedTables = 32
