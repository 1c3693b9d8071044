package bench

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

//archtest:allow variable go:embed fills variables only; nothing writes to it
//go:embed queries.json
var defaultQueries []byte

// QuerySpec is one entry of a query list. Times are relative to the end of the
// dataset; a range longer than the dataset is cut to the dataset's start.
type QuerySpec struct {
	Name  string `json:"name"`
	Type  string `json:"type"`  // instant, range, series, labels or values
	Query string `json:"query"` // the expression or the selector
	Label string `json:"label"` // for values
	Range string `json:"range"` // for all but instant
	Step  string `json:"step"`  // for range
}

// LoadQueries reads a query list; the built-in one when path is empty.
func LoadQueries(path string) ([]QuerySpec, error) {
	data := defaultQueries
	if path != "" {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("cannot read query list: %w", err)
		}
	}
	var specs []QuerySpec
	if err := json.Unmarshal(data, &specs); err != nil {
		return nil, fmt.Errorf("cannot parse query list %q: %w", path, err)
	}
	return specs, nil
}

// QueryOptions say what to ask whom.
type QueryOptions struct {
	Dataset   string
	Queries   string
	URL       string
	Compare   string // URL of a second server
	Tolerance float64
	Rounds    int
	Cache     bool
	PIDs      []int // of the server
	Front     []int // those of them whose CPU time is told apart, too: of a cluster vmselect
}

// RegisterFlags registers the flags of `vmbench query`, but for the process ids.
func (o *QueryOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Dataset, "dataset", "", "folder of the dataset, for its time range")
	fs.StringVar(&o.Queries, "queries", "", "query list in JSON; empty is the built-in one")
	fs.StringVar(&o.URL, "url", "", "URL before /api/v1, such as http://localhost:8481/select/0/prometheus")
	fs.StringVar(&o.Compare, "compare", "", "URL before /api/v1 of a second server; compares the answers instead of timing them")
	fs.Float64Var(&o.Tolerance, "tolerance", 1e-9, "relative difference of values that -compare accepts")
	fs.IntVar(&o.Rounds, "n", 7, "rounds, after a first one that is reported apart")
	fs.BoolVar(&o.Cache, "cache", false, "let the server use its result cache")
}

// request returns the path and the parameters of the query.
func (q *QuerySpec) request(m *Manifest, nocache bool) (string, url.Values, error) {
	end := m.EndMs / 1000
	p := url.Values{}
	if nocache {
		p.Set("nocache", "1")
	}
	if q.Type == "instant" {
		p.Set("query", q.Query)
		p.Set("time", strconv.FormatInt(end, 10))
		return "/api/v1/query", p, nil
	}
	window, err := time.ParseDuration(q.Range)
	if err != nil {
		return "", nil, fmt.Errorf("cannot parse range of query %q: %w", q.Name, err)
	}
	p.Set("start", strconv.FormatInt(max(end-int64(window.Seconds()), m.StartMs/1000), 10))
	p.Set("end", strconv.FormatInt(end, 10))
	if q.Type == "range" {
		p.Set("query", q.Query)
		p.Set("step", q.Step)
		return "/api/v1/query_range", p, nil
	}
	if q.Query != "" {
		p.Set("match[]", q.Query)
	}
	switch q.Type {
	case "series":
		return "/api/v1/series", p, nil
	case "labels":
		return "/api/v1/labels", p, nil
	case "values":
		return "/api/v1/label/" + q.Label + "/values", p, nil
	}
	return "", nil, fmt.Errorf("cannot run query %q: its type %q is none of instant, range, series, labels and values", q.Name, q.Type)
}

// fetch runs the query and returns the raw answer and its latency.
func (q *QuerySpec) fetch(ctx context.Context, base string, m *Manifest, nocache bool) ([]byte, time.Duration, error) {
	path, params, err := q.request(m, nocache)
	if err != nil {
		return nil, 0, err
	}
	start := time.Now()
	data, err := httpGet(ctx, strings.TrimSuffix(base, "/")+path+"?"+params.Encode())
	return data, time.Since(start), err
}

// statusError is an answer of another status than 2xx.
type statusError struct {
	status int
	body   []byte
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the server answered status %d: %.300s", e.status, e.body)
}

// httpGet returns the body of an answer 2xx.
func httpGet(ctx context.Context, target string) ([]byte, error) {
	return httpDo(ctx, http.MethodGet, target)
}

func httpDo(ctx context.Context, method, target string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = &statusError{resp.StatusCode, data}
	}
	return data, err
}

// points maps a series, or a label value, to its values by timestamp.
type points map[string]map[float64]float64

// parse turns an answer into points.
func (q *QuerySpec) parse(data []byte) (points, error) {
	var a struct {
		Status string          `json:"status"`
		Error  string          `json:"error"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("cannot parse answer: %w", err)
	}
	if a.Status != "success" {
		return nil, fmt.Errorf("the server answered %q: %s", a.Status, a.Error)
	}
	result := points{}
	switch q.Type {
	case "labels", "values":
		var list []string
		err := json.Unmarshal(a.Data, &list)
		for _, s := range list {
			result[s] = nil
		}
		return result, err
	case "series":
		var list []map[string]string
		err := json.Unmarshal(a.Data, &list)
		for _, s := range list {
			result[seriesKey(s)] = nil
		}
		return result, err
	}
	return result, result.addResult(a.Data)
}

// addResult adds the data of an answer to an instant or range query.
func (p points) addResult(data []byte) error {
	var d struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
			Values [][2]any
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return fmt.Errorf("cannot parse result: %w", err)
	}
	for _, r := range d.Result {
		if r.Value[0] != nil {
			r.Values = append(r.Values, r.Value)
		}
		values := map[float64]float64{}
		for _, v := range r.Values {
			t, okTime := v[0].(float64)
			s, okValue := v[1].(string)
			f, err := strconv.ParseFloat(s, 64)
			if err != nil || !okTime || !okValue {
				return fmt.Errorf("cannot parse point %v", v)
			}
			values[t] = f
		}
		p[seriesKey(r.Metric)] = values
	}
	return nil
}

func seriesKey(labels map[string]string) string {
	var parts []string
	for name, value := range labels {
		parts = append(parts, name+"="+strconv.Quote(value))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// QueryResult is the cost of one query.
type QueryResult struct {
	Name     string  `json:"name"`
	Error    string  `json:"error,omitempty"`
	FirstMs  float64 `json:"first_ms"`
	MedianMs float64 `json:"median_ms"`
	P90Ms    float64 `json:"p90_ms"`
	CPUMs    float64 `json:"cpu_ms"` // of the servers, per run
	FrontMs  float64 `json:"front_cpu_ms,omitempty"`
	Series   int     `json:"series"`
	Points   int     `json:"points"`
	Bytes    int     `json:"bytes"`
}

// QueryResults is the cost of a query list.
type QueryResults struct {
	SumMedianMs   float64       `json:"sum_median_ms"`
	CPUMsPerRound float64       `json:"cpu_ms_per_round"`
	Errors        int           `json:"errors"`
	After         Usage         `json:"after"`
	Queries       []QueryResult `json:"queries,omitempty"`
}

// RunQueries times a query list. It calls each, if that is not nil, after each query.
func RunQueries(ctx context.Context, o QueryOptions, each func(*QueryResult) error) (*QueryResults, error) {
	m, specs, err := o.load()
	if err != nil {
		return nil, err
	}
	ResetPeaks(o.PIDs)
	var res QueryResults
	for i := range specs {
		r := specs[i].measure(ctx, &o, m)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.Error != "" {
			res.Errors++
		}
		res.SumMedianMs, res.CPUMsPerRound = res.SumMedianMs+r.MedianMs, res.CPUMsPerRound+r.CPUMs
		res.Queries = append(res.Queries, r)
		if each == nil {
			continue
		}
		if err := each(&r); err != nil {
			return nil, err
		}
	}
	res.After, err = ReadUsage(o.PIDs)
	return &res, err
}

func (o *QueryOptions) load() (*Manifest, []QuerySpec, error) {
	if o.Dataset == "" || o.URL == "" || o.Rounds < 0 {
		return nil, nil, errors.New("cannot query: give -dataset, -url and no negative number of rounds")
	}
	m, err := LoadManifest(o.Dataset)
	if err != nil {
		return nil, nil, err
	}
	specs, err := LoadQueries(o.Queries)
	return m, specs, err
}

// measure runs the query once more than there are rounds.
func (q *QuerySpec) measure(ctx context.Context, o *QueryOptions, m *Manifest) QueryResult {
	r := QueryResult{Name: q.Name}
	if err := q.measureTo(ctx, o, m, &r); err != nil {
		r.Error = err.Error()
	}
	return r
}

// cpu returns the CPU time of the servers so far, and that of the front ones.
func (o *QueryOptions) cpu() (all, front float64, err error) {
	if all, err = cpuMillis(o.PIDs); err == nil {
		front, err = cpuMillis(o.Front)
	}
	return all, front, err
}

func (q *QuerySpec) measureTo(ctx context.Context, o *QueryOptions, m *Manifest, r *QueryResult) error {
	before, frontBefore, err := o.cpu()
	if err != nil {
		return err
	}
	data, took, err := q.fetch(ctx, o.URL, m, !o.Cache)
	if err != nil {
		return err
	}
	r.FirstMs, r.Bytes = milliseconds(took), len(data)
	var latencies []float64
	for range o.Rounds {
		_, took, err := q.fetch(ctx, o.URL, m, !o.Cache)
		if err != nil {
			return err
		}
		latencies = append(latencies, milliseconds(took))
	}
	after, frontAfter, err := o.cpu()
	if err != nil {
		return err
	}
	r.MedianMs, r.P90Ms = quantile(latencies, 0.5), quantile(latencies, 0.9)
	r.CPUMs, r.FrontMs = max(0, after-before)/float64(o.Rounds+1), max(0, frontAfter-frontBefore)/float64(o.Rounds+1)
	result, err := q.parse(data)
	if err != nil {
		return err
	}
	r.Series = len(result)
	for _, values := range result {
		r.Points += len(values)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
