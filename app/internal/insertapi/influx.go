package insertapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"vmcluster/lib/invariants"
	"vmcluster/lib/metrics"
	"vmcluster/lib/protoparser"
)

// addInfluxHelpers registers what Influx clients ask besides writing.
func (a *API) addInfluxHelpers(set *metrics.Set, databases []string) {
	for _, f := range []format{influxQuery, influxHealth, influxPing} {
		requests, errors := requestCounters(a.style, f)
		a.routes[f] = route{requests: set.Counter(requests), errors: set.Counter(errors)}
	}
	if len(databases) == 0 {
		databases = []string{"_internal"} // clients take an empty list for a fault
	}
	values := [][]string{}
	for _, name := range databases {
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
	var err error
	a.databases, err = json.Marshal(map[string][]result{"results": {{Series: []series{{"databases", []string{"name"}, values}}}}})
	invariants.Check(err == nil, "cannot encode names of databases: %v", err)
}

// handleInflux answers what Influx clients ask besides writing; false when it is not such.
func (a *API) handleInflux(w http.ResponseWriter, r *http.Request, t *target) bool {
	switch t.format {
	case influxWrite, influxQuery, influxHealth, influxPing:
		w.Header().Set("X-Influxdb-Version", "1.8.0") // clients tell by it what they can ask for
	default:
		return false
	}
	if t.format == influxWrite {
		return false
	}
	rt := &a.routes[t.format]
	rt.requests.Inc()
	if _, _, err := a.tenantOf(t, r.Header); err != nil {
		rt.errors.Inc()
		a.fail(w, r, err)
		return true
	}
	var answer []byte
	switch t.format {
	case influxQuery:
		w.Header().Set("Content-Type", "application/json")
		answer = a.databases
	case influxHealth:
		answer = []byte(`{"name":"influxdb", "message":"ready for queries and writes", "status":"pass", "checks":[]}`)
	default:
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	_, _ = w.Write(answer) // the client has gone
	return true
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
