package relabel

import (
	"fmt"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"go.yaml.in/yaml/v4"

	"vmcluster/lib/model"
)

const (
	defaultAction      = "replace"
	defaultSeparator   = ";"
	defaultRegex       = "(.*)"
	defaultReplacement = "$1"
)

// compile makes a rule of its fields.
func compile(f *fields) (r rule, err error) {
	if r.text, err = f.yaml(); err != nil {
		return r, err
	}
	name := f.Action
	if name == "" {
		name = defaultAction
	}
	a, ok := actionOf(name)
	if !ok {
		return r, fmt.Errorf("cannot use action %q: want one of %s", name, strings.Join(actionNames(), ", "))
	}
	if err := f.check(name, &a); err != nil {
		return r, err
	}
	r.run, r.dropUnmet, r.source, r.modulus = a.run, a.dropUnmet, f.SourceLabels, f.Modulus
	r.separator = valueOr(f.Separator, defaultSeparator)
	r.target = template{literal: f.TargetLabel}
	if a.template {
		r.target = parseTemplate(f.TargetLabel, false)
	}
	r.replacement = parseTemplate(valueOr(f.Replacement, defaultReplacement), true)
	if r.sum, err = hashOf(f.Hash); err != nil {
		return r, err
	}
	if r.pattern, err = compilePattern(f.Regex.list, r.target.groups || r.replacement.groups, a.parts); err != nil {
		return r, err
	}
	if name == "graphite" {
		r.graphite = compileGraphite(f.Match, f.Labels, slices.Sorted(maps.Keys(f.Labels)))
	}
	r.conditions, err = compileConditions(fieldIf, f.If.list)
	return r, err
}

func valueOr(p *string, fallback string) string {
	if p == nil {
		return fallback
	}
	return *p
}

// yaml returns the rule as it is shown.
func (f *fields) yaml() (string, error) {
	text, err := yaml.Marshal(f)
	if err != nil {
		return "", fmt.Errorf("cannot print the rule: %w", err)
	}
	return string(text), nil
}

// check reports fields which are missing, and fields which the action does not take.
func (f *fields) check(name string, a *action) error {
	missing := slices.DeleteFunc(slices.Clone(a.needs), f.has)
	if a.needsIf != "" && !f.has(a.needsIf) && !f.has(fieldIf) {
		missing = append(missing, a.needsIf)
	}
	if len(missing) > 0 {
		return fmt.Errorf("cannot use action %s without %s; add it", name, strings.Join(missing, " and "))
	}
	refused := slices.Clone(a.refuses)
	if name != "graphite" {
		refused = append(refused, fieldMatch, fieldLabels)
	}
	if name != "hashmod" {
		refused = append(refused, fieldHash)
	}
	for _, field := range refused {
		if f.set[field] {
			return fmt.Errorf("cannot use field %s with action %s; remove it", field, name)
		}
	}
	if strings.HasSuffix(name, "_if_equal") && len(f.SourceLabels) < 2 {
		return fmt.Errorf("cannot use action %s with one label in source_labels; name at least two", name)
	}
	return nil
}

// has reports whether a field which must not be empty is there.
func (f *fields) has(field string) bool {
	switch field {
	case fieldTarget:
		return f.TargetLabel != ""
	case fieldMatch:
		return f.Match != ""
	case fieldLabels:
		return len(f.Labels) > 0
	}
	return f.set[field]
}

func hashOf(name string) (func(string) uint64, error) {
	switch name {
	case "", "xxhash":
		return xxhash.Sum64String, nil
	case "md5":
		return md5Sum, nil
	}
	return nil, fmt.Errorf("cannot use hash %q: want xxhash, the default, or md5, which Prometheus has", name)
}

// compilePattern compiles expressions, any of which is to match. With groups, the places of groups are wanted, with parts the places of
// all matches.
func compilePattern(list []string, groups, parts bool) (p pattern, err error) {
	if len(list) == 0 {
		list = []string{defaultRegex}
	}
	exprs := make([]string, len(list))
	for i, text := range list {
		tree, err := syntax.Parse(text, syntax.Perl|syntax.DotNL)
		if err != nil {
			return p, fmt.Errorf("cannot use regex %q: fix it: %w", text, err)
		}
		if exprs[i] = text; strings.Contains(text, `\Q`) {
			exprs[i] = tree.String() // what is quoted to the end must not swallow what follows
		}
	}
	expr := strings.Join(exprs, "|")
	p.any = expr == defaultRegex
	if p.matcher, err = (model.TagFilter{Value: expr, Op: model.Regexp}).Compile(); err == nil && groups {
		p.whole, err = regexp.Compile("^(?s:" + expr + ")$")
	}
	if err == nil && parts {
		p.parts, err = regexp.Compile("(?s:" + expr + ")")
	}
	if err != nil {
		return p, fmt.Errorf("cannot use regex %q: make it simpler: %w", expr, err)
	}
	return p, nil
}

// compileConditions compiles the selectors of a field.
func compileConditions(field string, selectors []string) ([]condition, error) {
	var list []condition
	for _, text := range selectors {
		sets, err := parseSelector(text)
		for i := 0; err == nil && i < len(sets); i++ {
			var c condition
			c, err = compileFilters(sets[i])
			list = append(list, c)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use %s %q: want a selector such as foo{bar=\"baz\"}: %w", field, text, err)
		}
	}
	return list, nil
}

func compileFilters(filters []model.TagFilter) (condition, error) {
	c := make(condition, len(filters))
	for i, f := range filters {
		m, err := f.Compile()
		if err != nil {
			return nil, err
		}
		c[i] = m
	}
	return c, nil
}
