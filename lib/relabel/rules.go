package relabel

import (
	"slices"
	"strings"

	"vmcluster/lib/bytesutil"
	"vmcluster/lib/model"
)

// Rules are applied to the labels of a series one after the other. A nil pointer has no rules.
type Rules struct {
	list []rule
}

// Len returns the number of rules.
func (rs *Rules) Len() int {
	if rs == nil {
		return 0
	}
	return len(rs.list)
}

// Apply returns what the rules make of the labels, or false when the series is dropped, because a rule says so or because it
// has no labels any more. The slice is used for the result and may be grown. Without rules nothing changes.
func (rs *Rules) Apply(labels []model.Label) ([]model.Label, bool) {
	if rs.Len() == 0 {
		return labels, true
	}
	s := newState(labels)
	for i := range rs.list {
		if !rs.list[i].apply(&s) {
			return s.labels[:0], false
		}
	}
	s.dropHidden()
	return s.labels, len(s.labels) > 0
}

// Step is what one rule does to the labels of a series.
type Step struct {
	Rule    string // as YAML
	In, Out []model.Label
}

// Steps returns what each rule does to the labels, which stay as they are. After a rule that drops the series Out is empty, and no
// more steps follow.
func (rs *Rules) Steps(labels []model.Label) []Step {
	if rs == nil {
		return nil
	}
	s := newState(slices.Clone(labels))
	var steps []Step
	for i := range rs.list {
		r := &rs.list[i]
		step := Step{Rule: r.text, In: s.sorted()}
		kept := r.apply(&s)
		if kept {
			step.Out = s.sorted()
		}
		if steps = append(steps, step); !kept {
			break
		}
	}
	return steps
}

// IsHidden reports whether a label is for the use of rules only: its name begins with two underscores, and it is not the metric name.
func IsHidden(name string) bool {
	return strings.HasPrefix(name, "__") && name != model.MetricNameLabel
}

// state is the series which the rules work on.
type state struct {
	labels []model.Label
	buf    []byte // scratch
}

// newState takes over labels. They are put in order, on which it may depend which of two labels wins that become one.
func newState(labels []model.Label) state {
	labels = slices.DeleteFunc(labels, func(l model.Label) bool { return l.Value == "" })
	byName := func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(labels, byName) {
		slices.SortStableFunc(labels, byName)
	}
	return state{labels: labels}
}

func (s *state) dropHidden() {
	s.labels = slices.DeleteFunc(s.labels, func(l model.Label) bool { return IsHidden(l.Name) })
}

// sorted returns a copy of the labels by name.
func (s *state) sorted() []model.Label { return newState(slices.Clone(s.labels)).labels }

func (s *state) get(name string) string {
	for i := range s.labels {
		if s.labels[i].Name == name {
			return s.labels[i].Value
		}
	}
	return ""
}

// set sets a label, and removes it when the value is empty. Nothing has an empty name.
func (s *state) set(name, value string) {
	if name == "" {
		return
	}
	i := slices.IndexFunc(s.labels, func(l model.Label) bool { return l.Name == name })
	switch {
	case i < 0 && value != "":
		s.labels = append(s.labels, model.Label{Name: name, Value: value})
	case i >= 0 && value == "":
		s.labels = slices.Delete(s.labels, i, i+1)
	case i >= 0:
		s.labels[i].Value = value
	}
}

// setBytes is set for a value which is most often there already, as when a rule is applied again.
func (s *state) setBytes(name string, value []byte) {
	if s.get(name) != string(value) {
		s.set(name, string(value))
	}
}

// joined returns the values of labels with a separator between them. It may alias the scratch.
func (s *state) joined(names []string, separator string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return s.get(names[0])
	}
	s.buf = s.buf[:0]
	for i, name := range names {
		if i > 0 {
			s.buf = append(s.buf, separator...)
		}
		s.buf = append(s.buf, s.get(name)...)
	}
	return bytesutil.String(s.buf)
}
