package relabeldebug

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/model"
	"vmcluster/lib/relabel"
)

// Kind is what is relabelled.
type Kind uint8

const (
	// Metrics are relabelled when they are written.
	Metrics Kind = iota
	// Targets are relabelled before they are scraped; their metric name, if any, goes at the end with all other labels that begin with two underscores.
	Targets
)

// step is what a rule does, with labels in HTML.
type step struct {
	In, Out template.HTML
	Rule    string
}

// result is the answer to a request.
type result struct {
	Metric, Rules string // as they were asked for
	Target        bool
	Fault         string
	Steps         []step
	Before, After template.HTML
	Done          bool // there is an outcome to show
}

// Serve answers a request whose arguments are metric, relabel_configs and format, which is json or empty for a page.
func Serve(w http.ResponseWriter, form url.Values, kind Kind) error {
	r := run(form.Get("metric"), form.Get("relabel_configs"), kind)
	if form.Get("format") == "json" {
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write(r.json())
		return err
	}
	page, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := page.Execute(&b, r); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write(b.Bytes())
	return err
}

// run applies the rules one by one.
func run(metric, text string, kind Kind) *result {
	r := &result{Metric: metric, Rules: text, Target: kind == Targets}
	rules, err := relabel.Parse("the request", []byte(text))
	if err != nil {
		r.Fault = "Error: " + err.Error()
		return r
	}
	if metric == "" {
		return r
	}
	labels, err := relabel.ParseLabels(metric)
	if err != nil {
		r.Fault = "Error: cannot parse metric: " + err.Error()
		return r
	}
	slices.SortFunc(labels, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
	r.Before, r.Done = mark(labels, labels, ""), true
	steps := rules.Steps(labels)
	for _, s := range steps {
		r.add(s)
		labels = s.Out
	}
	if visible := slices.DeleteFunc(slices.Clone(labels), func(l model.Label) bool { return isRemoved(kind, l.Name) }); len(visible) < len(labels) && rules.Len() > 0 {
		r.add(relabel.Step{Rule: "remove labels with __ prefix", In: labels, Out: visible})
		labels = visible
	}
	r.After = mark(labels, labels, "")
	return r
}

// isRemoved reports whether a label goes when all rules have been applied.
func isRemoved(kind Kind, name string) bool {
	return relabel.IsHidden(name) || kind == Targets && name == model.MetricNameLabel
}

func (r *result) add(s relabel.Step) {
	const gone, new = "#D15757", "#4495e0"
	r.Steps = append(r.Steps, step{In: mark(s.In, s.Out, gone), Out: mark(s.Out, s.In, new), Rule: s.Rule})
}

// mark renders labels in HTML; those which the others do not have are in the given colour.
func mark(labels, others []model.Label, colour string) template.HTML {
	show := func(l model.Label, text string) string {
		text = escape(text)
		if slices.Contains(others, l) {
			return text
		}
		return `<span style="font-weight:bold;color:` + colour + `">` + text + `</span>`
	}
	name := ""
	var list []string
	for _, l := range labels {
		if l.Name == model.MetricNameLabel {
			name = show(l, l.Value)
			continue
		}
		list = append(list, show(l, l.Name+"="+strconv.Quote(l.Value)))
	}
	return template.HTML(name + "{" + strings.Join(list, ", ") + "}")
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;").Replace(text)
}

// json returns the result as clients know it.
func (r *result) json() []byte {
	if r.Fault != "" {
		return []byte(`{"status": "error","error":` + quote(r.Fault) + `}`)
	}
	b := []byte(`{"status": "success","steps": [`)
	for i, s := range r.Steps {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"inLabels":`+quote(string(s.In))+`,"outLabels":`+quote(string(s.Out))+`,"rule":`+quote(s.Rule)+`,"errors": {}}`...)
	}
	b = append(b, ']')
	if r.Done {
		b = append(b, `,"originalLabels":`+quote(string(r.Before))+`,"resultingLabels":`+quote(string(r.After))...)
	}
	return append(b, '}')
}

// quote returns a JSON string, in which no tag of HTML begins.
func quote(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err) // a string is never refused
	}
	return strings.ReplaceAll(strings.TrimSuffix(b.String(), "\n"), "<", `\u003c`)
}

const page = `<!DOCTYPE html>
<title>Try out relabelling</title>
<style>
body { font-family: sans-serif; margin: 2em; }
table { border-collapse: collapse; }
td, th { border: 1px solid #ccc; padding: 0.4em; text-align: left; vertical-align: top; }
td, pre, textarea { font-family: monospace; }
pre { margin: 0; }
.fault { color: #b00; }
</style>
<h1>Try out relabelling{{if .Target}} of targets{{end}}</h1>
<form method="POST">
<p><label for="rules">Rules, as in the file of -relabelConfig:</label></p>
<p><textarea id="rules" name="relabel_configs" rows="15" cols="100">{{.Rules}}</textarea></p>
<p><label for="metric">Labels, such as <code>foo{bar="baz"}</code>:</label></p>
<p><textarea id="metric" name="metric" rows="3" cols="100">{{.Metric}}</textarea></p>
<p><button>Apply</button></p>
</form>
{{if .Fault}}<p class="fault">{{.Fault}}</p>{{end}}
{{if .Done}}
<table>
<tr><th>Step</th><th>Rule</th><th>Before</th><th>After</th></tr>
{{range $i, $s := .Steps}}<tr><td>{{$i}}</td><td><pre>{{$s.Rule}}</pre></td><td>{{$s.In}}</td><td>{{$s.Out}}</td></tr>
{{end}}
</table>
<p>Before all rules: <code>{{.Before}}</code></p>
<p>After all rules: <code>{{.After}}</code></p>
{{end}}
`
