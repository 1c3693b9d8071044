package query

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"

	"vmcluster/lib/model"
)

// promAnswers holds random queries with the answers of Prometheus' engine. The program beside it
// makes it; its rules.go says which differences of the two languages the queries keep away from.
const promAnswers = "testdata/promoracle/answers.jsonl.gz"

var promAnswersFlag = flag.String("promanswers", promAnswers, "file of TestPrometheusAnswers, for answers to more queries than are kept")

type promStored struct {
	Labels map[string]string `json:"labels"`
	First  int64             `json:"first"`
	Values []float64         `json:"values"`
}

type promAnswer struct {
	Query  string `json:"query"`
	Start  int64  `json:"start"`
	End    int64  `json:"end"`
	Step   int64  `json:"step"`
	Series []struct {
		Labels map[string]string `json:"labels"`
		Index  []int64           `json:"index"`
		Values []float64         `json:"values"`
	} `json:"series"`
}

// TestPrometheusAnswers compares with what Prometheus' engine answers to random queries which mean the same in both languages.
func TestPrometheusAnswers(t *testing.T) {
	f, err := os.Open(*promAnswersFlag)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in := json.NewDecoder(bufio.NewReader(z))
	var stored []promStored
	if err := in.Decode(&stored); err != nil {
		t.Fatal(err)
	}
	source := newMemSource()
	for _, s := range stored {
		times := make([]int64, len(s.Values))
		for k := range times {
			times[k] = s.First + int64(k)*15_000
		}
		source.add(s.Labels, times, s.Values)
	}
	e := testEngine(t, source)
	queries, points, different := 0, 0, 0
	for {
		var a promAnswer
		if err := in.Decode(&a); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		queries++
		n, diff := a.compare(e)
		if points += n; diff != "" {
			if different++; different <= 20 {
				t.Errorf("%s from %d to %d step %d: %s", a.Query, a.Start, a.End, a.Step, diff)
			}
		}
	}
	t.Logf("%d queries with %d points, %d differ", queries, points, different)
	if queries < 300 || points < 3000 {
		t.Errorf("%d queries with %d points; want more", queries, points)
	}
}

// compare returns how many points were compared, and the first difference.
func (a *promAnswer) compare(e *Engine) (points int, diff string) {
	res, err := e.QueryRange(context.Background(), &Request{Query: a.Query, Start: a.Start, End: a.End, Step: a.Step, NoCache: true})
	if err != nil {
		if len(a.Series) == 0 && strings.Contains(err.Error(), "duplicate time series") {
			return 0, "" // Prometheus looks at duplicates of series which match others only
		}
		return 0, err.Error()
	}
	type point struct {
		labels string
		at     int64
	}
	want := map[point]float64{}
	for _, s := range a.Series {
		for k, v := range s.Values {
			want[point{labelKey(withoutName(s.Labels)), a.Start + s.Index[k]*a.Step}] = v
		}
	}
	points = len(want)
	for _, s := range res.Series {
		labels := labelKey(withoutName(labelMap(s.Labels)))
		for k, v := range s.Values {
			p := point{labels, s.Timestamps[k]}
			w, ok := want[p]
			if delete(want, p); !ok {
				return points, fmt.Sprintf("%s is %v at %d; want no point", labels, v, p.at)
			}
			if math.Abs(v-w) > 1e-9*max(math.Abs(v), math.Abs(w))+1e-8 {
				return points, fmt.Sprintf("%s is %v at %d; want %v", labels, v, p.at, w)
			}
		}
	}
	for p, w := range want {
		return points, fmt.Sprintf("%s has no point at %d; want %v", p.labels, p.at, w)
	}
	return points, ""
}

func withoutName(labels map[string]string) map[string]string {
	delete(labels, model.MetricNameLabel)
	return labels
}
