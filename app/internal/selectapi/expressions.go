package selectapi

import (
	"html/template"
	"net/http"
	"strings"

	"vmcluster/app/internal/relabeldebug"
	"vmcluster/lib/metricsql"
)

// expandWith serves /expand-with-exprs: a query with its WITH templates put in place, as JSON with format=json, else as a page.
func (a *API) expandWith(w http.ResponseWriter, r *request) error {
	q := r.Form.Get("query")
	expanded, fault := "", ""
	switch result, err := metricsql.ExpandWith(q); {
	case q == "":
		fault = "query string cannot be empty"
	case err != nil:
		fault = "Cannot parse query: " + err.Error()
	default:
		expanded = result
	}
	if r.Form.Get("format") != "json" {
		return writeExpandPage(w, q, expanded, fault)
	}
	if fault != "" {
		return writeJSON(w, append(appendJSONString([]byte(`{"status": "error","error":`), fault), '}'))
	}
	return writeJSON(w, append(appendJSONString([]byte(`{"status": "success","expr":`), expanded), '}'))
}

const expandPage = `<!DOCTYPE html>
<title>Expand WITH expressions</title>
<h1>Expand WITH expressions</h1>
<form>
<p><label for="query">MetricsQL query with WITH templates:</label></p>
<p><textarea id="query" name="query" rows="10" cols="100">{{.Query}}</textarea></p>
<p><button>Expand</button></p>
</form>
{{if .Fault}}<p>{{.Fault}}</p>{{end}}{{if .Expanded}}<pre>{{.Expanded}}</pre>{{end}}
`

func writeExpandPage(w http.ResponseWriter, q, expanded, fault string) error {
	if q == "" {
		fault = "" // nothing was asked yet
	}
	page, err := template.New("expand").Parse(expandPage)
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := page.Execute(&b, struct{ Query, Expanded, Fault string }{q, expanded, fault}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write([]byte(b.String()))
	return clientGone(err)
}

// relabelDebug serves /metric-relabel-debug and /target-relabel-debug: what rules do to labels, as JSON with format=json, else as a page.
func relabelDebug(kind relabeldebug.Kind) serveFunc {
	return func(w http.ResponseWriter, r *request) error { return clientGone(relabeldebug.Serve(w, r.Form, kind)) }
}

// prettifyQuery serves /prettify-query: a query laid out for reading.
func (a *API) prettifyQuery(w http.ResponseWriter, r *request) error {
	pretty, err := metricsql.Prettify(r.Form.Get("query"))
	if err != nil {
		return writeJSON(w, append(appendJSONString([]byte(`{"status": "error", "msg": `), err.Error()), '}'))
	}
	return writeJSON(w, append(appendJSONString([]byte(`{"status": "success", "query": `), pretty), '}'))
}
