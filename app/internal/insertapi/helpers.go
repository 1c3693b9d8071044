package insertapi

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"

	"vmcluster/lib/invariants"
	"vmcluster/lib/metrics"
	"vmcluster/lib/protoparser"
)

// helper is the answer to what agents ask besides writing; it is always the same.
type helper struct {
	status      int // 0: the format is none of these
	contentType string
	body        string
}

// addHelpers registers what agents ask besides writing.
func (a *API) addHelpers(set *metrics.Set, databases []string) {
	const plain, json = "text/plain; charset=utf-8", "application/json"
	a.helpers[influxQuery] = helper{http.StatusOK, json, influxDatabases(databases)}
	a.helpers[influxHealth] = helper{http.StatusOK, plain, `{"name":"influxdb", "message":"ready for queries and writes", "status":"pass", "checks":[]}`}
	a.helpers[influxPing] = helper{status: http.StatusNoContent}
	a.helpers[newRelicRoot] = helper{http.StatusAccepted, json, statusOK}
	a.helpers[newRelicInventory] = helper{http.StatusAccepted, json, `{"payload":{"version": 1, "state": {}, "reset": "false"}}`}
	a.helpers[datadogValidate] = helper{http.StatusOK, json, `{"valid":true}`}
	a.helpers[datadogCheckRun] = helper{http.StatusAccepted, json, statusOK}
	a.helpers[datadogIntake] = helper{http.StatusOK, json, `{}`}
	a.helpers[datadogMetadata] = helper{http.StatusOK, json, `{}`}
	for f, h := range a.helpers {
		if h.status != 0 {
			requests, errors := requestCounters(a.style, format(f))
			a.routes[f] = route{requests: set.Counter(requests), errors: set.Counter(errors)}
		}
	}
}

// statusOK is the body that agents of New Relic and Datadog want to see.
const statusOK = `{"status":"ok"}`

// influxDatabases returns the answer to SHOW DATABASES.
func influxDatabases(names []string) string {
	if len(names) == 0 {
		names = []string{"_internal"} // clients take an empty list for a fault
	}
	values := [][]string{}
	for _, name := range names {
		values = append(values, []string{name})
	}
	type series struct {
		Name    string     `json:"name"`
		Columns []string   `json:"columns"`
		Values  [][]string `json:"values"`
	}
	type result struct {
		Statement int      `json:"statement_id"`
		Series    []series `json:"series"`
	}
	text, err := json.Marshal(map[string][]result{"results": {{Series: []series{{"databases", []string{"name"}, values}}}}})
	invariants.Check(err == nil, "cannot encode names of databases: %v", err)
	return string(text)
}

// handleHelper answers what agents ask besides writing; false when it is not such.
func (a *API) handleHelper(w http.ResponseWriter, r *http.Request, t *target) bool {
	switch t.format {
	case influxWrite, influxQuery, influxHealth, influxPing:
		w.Header().Set("X-Influxdb-Version", "1.8.0") // clients tell by it what they can ask for
	}
	h := &a.helpers[t.format]
	if h.status == 0 {
		return false
	}
	rt := &a.routes[t.format]
	rt.requests.Inc()
	if _, _, err := a.tenantOf(t, r.Header); err != nil {
		rt.errors.Inc()
		a.fail(w, r, err)
		return true
	}
	h.write(w)
	return true
}

func (h *helper) write(w http.ResponseWriter) {
	if h.contentType != "" {
		w.Header().Set("Content-Type", h.contentType)
	}
	w.WriteHeader(h.status)
	_, _ = io.WriteString(w, h.body) // the client may have gone
}

// readInfluxArgs takes from the request how its lines are to be read. As at Influx a precision that is none is left alone.
func readInfluxArgs(r *http.Request, args url.Values, req *protoparser.Request) {
	req.Database = args.Get("db")
	req.Stream = r.Header.Get("Stream-Mode") == "1"
	switch args.Get("precision") {
	case "n", "ns":
		req.Unit = time.Nanosecond
	case "u", "us", "µ", "µs":
		req.Unit = time.Microsecond
	case "ms":
		req.Unit = time.Millisecond
	case "s":
		req.Unit = time.Second
	case "m":
		req.Unit = time.Minute
	case "h":
		req.Unit = time.Hour
	}
}
