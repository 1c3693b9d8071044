package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

// TestMain lets the test binary be the floor server that Run starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "floor" {
		o := FloorOptions{Addr: strings.TrimPrefix(os.Args[2], "-addr="), Mode: strings.TrimPrefix(os.Args[3], "-mode=")}
		if err := ServeFloor(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// smallDataset generates a dataset of 3 hosts and 12 scrapes.
func smallDataset(t testing.TB, change func(*GenerateOptions)) (string, *Manifest) {
	t.Helper()
	o := DefaultGenerateOptions()
	o.Dir, o.Hosts, o.Scrapes, o.SamplesPerBody, o.Seed, o.End = t.TempDir(), 3, 12, 500, 7, 1795324981
	if change != nil {
		change(&o)
	}
	m, err := Generate(o)
	if err != nil {
		t.Fatal(err)
	}
	return o.Dir, m
}

// fakeDB is a database in memory which can be made to misbehave.
type fakeDB struct {
	*httptest.Server
	noExport bool                                    // as Prometheus
	refuse   func(n int) int                         // status of write request number n; nil is 204 always
	alter    func(prompb.Sample) (s []prompb.Sample) // what is kept of a sample; nil is all of it

	mu     sync.Mutex
	writes int
	order  []string // of series
	series map[string][]prompb.Sample
}

func newFakeDB(t testing.TB) *fakeDB {
	f := &fakeDB{series: map[string][]prompb.Sample{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(func() {
		f.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return f
}

func (f *fakeDB) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.URL.Path {
	case "/api/v1/write":
		f.writes++
		if f.refuse != nil {
			if status := f.refuse(f.writes - 1); status/100 != 2 {
				http.Error(w, "refused", status)
				return
			}
		}
		if err := f.write(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	case "/api/v1/export":
		if f.noExport {
			http.NotFound(w, r)
			return
		}
		f.read(w, r.URL.Query().Get("match[]"), "{\"metric\":%s,\"values\":[%s],\"timestamps\":[%s]}\n")
	case "/api/v1/query":
		selector, _, _ := strings.Cut(r.URL.Query().Get("query"), "[")
		var b strings.Builder
		f.read(&b, selector, "")
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[%s]}}`, strings.TrimSuffix(b.String(), ","))
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeDB) write(body io.Reader) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	raw, err := snappy.Decode(nil, data)
	if err != nil {
		return err
	}
	var d prompb.Decoder[prompb.Label]
	d.Reset(raw)
	for d.Next() {
		labels := map[string]string{}
		for _, l := range d.At().Labels {
			labels[strings.Clone(l.Name)] = strings.Clone(l.Value)
		}
		key, err := json.Marshal(labels)
		if err != nil {
			return err
		}
		if f.series[string(key)] == nil {
			f.order = append(f.order, string(key))
		}
		for _, s := range d.At().Samples {
			kept := []prompb.Sample{s}
			if f.alter != nil {
				kept = f.alter(s)
			}
			f.series[string(key)] = append(f.series[string(key)], kept...)
		}
	}
	return d.Err()
}

// read writes the series that a selector of a writer or of an instance means, as lines of an export or results of a query.
func (f *fakeDB) read(w io.Writer, selector, line string) {
	_, label, _ := strings.Cut(selector, `writer=`)
	part := `"writer":` + strings.TrimSuffix(label, "}")
	if _, instance, ok := strings.Cut(selector, `instance=~"`); ok {
		part = `"instance":"` + strings.TrimSuffix(instance, `.*"}`)
	}
	for _, key := range f.order {
		if !strings.Contains(key, part) || len(f.series[key]) == 0 {
			continue
		}
		var values, timestamps, pairs []string
		for _, s := range f.series[key] {
			value := strconv.FormatFloat(s.Value, 'g', -1, 64)
			pairs = append(pairs, fmt.Sprintf(`[%.3f,"%s"]`, float64(s.Timestamp)/1000, value))
			switch {
			case math.IsNaN(s.Value):
				value = "null"
			case math.IsInf(s.Value, 0):
				value = `"` + value + `"`
			}
			values, timestamps = append(values, value), append(timestamps, strconv.FormatInt(s.Timestamp, 10))
		}
		if line != "" {
			fmt.Fprintf(w, line, key, strings.Join(values, ","), strings.Join(timestamps, ","))
		} else {
			fmt.Fprintf(w, `{"metric":%s,"values":[%s]},`, key, strings.Join(pairs, ","))
		}
	}
}
