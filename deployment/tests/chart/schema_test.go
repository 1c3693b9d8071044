package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// schema is what these tests understand of a JSON schema.
type schema struct {
	Ref         string             `json:"$ref"`
	Defs        map[string]*schema `json:"$defs"`
	AllOf       []*schema          `json:"allOf"`
	Properties  map[string]*schema `json:"properties"`
	Additional  any                `json:"additionalProperties"`
	Unevaluated any                `json:"unevaluatedProperties"`
	Items       *schema            `json:"items"`
	Deprecated  bool               `json:"deprecated"`
}

func readSchema(t *testing.T, dir string) *schema {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	return root.resolved(root.Defs)
}

// resolved replaces references by what they refer to, and puts what allOf has into the properties.
func (s *schema) resolved(defs map[string]*schema) *schema {
	if s.Ref != "" {
		target := *defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
		target.Deprecated = s.Deprecated
		return target.resolved(defs)
	}
	r := *s
	r.Properties = map[string]*schema{}
	for _, part := range s.AllOf {
		for name, p := range part.resolved(defs).Properties {
			r.Properties[name] = p
		}
	}
	for name, p := range s.Properties {
		r.Properties[name] = p.resolved(defs)
	}
	if s.Items != nil {
		r.Items = s.Items.resolved(defs)
	}
	return &r
}

// leaves returns the paths of keys that are set as a whole: scalars, lists, and maps that are Kubernetes' or the user's.
func (s *schema) leaves(path string) []string {
	if len(s.Properties) == 0 || strings.HasSuffix(path, "ecurityContext") && s.Additional == nil && s.Unevaluated == nil {
		return []string{path}
	}
	var all []string
	for name, p := range s.Properties {
		if !p.Deprecated {
			all = append(all, p.leaves(strings.TrimPrefix(path+"/"+name, "/"))...)
		}
	}
	slices.Sort(all)
	return all
}

// names adds the names of all keys, also of former ones and of those in lists.
func (s *schema) names(into map[string]bool) {
	if s.Items != nil {
		s.Items.names(into)
	}
	for name, p := range s.Properties {
		into[name] = true
		p.names(into)
	}
}

// at returns the value at a path such as vmselect/image/tag.
func at(values map[string]any, path string) (any, bool) {
	first, rest, deeper := strings.Cut(path, "/")
	value, ok := values[first]
	if !deeper || !ok {
		return value, ok
	}
	m, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	return at(m, rest)
}

// put sets the value at a path, or removes it if it is remove.
func put(values map[string]any, path string, value any) {
	first, rest, deeper := strings.Cut(path, "/")
	if !deeper {
		if value == remove {
			delete(values, first)
		} else {
			values[first] = value
		}
		return
	}
	m, ok := values[first].(map[string]any)
	if !ok {
		m = map[string]any{}
		values[first] = m
	}
	put(m, rest, value)
}

var remove any = &struct{ int }{}
