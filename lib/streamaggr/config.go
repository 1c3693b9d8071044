package streamaggr

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"vmcluster/lib/errkind"
	"vmcluster/lib/flagvalue"
	"vmcluster/lib/relabel"
)

// Defaults hold for all rules of a configuration which do not say otherwise.
type Defaults struct {
	DedupInterval        time.Duration
	DropInputLabels      []string
	IgnoreOldSamples     bool
	IgnoreFirstIntervals int
	EnableWindows        bool
	// KeepInput has the samples which rules match stored as well, DropInput has those dropped which no rule matches.
	KeepInput, DropInput bool
}

// Config is what rules say. It is immutable.
type Config struct {
	rules    []ruleConfig
	defaults Defaults
}

// Len returns the number of rules.
func (c *Config) Len() int { return len(c.rules) }

// ruleConfig is what one rule says.
type ruleConfig struct {
	id           string // the same for rules which say the same
	name         string
	matchText    []string
	match        relabel.Selectors
	intervalText string
	interval     time.Duration
	dedup        time.Duration
	staleness    time.Duration
	ignoreFirst  time.Duration // first samples of series in this time count for nothing
	windows      bool
	noAlign      bool
	flushAtEnds  bool // flush_on_shutdown
	keepNames    bool
	ignoreOld    bool
	skip         int // ignore_first_intervals
	by, without  []string
	grouped      bool // one of by and without is there
	dropLabels   []string
	outputs      []output
	needs        need
	input        *relabel.Rules
	result       *relabel.Rules
	passThrough  bool // deduplication alone: samples go on as they are
}

// minInterval is the shortest interval.
const minInterval = time.Second

// Parse reads rules in YAML. Name says in errors, which are of kind BadRequest, where the text is from.
func Parse(name string, text []byte, defaults Defaults) (*Config, error) {
	c := &Config{defaults: defaults}
	list, err := ruleNodes(text)
	for i := 0; err == nil && i < len(list); i++ {
		var r ruleConfig
		if r, err = readRule(list[i], &defaults); err != nil {
			err = fmt.Errorf("rule %d in line %d: %w", i+1, list[i].Line, err)
		}
		c.rules = append(c.rules, r)
	}
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot parse rules of stream aggregation of %s: %w", name, err)
	}
	return c, nil
}

// Deduplication returns the configuration for deduplication alone: all samples go on, but for duplicates.
func Deduplication(d Defaults) (*Config, error) {
	if d.DedupInterval < minInterval {
		return nil, errkind.New(errkind.BadRequest, "cannot deduplicate with the interval %s: want at least %s, or 0 for none", d.DedupInterval, minInterval)
	}
	return &Config{rules: []ruleConfig{{
		id: fmt.Sprint("deduplication ", d.DedupInterval, d.DropInputLabels, d.EnableWindows), interval: d.DedupInterval, intervalText: d.DedupInterval.String(), dedup: d.DedupInterval,
		staleness: d.DedupInterval, windows: d.EnableWindows, flushAtEnds: true, dropLabels: d.DropInputLabels, passThrough: true,
	}}}, nil
}

// ruleNodes returns the entries of the list of rules.
func ruleNodes(text []byte) ([]*yaml.Node, error) {
	var documents []yaml.Node
	if err := yaml.Load(text, &documents, yaml.WithAllDocuments()); err != nil {
		return nil, fmt.Errorf("fix the YAML: %w", err)
	}
	if len(documents) == 0 || len(documents[0].Content) == 0 {
		return nil, nil
	}
	if len(documents) > 1 {
		return nil, fmt.Errorf("there are %d documents; write one list of rules and no line of ---", len(documents))
	}
	list := resolve(documents[0].Content[0])
	if isNull(list) {
		return nil, nil
	}
	if list.Kind != yaml.SequenceNode {
		return nil, errors.New("want a list of rules, each beginning with a dash")
	}
	return list.Content, nil
}

// resolve returns the node which an alias stands for.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

// readRule reads a rule and looks whether its keys fit each other.
func readRule(node *yaml.Node, d *Defaults) (ruleConfig, error) {
	r := ruleConfig{dedup: d.DedupInterval, windows: d.EnableWindows, ignoreOld: d.IgnoreOldSamples, skip: d.IgnoreFirstIntervals, dropLabels: d.DropInputLabels, ignoreFirst: -1}
	node = resolve(node)
	if node.Kind != yaml.MappingNode || len(node.Content) == 0 {
		return r, errors.New("want keys such as interval: 1m")
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], resolve(node.Content[i+1])
		if isNull(value) {
			continue
		}
		if err := r.read(key.Value, value); err != nil {
			return r, fmt.Errorf("cannot read key %q in line %d: %w", key.Value, key.Line, err)
		}
	}
	r.id = string(appendID(fmt.Appendf(nil, "%+v", *d), node))
	return r, r.finish(d)
}

// appendID appends what a node says, whatever way it is written in.
func appendID(dst []byte, node *yaml.Node) []byte {
	node = resolve(node)
	dst = fmt.Appendf(dst, "%d%s%q", node.Kind, node.Tag, node.Value)
	parts := make([]string, 0, len(node.Content))
	for i := 0; i < len(node.Content); i++ {
		part := appendID(nil, node.Content[i])
		if node.Kind == yaml.MappingNode && i+1 < len(node.Content) {
			i++
			part = appendID(part, node.Content[i])
		}
		parts = append(parts, string(part))
	}
	if node.Kind == yaml.MappingNode {
		slices.Sort(parts)
	}
	return fmt.Appendf(dst, "%q", parts)
}

// readers returns what reads the value of each key.
func (r *ruleConfig) readers() map[string]func(node *yaml.Node) error {
	return map[string]func(node *yaml.Node) error{
		"name":                         text(&r.name),
		"match":                        func(n *yaml.Node) error { return r.readMatch(n) },
		"interval":                     func(n *yaml.Node) error { r.intervalText = n.Value; return duration(&r.interval)(n) },
		"dedup_interval":               duration(&r.dedup),
		"enable_windows":               boolean(&r.windows),
		"staleness_interval":           duration(&r.staleness),
		"ignore_first_sample_interval": duration(&r.ignoreFirst),
		"no_align_flush_to_interval":   boolean(&r.noAlign),
		"flush_on_shutdown":            boolean(&r.flushAtEnds),
		"without":                      texts(&r.without),
		"by":                           texts(&r.by),
		"outputs":                      func(n *yaml.Node) error { return r.readOutputs(n) },
		"keep_metric_names":            boolean(&r.keepNames),
		"ignore_old_samples":           boolean(&r.ignoreOld),
		"ignore_first_intervals":       whole(&r.skip),
		"drop_input_labels":            texts(&r.dropLabels),
		"input_relabel_configs":        rules(&r.input),
		"output_relabel_configs":       rules(&r.result),
	}
}

func (r *ruleConfig) read(key string, node *yaml.Node) error {
	readers := r.readers()
	read, ok := readers[key]
	if !ok {
		return fmt.Errorf("there is no such key; rules have %s", strings.Join(sortedKeys(readers), ", "))
	}
	return read(node)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func (r *ruleConfig) readMatch(node *yaml.Node) (err error) {
	if node.Kind == yaml.SequenceNode {
		err = texts(&r.matchText)(node)
	} else {
		r.matchText = make([]string, 1)
		err = text(&r.matchText[0])(node)
	}
	if err == nil {
		r.match, err = relabel.ParseSelectors("match", r.matchText)
	}
	return err
}

func (r *ruleConfig) readOutputs(node *yaml.Node) error {
	var list []string
	if err := texts(&list)(node); err != nil {
		return err
	}
	for _, entry := range list {
		o, err := parseOutput(entry)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(r.outputs, func(other output) bool { return other.kind == o.kind }) {
			return fmt.Errorf("the output %s is there twice; keep one of them", kindNames()[o.kind])
		}
		r.outputs = append(r.outputs, o)
		r.needs |= o.kind.needs()
	}
	return nil
}

// finish looks whether the keys fit each other, and sets those which follow from others.
func (r *ruleConfig) finish(d *Defaults) error {
	sameFor := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	r.by, r.without = sameFor(r.by), sameFor(r.without)
	r.grouped = len(r.by)+len(r.without) > 0
	r.staleness = cmp.Or(r.staleness, r.interval)
	if r.ignoreFirst < 0 {
		r.ignoreFirst = r.staleness
	}
	switch {
	case r.interval == 0:
		return errors.New("the key interval is missing; add for example interval: 1m")
	case r.interval < minInterval:
		return fmt.Errorf("the interval %s is too short; want at least %s", r.intervalText, minInterval)
	case len(r.outputs) == 0:
		return errors.New("the key outputs is missing; add for example outputs: [total]")
	case len(r.by) > 0 && len(r.without) > 0:
		return errors.New("the keys by and without exclude each other; remove one of them")
	case r.keepNames && len(r.outputs) > 1:
		return errors.New("the key keep_metric_names allows one output only, since several would have the same name; keep one, or remove the key")
	case r.keepNames && d.KeepInput:
		return errors.New("the key keep_metric_names cannot be used with -streamAggr.keepInput, since output and input would have the same name; remove one of them")
	case r.staleness < r.interval:
		return fmt.Errorf("the staleness_interval %s is shorter than the interval %s; make it at least as long", r.staleness, r.intervalText)
	case r.dedup > r.interval || r.dedup > 0 && r.interval%r.dedup != 0:
		return fmt.Errorf("the interval %s is no multiple of the dedup_interval %s (or -streamAggr.dedupInterval); make it one", r.intervalText, r.dedup)
	case r.dedup > 0 && r.dedup < time.Millisecond:
		return fmt.Errorf("the dedup_interval %s is too short; want at least 1ms", r.dedup)
	}
	return nil
}

// suffix is what the names of the outputs have behind that of the metric, but for the output.
func (r *ruleConfig) suffix() string {
	s := ":" + r.intervalText
	if len(r.by) > 0 {
		s += "_by_" + strings.Join(r.by, "_")
	}
	if len(r.without) > 0 {
		s += "_without_" + strings.Join(r.without, "_")
	}
	return s + "_"
}

func text(to *string) func(*yaml.Node) error {
	return func(node *yaml.Node) error {
		if node.Kind != yaml.ScalarNode {
			return errors.New("want one text")
		}
		*to = node.Value
		return nil
	}
}

func texts(to *[]string) func(*yaml.Node) error {
	return func(node *yaml.Node) error {
		if node.Kind != yaml.SequenceNode {
			return errors.New("want a list such as [job, instance]")
		}
		*to = nil
		for _, item := range node.Content {
			item = resolve(item)
			if item.Kind != yaml.ScalarNode || item.Value == "" || isNull(item) {
				return fmt.Errorf("an entry in line %d is not a text, or empty", item.Line)
			}
			*to = append(*to, item.Value)
		}
		return nil
	}
}

func duration(to *time.Duration) func(*yaml.Node) error {
	return func(node *yaml.Node) error {
		var d flagvalue.Duration
		if node.Kind != yaml.ScalarNode {
			return errors.New("want a duration such as 1m")
		}
		if err := d.Set(node.Value); err != nil {
			return err
		}
		if *to = d.D(); d < 0 {
			return fmt.Errorf("it is %s; want no negative duration", node.Value)
		}
		return nil
	}
}

func boolean(to *bool) func(*yaml.Node) error {
	return func(node *yaml.Node) (err error) {
		if node.Kind != yaml.ScalarNode || node.Tag != "!!bool" {
			return errors.New("want true or false")
		}
		return node.Decode(to)
	}
}

func whole(to *int) func(*yaml.Node) error {
	return func(node *yaml.Node) (err error) {
		if *to, err = strconv.Atoi(node.Value); node.Kind != yaml.ScalarNode || err != nil || *to < 0 {
			return errors.New("want a whole number, 0 or more")
		}
		return nil
	}
}

func rules(to **relabel.Rules) func(*yaml.Node) error {
	return func(node *yaml.Node) (err error) {
		*to, err = relabel.ParseNode(node)
		return err
	}
}
