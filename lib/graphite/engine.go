package graphite

import (
	"slices"
	"strings"

	"vmcluster/lib/invariants"
)

// evalFunc evaluates a call.
type evalFunc func(c *call) ([]*Series, error)

// Function is a function of the render API.
type Function struct {
	Name        string
	Group       string
	Description string
	Params      []Param
	// Unlisted functions are other names which editors are not offered.
	Unlisted bool

	eval evalFunc
	// keepsPath is set when series keep the text that names of aggregates are made of.
	keepsPath bool
}

// Signature renders the form of a call.
func (f *Function) Signature() string {
	var b strings.Builder
	b.WriteString(f.Name + "(")
	for i, p := range f.Params {
		if i > 0 {
			b.WriteString(", ")
		}
		switch {
		case p.Multiple:
			b.WriteString("*" + p.Name)
		case p.Required:
			b.WriteString(p.Name)
		case p.Default == "":
			b.WriteString(p.Name + "=None")
		default:
			b.WriteString(p.Name + "=" + p.defaultText())
		}
	}
	return b.String() + ")"
}

// defaultText renders the default as in Graphite's documentation.
func (p *Param) defaultText() string {
	switch p.Kind {
	case kindBoolean:
		return strings.ToUpper(p.Default[:1]) + p.Default[1:]
	case kindFloat, kindInteger, kindIntOrInf, kindNode:
		return p.Default
	}
	return "'" + p.Default + "'"
}

// Engine knows the functions. It is not changed after New and can be shared.
type Engine struct {
	functions map[string]*Function
}

// row is a function as the tables have it. The form is name(param, ...), and a parameter is [*]name[:kind][? or =default], where * stands for
// any number of arguments and ? for an optional one. Without a kind, seriesList is one and everything else a string.
type row struct {
	form string
	text string
	eval evalFunc
}

// New returns an engine with all functions.
func New() *Engine {
	e := &Engine{functions: map[string]*Function{}}
	for _, t := range []struct {
		group     string
		keepsPath bool
		rows      []row
	}{
		{"Combine", false, combineRows()}, {"Combine", true, groupRows()}, {"Transform", false, transformRows()}, {"Calculate", false, calculateRows()},
		{"Calculate", false, forecastRows()}, {"Filter Data", false, filterDataRows()}, {"Filter Series", true, filterRows()}, {"Sorting", true, sortRows()},
		{"Alias", true, aliasRows()}, {"Graph", true, graphRows()}, {"Special", false, specialRows()}, {"Special", true, tagRows()},
	} {
		for _, r := range t.rows {
			f := parseForm(r.form)
			f.Group, f.keepsPath, f.Description, f.eval = t.group, t.keepsPath, r.text, r.eval
			f.Unlisted = slices.Contains([]string{"logarithm", "max", "min", "roundFunction"}, f.Name)
			invariants.Check(e.functions[f.Name] == nil, "function is in the tables twice")
			e.functions[f.Name] = f
		}
	}
	return e
}

func parseForm(form string) *Function {
	name, params, ok := strings.Cut(strings.TrimSuffix(form, ")"), "(")
	invariants.Check(ok, "form of a function has no parameters")
	f := &Function{Name: name}
	for text := range strings.SplitSeq(params, ", ") {
		if text == "" {
			continue
		}
		p := Param{Required: true}
		text, p.Multiple = strings.CutPrefix(text, "*")
		if before, ok := strings.CutSuffix(text, "?"); ok {
			text, p.Required = before, false
		}
		text, p.Default, ok = strings.Cut(text, "=")
		p.Required = p.Required && !ok
		p.Name, p.Kind, ok = strings.Cut(text, ":")
		if !ok {
			p.Kind = kindString
		}
		if p.Name == "seriesList" {
			p.Kind = kindSeriesList
		}
		f.Params = append(f.Params, p)
	}
	return f
}

// Functions returns all functions by name.
func (e *Engine) Functions() []*Function {
	list := make([]*Function, 0, len(e.functions))
	for _, f := range e.functions {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *Function) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Function returns the function with a name, or nil.
func (e *Engine) Function(name string) *Function { return e.functions[name] }

// Aggregates returns the names of the aggregates that functions take as an argument.
func Aggregates() []string { return aggregatorNames() }
