package relabel

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"vmcluster/lib/errkind"
)

// The fields of a rule.
const (
	fieldIf          = "if"
	fieldAction      = "action"
	fieldSource      = "source_labels"
	fieldSeparator   = "separator"
	fieldTarget      = "target_label"
	fieldRegex       = "regex"
	fieldModulus     = "modulus"
	fieldHash        = "hash"
	fieldReplacement = "replacement"
	fieldMatch       = "match"
	fieldLabels      = "labels"
)

// fields are the fields of a rule as they are written, in the order in which rules are shown.
type fields struct {
	If           texts             `yaml:"if,omitempty"`
	Action       string            `yaml:"action,omitempty"`
	SourceLabels []string          `yaml:"source_labels,flow,omitempty"`
	Separator    *string           `yaml:"separator,omitempty"`
	TargetLabel  string            `yaml:"target_label,omitempty"`
	Regex        texts             `yaml:"regex,omitempty"`
	Modulus      uint64            `yaml:"modulus,omitempty"`
	Hash         string            `yaml:"hash,omitempty"`
	Replacement  *string           `yaml:"replacement,omitempty"`
	Match        string            `yaml:"match,omitempty"`
	Labels       map[string]string `yaml:"labels,omitempty"`

	set map[string]bool // names of the fields which are there
}

// texts is one text or a list of them, and written as it was.
type texts struct {
	list   []string
	isList bool
}

// IsZero reports whether there is none.
func (t texts) IsZero() bool { return len(t.list) == 0 }

// MarshalYAML returns what is written.
func (t texts) MarshalYAML() (any, error) {
	if t.isList {
		return t.list, nil
	}
	return strings.Join(t.list, ""), nil
}

// Parse compiles a list of rules in YAML. Name says in errors, which are of kind BadRequest, where the text is from.
func Parse(name string, text []byte) (*Rules, error) {
	rules, err := parse(text)
	if err != nil {
		return nil, errkind.New(errkind.BadRequest, "cannot parse relabelling rules of %s: %w", name, err)
	}
	return rules, nil
}

func parse(text []byte) (*Rules, error) {
	var documents []yaml.Node
	if err := yaml.Load(text, &documents, yaml.WithAllDocuments()); err != nil {
		return nil, fmt.Errorf("fix the YAML: %w", err)
	}
	if len(documents) == 0 || len(documents[0].Content) == 0 {
		return &Rules{}, nil
	}
	if len(documents) > 1 {
		return nil, fmt.Errorf("there are %d documents; write one list of rules and no line of ---", len(documents))
	}
	return ParseNode(documents[0].Content[0])
}

// ParseNode compiles a list of rules which is part of a larger text in YAML.
func ParseNode(list *yaml.Node) (*Rules, error) {
	rules := &Rules{}
	if list = target(list); isNull(list) {
		return rules, nil
	}
	if list.Kind != yaml.SequenceNode {
		return nil, errors.New("want a list of rules, each beginning with a dash")
	}
	rules.list = make([]rule, len(list.Content))
	for i, node := range list.Content {
		f, err := readFields(node)
		if err == nil {
			rules.list[i], err = compile(f)
		}
		if err != nil {
			return nil, fmt.Errorf("rule %d in line %d: %w", i+1, node.Line, err)
		}
	}
	return rules, nil
}

// readFields reads the fields of a rule. A field without a value is not there.
func readFields(node *yaml.Node) (*fields, error) {
	var values map[string]yaml.Node
	if err := node.Decode(&values); err != nil {
		return nil, fmt.Errorf("want fields such as action: drop: %w", err)
	}
	if len(values) == 0 {
		return nil, errors.New("it has no fields; remove its dash")
	}
	f := &fields{set: map[string]bool{}}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		err := f.read(name, &value)
		if err != nil {
			return nil, fmt.Errorf("cannot read field %s in line %d: %w", strconv.Quote(name), value.Line, err)
		}
	}
	return f, nil
}

func (f *fields) read(name string, node *yaml.Node) (err error) {
	node = target(node)
	if !slices.Contains(fieldNames(), name) {
		return fmt.Errorf("there is no such field; rules have %s", strings.Join(fieldNames(), ", "))
	}
	if isNull(node) {
		return nil
	}
	f.set[name] = true
	switch name {
	case fieldIf:
		err = f.If.read(node)
	case fieldAction:
		f.Action, err = scalar(node)
	case fieldSource:
		f.SourceLabels, err = sequence(node)
	case fieldSeparator:
		f.Separator, err = pointer(node)
	case fieldTarget:
		f.TargetLabel, err = scalar(node)
	case fieldRegex:
		err = f.Regex.read(node)
	case fieldModulus:
		err = f.readModulus(node)
	case fieldHash:
		f.Hash, err = scalar(node)
	case fieldReplacement:
		f.Replacement, err = pointer(node)
	case fieldMatch:
		f.Match, err = scalar(node)
	case fieldLabels:
		f.Labels, err = mapping(node)
	}
	return err
}

// target returns the node which an alias stands for.
func target(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == "!!null" }

func fieldNames() []string {
	return []string{fieldIf, fieldAction, fieldSource, fieldSeparator, fieldTarget, fieldRegex, fieldModulus, fieldHash, fieldReplacement, fieldMatch, fieldLabels}
}

func (f *fields) readModulus(node *yaml.Node) error {
	text, err := scalar(node)
	if err != nil {
		return err
	}
	f.Modulus, err = strconv.ParseUint(text, 10, 64)
	if err != nil || f.Modulus == 0 {
		return fmt.Errorf("it is %q; want a whole number above 0", text)
	}
	return nil
}

func scalar(node *yaml.Node) (string, error) {
	if node.Kind != yaml.ScalarNode {
		return "", errors.New("want one text")
	}
	return node.Value, nil
}

func pointer(node *yaml.Node) (*string, error) {
	text, err := scalar(node)
	return &text, err
}

func sequence(node *yaml.Node) ([]string, error) {
	if node.Kind != yaml.SequenceNode {
		return nil, errors.New("want a list such as [job, instance]")
	}
	list := make([]string, 0, len(node.Content))
	for _, item := range node.Content {
		text, err := scalar(target(item))
		if err != nil || text == "" || isNull(target(item)) {
			return nil, fmt.Errorf("an entry in line %d is not a text, or empty", item.Line)
		}
		list = append(list, text)
	}
	if len(list) == 0 {
		return nil, errors.New("the list is empty; leave the field out, or name something")
	}
	return list, nil
}

func (t *texts) read(node *yaml.Node) (err error) {
	if t.isList = node.Kind == yaml.SequenceNode; t.isList {
		t.list, err = sequence(node)
		return err
	}
	if node.Kind != yaml.ScalarNode {
		return errors.New("want a text or a list of them")
	}
	t.list = []string{node.Value}
	return nil
}

func mapping(node *yaml.Node) (map[string]string, error) {
	var values map[string]yaml.Node
	if err := node.Decode(&values); err != nil {
		return nil, fmt.Errorf("want labels such as job: $1: %w", err)
	}
	labels := map[string]string{}
	for name, value := range values {
		text, err := scalar(target(&value))
		if err != nil || name == "" {
			return nil, fmt.Errorf("label %q in line %d is not a text, or has no name", name, value.Line)
		}
		if !isNull(target(&value)) {
			labels[name] = text
		}
	}
	return labels, nil
}
