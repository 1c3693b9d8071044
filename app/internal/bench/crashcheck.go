package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/prompb"
)

// maxExamples bounds what is reported of lost and wrong samples.
const maxExamples = 10

// check reads everything back, again and again until nothing is missing or the time is over: a
// cluster needs a moment to reconnect.
func (w *crashWriters) check(ctx context.Context, res *CrashResult) error {
	deadline := time.Now().Add(w.opts.ReadTimeout)
	for {
		found := &crashCheck{writers: w}
		err := found.readAll(ctx)
		late := time.Now().After(deadline)
		if err == nil && (found.lost == 0 || late) {
			res.Found, res.Lost, res.Wrong = found.found, found.lost, found.wrong
			res.FoundRefused, res.Duplicates, res.Examples = found.refused, found.duplicates, found.examples
			return nil
		}
		if err != nil && late {
			return fmt.Errorf("cannot read back from %s: %w", w.victim.readURL(), err)
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
}

// crashCheck is one pass over everything that was read back.
type crashCheck struct {
	writers                                 *crashWriters
	found, lost, wrong, refused, duplicates int64
	examples                                []string
}

func (c *crashCheck) note(format string, args ...any) {
	if len(c.examples) < maxExamples {
		c.examples = append(c.examples, fmt.Sprintf(format, args...))
	}
}

// readAll reads writer by writer, which bounds the memory.
func (c *crashCheck) readAll(ctx context.Context) error {
	for i := range c.writers.writers {
		series, err := c.writers.read(ctx, i)
		if err != nil {
			return err
		}
		for s := range c.writers.opts.Series {
			c.checkSeries(i, s, series[strconv.Itoa(s)])
			delete(series, strconv.Itoa(s))
		}
		for name, samples := range series {
			c.wrong += int64(len(samples))
			c.note("%d samples of series %q of writer %d, which was never written", len(samples), name, i)
		}
	}
	return nil
}

// checkSeries compares one series with what was written.
func (c *crashCheck) checkSeries(writer, series int, samples []prompb.Sample) {
	acked := c.writers.writers[writer].acked
	seen := make([]bool, len(acked))
	for _, s := range samples {
		offset := s.Timestamp - c.writers.startMs
		r := int(offset / crashStepMs)
		if offset < 0 || offset%crashStepMs != 0 || r >= len(acked) {
			c.wrong++
			c.note("writer %d, series %d: a sample at %d, where none was written", writer, series, s.Timestamp)
			continue
		}
		if want := crashValue(writer, r, series); math.Float64bits(want) != math.Float64bits(s.Value) {
			c.wrong++
			c.note("writer %d, series %d, request %d: value %v instead of %v", writer, series, r, s.Value, want)
			seen[r] = true // neither found nor lost
			continue
		}
		switch {
		case seen[r]:
			c.duplicates++
		case acked[r]:
			c.found++
		default:
			c.refused++
		}
		seen[r] = true
	}
	for r, ok := range acked {
		if ok && !seen[r] {
			c.lost++
			c.note("writer %d, series %d, request %d: acknowledged, and not there", writer, series, r)
		}
	}
}

// read returns the samples of a writer by the value of the label series: by export, or by a query for raw
// samples from servers that have no export.
func (w *crashWriters) read(ctx context.Context, writer int) (map[string][]prompb.Sample, error) {
	selector := fmt.Sprintf(`vmbench_crash{run=%q,writer="%d"}`, w.run, writer)
	endMs := w.startMs + int64(len(w.writers[writer].acked)+1)*crashStepMs
	p := url.Values{"match[]": {selector}, "start": {strconv.FormatInt(w.startMs/1000-1, 10)}, "end": {strconv.FormatInt(endMs/1000, 10)}}
	base := strings.TrimSuffix(w.victim.readURL(), "/")
	data, err := httpGet(ctx, base+"/api/v1/export?"+p.Encode())
	if err == nil {
		return parseExport(data)
	}
	var status *statusError
	if !errors.As(err, &status) || status.status != http.StatusNotFound {
		return nil, err
	}
	window := (endMs-w.startMs)/1000 + 2
	p = url.Values{"query": {fmt.Sprintf("%s[%ds]", selector, window)}, "time": {strconv.FormatInt(endMs/1000, 10)}}
	if data, err = httpGet(ctx, base+"/api/v1/query?"+p.Encode()); err != nil {
		return nil, err
	}
	return parseRaw(data)
}

// parseExport parses the JSON lines of /api/v1/export.
func parseExport(data []byte) (map[string][]prompb.Sample, error) {
	series := map[string][]prompb.Sample{}
	for dec := json.NewDecoder(bytes.NewReader(data)); dec.More(); {
		var line struct {
			Metric     map[string]string `json:"metric"`
			Values     []json.Number     `json:"values"` // all ours are finite
			Timestamps []int64           `json:"timestamps"`
		}
		if err := dec.Decode(&line); err != nil {
			return nil, fmt.Errorf("cannot parse export: %w", err)
		}
		if len(line.Values) != len(line.Timestamps) {
			return nil, fmt.Errorf("cannot parse export: %d values and %d timestamps of %v", len(line.Values), len(line.Timestamps), line.Metric)
		}
		name := line.Metric["series"]
		for i, v := range line.Values {
			f, err := v.Float64()
			if err != nil {
				return nil, fmt.Errorf("cannot parse value of export: %w", err)
			}
			series[name] = append(series[name], prompb.Sample{Timestamp: line.Timestamps[i], Value: f})
		}
	}
	return series, nil
}

// parseRaw parses the answer to an instant query for a range.
func parseRaw(data []byte) (map[string][]prompb.Sample, error) {
	var a struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("cannot parse answer: %w", err)
	}
	series := map[string][]prompb.Sample{}
	for _, r := range a.Data.Result {
		name := r.Metric["series"]
		for _, v := range r.Values {
			t, okTime := v[0].(float64)
			s, okValue := v[1].(string)
			f, err := strconv.ParseFloat(s, 64)
			if err != nil || !okTime || !okValue {
				return nil, fmt.Errorf("cannot parse point %v", v)
			}
			series[name] = append(series[name], prompb.Sample{Timestamp: int64(math.Round(t * 1000)), Value: f})
		}
	}
	return series, nil
}
