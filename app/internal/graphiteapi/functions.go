package graphiteapi

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/graphite"
)

// functionJSON describes a function to editors, in the form of Graphite.
type functionJSON struct {
	Name        string      `json:"name"`
	Function    string      `json:"function"`
	Description string      `json:"description"`
	Module      string      `json:"module"`
	Group       string      `json:"group"`
	Params      []paramJSON `json:"params"`
}

type paramJSON struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Required bool     `json:"required,omitempty"`
	Default  any      `json:"default,omitempty"`
	Multiple bool     `json:"multiple,omitempty"`
	Options  []string `json:"options,omitempty"`
}

func describe(f *graphite.Function) functionJSON {
	d := functionJSON{Name: f.Name, Function: f.Signature(), Description: f.Description, Module: "graphite.render.functions", Group: f.Group, Params: []paramJSON{}}
	for _, p := range f.Params {
		j := paramJSON{Name: p.Name, Type: p.Kind, Required: p.Required, Multiple: p.Multiple}
		if p.Default != "" {
			j.Default = defaultValue(&p)
		}
		switch {
		case p.Kind == "aggFunc":
			j.Options = graphite.Aggregates()
		case p.Name == "operator":
			j.Options = []string{"!=", "<", "<=", "=", ">", ">="}
		}
		d.Params = append(d.Params, j)
	}
	return d
}

// defaultValue returns the default as a value of JSON.
func defaultValue(p *graphite.Param) any {
	switch p.Kind {
	case "float", "integer", "intOrInf":
		if f, err := strconv.ParseFloat(p.Default, 64); err == nil && p.Default != "inf" {
			return f
		}
	case "boolean":
		return p.Default == "true"
	}
	return p.Default
}

// functions serves /functions.
func (a *API) functions(w http.ResponseWriter, r *request) error {
	if boolArg(r, "grouped") {
		groups := map[string]map[string]functionJSON{}
		for _, f := range a.engine.Functions() {
			if f.Unlisted {
				continue
			}
			if groups[f.Group] == nil {
				groups[f.Group] = map[string]functionJSON{}
			}
			groups[f.Group][f.Name] = describe(f)
		}
		return a.writePretty(w, r, groups)
	}
	all := map[string]functionJSON{}
	for _, f := range a.engine.Functions() {
		if !f.Unlisted {
			all[f.Name] = describe(f)
		}
	}
	return a.writePretty(w, r, all)
}

// function serves /functions/<name>.
func (a *API) function(w http.ResponseWriter, r *request) error {
	f := a.engine.Function(r.name)
	if f == nil {
		return errkind.New(errkind.BadRequest, "cannot find function %q", strings.ToValidUTF8(r.name, "?"))
	}
	return a.writePretty(w, r, describe(f))
}

// writePretty answers with a value, indented if that is asked for.
func (a *API) writePretty(w http.ResponseWriter, r *request, v any) error {
	return a.writeJSON(w, r, func(b *bufio.Writer) error {
		e := json.NewEncoder(b)
		if boolArg(r, "pretty") {
			e.SetIndent("", "\t")
		}
		return e.Encode(v)
	})
}
