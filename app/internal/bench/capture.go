package bench

import (
	"bytes"
	"embed"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/prompb"
)

//archtest:allow variable go:embed fills variables only; nothing writes to it
//go:embed testdata/*.txt
var captures embed.FS

// The time between the two captured scrapes in testdata, and the simulated scrape interval.
const (
	captureSeconds = 60
	scrapeSeconds  = 15
)

// target is one scraped endpoint of each simulated host.
type target struct {
	job       string
	port      int
	templates []template
}

// loadTargets returns the endpoints of a host with the given number of CPUs.
func loadTargets(cpus int) ([]*target, error) {
	node, err := loadTarget("node", 9100, cpus)
	if err != nil {
		return nil, err
	}
	prometheus, err := loadTarget("prometheus", 9090, cpus)
	if err != nil {
		return nil, err
	}
	return []*target{node, prometheus}, nil
}

// loadTarget builds the templates from two scrapes of the same endpoint, captured captureSeconds apart.
func loadTarget(name string, port, cpus int) (*target, error) {
	first, err := loadScrape(name + ".0.txt")
	if err != nil {
		return nil, err
	}
	second, err := loadScrape(name + ".1.txt")
	if err != nil {
		return nil, err
	}
	t := &target{job: name, port: port}
	for _, key := range second.order {
		b := second.series[key]
		a, ok := first.series[key]
		if !ok {
			a = b
		}
		t.templates = append(t.templates, copyToCPUs(newTemplate(a, b, second.types), cpus)...)
	}
	if cpus > 2 {
		sortCPUModes(t.templates)
	}
	splitBuckets(t.templates)
	for _, n := range []string{"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"} {
		t.templates = append(t.templates, template{labels: []prompb.Label{{Name: "__name__", Value: n}}, kind: kindSynth, value: float64(len(second.order))})
	}
	return t, nil
}

// copyToCPUs returns the template itself, or copies of it for all CPUs but the first if it is the second CPU's.
func copyToCPUs(tpl template, cpus int) []template {
	cpu := slices.Index(tpl.labels, prompb.Label{Name: "cpu", Value: "1"})
	if cpu < 0 {
		return []template{tpl}
	}
	var copies []template
	for i := range max(1, cpus-1) {
		c := tpl
		c.labels = slices.Clone(tpl.labels)
		c.labels[cpu].Value = strconv.Itoa(i + 1)
		copies = append(copies, c)
	}
	return copies
}

// sortCPUModes brings the modes of one CPU together, which the copies have torn apart.
func sortCPUModes(templates []template) {
	slices.SortStableFunc(templates, func(a, b template) int {
		if a.labels[0] != b.labels[0] || !strings.HasPrefix(a.name(), "node_cpu_seconds") {
			return 0
		}
		return strings.Compare(a.labels[1].Value, b.labels[1].Value)
	})
}

// splitBuckets turns the rates of cumulative buckets into each bucket's own.
func splitBuckets(templates []template) {
	previous := 0.0
	for j := range templates {
		tpl := &templates[j]
		if tpl.kind != kindBucket {
			continue
		}
		tpl.first = j == 0 || !slices.Equal(withoutLe(templates[j-1].labels), withoutLe(tpl.labels))
		if tpl.first {
			previous = 0
		}
		cumulative := tpl.mean
		tpl.mean, previous = max(0, cumulative-previous), cumulative
	}
}

// withoutLe returns the labels less the bucket bound.
func withoutLe(labels []prompb.Label) []prompb.Label {
	return slices.DeleteFunc(slices.Clone(labels), func(l prompb.Label) bool { return l.Name == "le" })
}

func sortLabels(labels []prompb.Label) {
	slices.SortFunc(labels, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
}

// captured is one line of a captured scrape.
type captured struct {
	labels []prompb.Label // sorted by name
	value  float64
	text   string
}

// scrape is a parsed scrape.
type scrape struct {
	series map[string]captured
	order  []string          // keys of series as they were scraped
	types  map[string]string // by metric family
}

func loadScrape(name string) (*scrape, error) {
	data, err := captures.ReadFile("testdata/" + name)
	if err != nil {
		return nil, fmt.Errorf("cannot read captured scrape %s: %w", name, err)
	}
	s, err := parseScrape(data)
	if err != nil {
		return nil, fmt.Errorf("cannot parse captured scrape %s: %w", name, err)
	}
	return s, nil
}

// parseScrape parses what the two exporters write of the text exposition format: no timestamps, no exemplars.
func parseScrape(data []byte) (*scrape, error) {
	lineRE := regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$`)
	labelRE := regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
	unescape := strings.NewReplacer(`\"`, `"`, `\n`, "\n", `\\`, `\`)
	s := &scrape{series: map[string]captured{}, types: map[string]string{}}
	for line := range strings.SplitSeq(string(bytes.TrimSpace(data)), "\n") {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "#" && f[1] == "TYPE" {
			s.types[f[2]] = f[3]
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		m := lineRE.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %q is not a sample", line)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, fmt.Errorf("line %q has no value: %w", line, err)
		}
		c := captured{labels: []prompb.Label{{Name: "__name__", Value: m[1]}}, value: v, text: m[3]}
		for _, l := range labelRE.FindAllStringSubmatch(m[2], -1) {
			if value := unescape.Replace(l[2]); value != "" { // an empty value is the same as no label
				c.labels = append(c.labels, prompb.Label{Name: l[1], Value: value})
			}
		}
		sortLabels(c.labels)
		key := m[1] + "{" + m[2]
		s.series[key] = c
		s.order = append(s.order, key)
	}
	return s, nil
}
