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
	"regexp"
	"strconv"
	"strings"

	"github.com/golang/snappy"

	"vmcluster/lib/prompb"
)

// exactSamples bounds how many samples are read back to be compared.
const exactSamples = 600_000

// Exactness is how what a server gives back of one host differs from what was sent.
type Exactness struct {
	Compared int     `json:"compared"` // numbers that were sent; NaNs are left out
	Missing  int     `json:"missing"`
	Unequal  int     `json:"unequal"` // other bits
	Extra    int     `json:"extra"`   // numbers at times at which none was sent
	MaxError float64 `json:"max_relative_error"`
	Example  string  `json:"example,omitempty"`
}

// OK reports whether every bit is as it was sent.
func (e *Exactness) OK() bool { return e.Compared > 0 && e.Missing+e.Unequal+e.Extra == 0 }

// note keeps the first example.
func (e *Exactness) note(format string, args ...any) {
	if e.Example == "" {
		e.Example = fmt.Sprintf(format, args...)
	}
}

// rawSamples are the numbers of series, by labels and Unix milliseconds.
type rawSamples map[string]map[int64]float64

func (r rawSamples) add(key string, timestampMs int64, value float64) {
	if math.IsNaN(value) {
		return // servers differ in what they do with it
	}
	if r[key] == nil {
		r[key] = map[int64]float64{}
	}
	r[key][timestampMs] = value
}

// checkExact reads back what was sent of the first host of a dataset, from its start, and compares it bit by bit.
func checkExact(ctx context.Context, readURL, dataset string) (*Exactness, error) {
	m, err := LoadManifest(dataset)
	if err != nil {
		return nil, err
	}
	perScrape := max(1, m.Active/max(1, m.Hosts))
	scrapes := min(m.Scrapes+1, max(1, exactSamples/perScrape))
	w := &sentWindow{untilMs: m.StartMs + int64(scrapes)*scrapeSeconds*1000, sent: rawSamples{}, shard: -1}
	if err := ReadBodies(dataset, w.take); err != nil && !errors.Is(err, errStop) {
		return nil, err
	}
	got, err := readRaw(ctx, readURL, fmt.Sprintf(`{instance=~%q}`, regexp.QuoteMeta(w.host)+":.*"), m.StartMs, w.untilMs-1)
	if err != nil {
		return nil, fmt.Errorf("cannot read back samples to compare: %w", err)
	}
	return compareRaw(w.sent, got, w.untilMs), nil
}

// sentWindow collects what a dataset has of its first host before a moment.
type sentWindow struct {
	untilMs int64
	sent    rawSamples
	host    string
	shard   int // of the host; -1 is not known yet
	decoder prompb.Decoder[prompb.Label]
	raw     []byte
}

// take takes a request. It returns errStop when there is no more to come.
func (w *sentWindow) take(b Body) error {
	if w.shard < 0 {
		w.shard = b.Shard
	}
	if b.Shard != w.shard {
		return nil
	}
	var err error
	if w.raw, err = snappy.Decode(w.raw[:cap(w.raw)], b.Data); err != nil {
		return fmt.Errorf("cannot decompress request: %w", err)
	}
	earliest := int64(math.MaxInt64)
	for w.decoder.Reset(w.raw); w.decoder.Next(); {
		s := w.decoder.At()
		earliest = min(earliest, s.Samples[0].Timestamp)
		w.keep(s)
	}
	if earliest > w.untilMs+2*scrapeSeconds*1000 { // hosts are scraped at different moments of an interval
		return errStop
	}
	return w.decoder.Err()
}

// keep keeps the samples of the host, which is that of the first series.
func (w *sentWindow) keep(s *prompb.TimeSeries[prompb.Label]) {
	labels := make(map[string]string, len(s.Labels))
	for _, l := range s.Labels {
		if l.Name == "instance" {
			name, _, _ := strings.Cut(l.Value, ":")
			if w.host == "" {
				w.host = strings.Clone(name)
			}
			if name != w.host {
				return
			}
		}
		labels[strings.Clone(l.Name)] = strings.Clone(l.Value)
	}
	key := seriesKey(labels)
	for _, sample := range s.Samples {
		if sample.Timestamp < w.untilMs {
			w.sent.add(key, sample.Timestamp, sample.Value)
		}
	}
}

// readRaw returns the stored numbers of a selector: by export, or by a query for raw samples from servers
// that have no export.
func readRaw(ctx context.Context, base, selector string, startMs, endMs int64) (rawSamples, error) {
	p := url.Values{"match[]": {selector}, "start": {decimalSeconds(startMs)}, "end": {decimalSeconds(endMs)}}
	data, err := httpGet(ctx, strings.TrimSuffix(base, "/")+"/api/v1/export?"+p.Encode())
	if err == nil {
		return parseRawExport(data)
	}
	var status *statusError
	if !errors.As(err, &status) || status.status != http.StatusNotFound {
		return nil, err
	}
	p = url.Values{"query": {fmt.Sprintf("%s[%dms]", selector, endMs-startMs+1)}, "time": {decimalSeconds(endMs)}}
	if data, err = httpGet(ctx, strings.TrimSuffix(base, "/")+"/api/v1/query?"+p.Encode()); err != nil {
		return nil, err
	}
	answer, err := (&QuerySpec{Type: "instant"}).parse(data)
	result := rawSamples{}
	for key, values := range answer {
		for t, v := range values {
			result.add(key, int64(math.Round(t*1000)), v)
		}
	}
	return result, err
}

func decimalSeconds(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// parseRawExport parses the JSON lines of /api/v1/export, in which what is no number is null or quoted, or, by
// VictoriaMetrics before 1.80, a bare NaN.
func parseRawExport(data []byte) (rawSamples, error) {
	result := rawSamples{}
	bareNaN := regexp.MustCompile(`([,\[])NaN`)
	for text := range bytes.Lines(data) {
		var line struct {
			Metric     map[string]string `json:"metric"`
			Values     []json.RawMessage `json:"values"`
			Timestamps []int64           `json:"timestamps"`
		}
		if at := bytes.LastIndex(text, []byte(`"values":[`)); at >= 0 {
			text = append(text[:at:at], bareNaN.ReplaceAll(text[at:], []byte("${1}null"))...)
		}
		if err := json.Unmarshal(text, &line); err != nil {
			return nil, fmt.Errorf("cannot parse export: %w", err)
		}
		if len(line.Values) != len(line.Timestamps) {
			return nil, fmt.Errorf("cannot parse export: %d values and %d timestamps of %v", len(line.Values), len(line.Timestamps), line.Metric)
		}
		key := seriesKey(line.Metric)
		for i, text := range line.Values {
			if string(text) == "null" {
				continue
			}
			v, err := strconv.ParseFloat(strings.Trim(string(text), `"`), 64)
			if err != nil {
				return nil, fmt.Errorf("cannot parse value of export: %w", err)
			}
			result.add(key, line.Timestamps[i], v)
		}
	}
	return result, nil
}

// compareRaw counts the differences before the given time.
func compareRaw(sent, got rawSamples, untilMs int64) *Exactness {
	e := &Exactness{}
	for key, samples := range sent {
		for t, want := range samples {
			e.Compared++
			v, ok := got[key][t]
			if !ok {
				e.Missing++
				e.note("%s at %d: missing", key, t)
				continue
			}
			e.compare(key, t, v, want)
		}
	}
	for key, samples := range got {
		for t := range samples {
			if _, ok := sent[key][t]; !ok && t < untilMs {
				e.Extra++
				e.note("%s at %d: never sent", key, t)
			}
		}
	}
	return e
}

func (e *Exactness) compare(key string, timestampMs int64, v, want float64) {
	if math.Float64bits(v) == math.Float64bits(want) {
		return
	}
	e.Unequal++
	e.note("%s at %d: %v instead of %v", key, timestampMs, v, want)
	if d := math.Abs(v-want) / max(math.Abs(v), math.Abs(want)); d < math.MaxFloat64 { // JSON holds no infinities
		e.MaxError = max(e.MaxError, d)
	}
}
