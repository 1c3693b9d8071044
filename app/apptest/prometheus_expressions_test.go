package apptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// promExpression is an entry of testdata/prometheus/expressions.txt, where the format is described.
type promExpression struct {
	line           int
	text           string
	same           bool
	tags           map[string]bool
	ours, theirs   string // for vmselect and Prometheus, when they differ from text
	why            string
	tagSeen        map[string]bool // tags which turned out to be needed
	differed, full bool            // the answers differed, or were not empty
}

// promMoment is a time, or a range of times, at which expressions are evaluated.
type promMoment struct {
	start, end, step int64 // ms; step is 0 for an instant
}

func (m promMoment) String() string {
	if m.step == 0 {
		return "time=" + seconds(m.start)
	}
	return fmt.Sprintf("start=%s end=%s step=%s", seconds(m.start), seconds(m.end), seconds(m.step))
}

// testExpressions evaluates the table on both sides.
func (p *promRun) testExpressions(t *testing.T) {
	list, err := parseExpressions(filepath.Join("testdata", "prometheus", "expressions.txt"))
	if err != nil {
		t.Fatal(err)
	}
	moments, middle := p.moments(t)
	t.Logf("%d expressions, evaluated at %v", len(list), moments)
	unit := int64(p.interval / time.Second)
	duration := func(n int64) string { return strconv.FormatInt(n*unit, 10) + "s" }
	replacer := strings.NewReplacer("$i", duration(1), "$w", duration(4), "$v", duration(8), "$t", seconds(middle))
	count := map[bool]int{}
	for _, e := range list {
		for _, text := range []*string{&e.text, &e.ours, &e.theirs} {
			*text = replacer.Replace(*text)
		}
		count[e.same]++
		p.checkExpression(t, e, moments)
	}
	t.Logf("%d expressions mean the same, %d do not", count[true], count[false])
	if count[true] < 100 {
		t.Errorf("only %d expressions are marked as the same; want 100", count[true])
	}
}

// moments chooses the times of evaluation: two instants and a range between the first and the last
// scrapes. None of them is a whole number of seconds away from a scrape, since this Prometheus counts
// a sample at the left edge of a window and MetricsQL does not. It returns the middle time too.
func (p *promRun) moments(t *testing.T) (list []promMoment, middle int64) {
	first, last, interval := int64(0), int64(math.MaxInt64), p.interval.Milliseconds()
	taken := [1000]bool{}
	taken[p.odd.firstMs.Load()%1000] = true
	for job, times := range p.scraped(t) {
		first, last = max(first, times[0]), min(last, times[len(times)-1])
		for i, ms := range times {
			taken[ms%1000] = true
			if i > 0 && ms-times[i-1] > longestGapMs(interval) {
				p.tooBusy(t, fmt.Sprintf("scrapes of %s were %d ms apart", job, ms-times[i-1]))
			}
		}
	}
	rest := freeResidue(taken)
	align := func(ms int64) int64 { return ms - (ms-rest)%1000 } // down
	step := interval
	if step > 1000 {
		step += 2000 // so that it is no multiple of the interval
	}
	start, end := align(first+11*interval), align(last-interval)
	middle = align(first + 15*interval)
	end -= (end - start) % step
	return []promMoment{{start: end}, {start: middle}, {start: start, end: end, step: step}}, middle
}

// longestGapMs is what a bare selector in a range query bridges, less a margin: 10s if scrapes are 5s
// apart, 5s if they are 1s apart.
func longestGapMs(intervalMs int64) int64 {
	if intervalMs == 1000 {
		return 4500
	}
	return 2*intervalMs - 500
}

// tooBusy gives up comparing answers whose differences would be right, but say nothing.
func (p *promRun) tooBusy(t *testing.T, why string) {
	if os.Getenv("VMCLUSTER_REQUIRE_PEERS") != "" {
		t.Fatalf("the machine is too busy to compare answers: %s", why)
	}
	t.Skipf("the machine is too busy to compare answers: %s", why)
}

// scraped returns the times of the scrapes in order, by job.
func (p *promRun) scraped(t *testing.T) map[string][]int64 {
	scraped := map[string][]int64{}
	for labels, list := range p.samples {
		m := parseLabels(t, labels)
		if m["__name__"] != "up" {
			continue
		}
		for _, s := range list {
			scraped[m["job"]] = append(scraped[m["job"]], s.ms)
			if s.bits == 0 && m["job"] != "leaving" {
				p.tooBusy(t, "a scrape of "+m["job"]+" failed")
			}
		}
	}
	if len(scraped) != 4 {
		t.Fatalf("Prometheus has `up` of %d jobs; want 4", len(scraped))
	}
	return scraped
}

// freeResidue returns the middle of the longest run of milliseconds at which no scrape took place.
func freeResidue(taken [1000]bool) int64 {
	best, bestLen, run := 0, 0, 0
	for i := range 2000 {
		if taken[i%1000] || i%1000 == 0 {
			run = 0
			continue
		}
		run++
		if run > bestLen {
			best, bestLen = i-run/2, run
		}
	}
	return int64(best % 1000)
}

func (p *promRun) checkExpression(t *testing.T, e *promExpression, moments []promMoment) {
	t.Helper()
	failed := 0
	for _, m := range moments {
		if e.tags["instant"] && m.step > 0 || e.tags["range"] && m.step == 0 {
			continue
		}
		if err := p.compareAt(e, m); err != nil {
			t.Errorf("expressions.txt:%d: %s\nat %s: %s", e.line, e.text, m, err)
			failed++
		}
	}
	if failed > 0 {
		return
	}
	for _, tag := range []string{"name", "nan", "scalar"} {
		if e.tags[tag] && !e.tagSeen[tag] {
			t.Errorf("expressions.txt:%d: %s: tag %q is not needed", e.line, e.text, tag)
		}
	}
	if !e.same && !e.differed {
		t.Errorf("expressions.txt:%d: %s: the answers are the same; want them to differ: %s", e.line, e.text, e.why)
	}
	if !e.full && !e.tags["empty"] && !e.tags["refused"] {
		t.Errorf("expressions.txt:%d: %s: all answers are empty, which compares nothing", e.line, e.text)
	}
}

// compareAt asks both sides at one moment.
func (p *promRun) compareAt(e *promExpression, m promMoment) error {
	theirs, err := p.evaluate(p.url, e.text, m)
	if err != nil {
		return fmt.Errorf("Prometheus: %w", err)
	}
	ours, err := p.evaluate(p.cluster.readURL("0"), e.text, m)
	if e.tags["refused"] {
		if err == nil {
			return errors.New("vmselect answers; want an error")
		}
		e.differed = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("vmselect: %w", err)
	}
	e.full = e.full || len(ours.series)+len(theirs.series) > 0
	if e.same {
		return e.compare(theirs, ours)
	}
	e.differed = e.differed || e.compare(theirs, ours) != nil
	if e.ours != "" {
		if ours, err = p.evaluate(p.cluster.readURL("0"), e.ours, m); err != nil {
			return fmt.Errorf("vmselect, %s: %w", e.ours, err)
		}
		if err := e.compare(theirs, ours); err != nil {
			return fmt.Errorf("vmselect was asked for %s: %w", e.ours, err)
		}
	}
	if e.theirs != "" {
		if ours, err = p.evaluate(p.cluster.readURL("0"), e.text, m); err != nil {
			return err
		}
		if theirs, err = p.evaluate(p.url, e.theirs, m); err != nil {
			return fmt.Errorf("Prometheus, %s: %w", e.theirs, err)
		}
		if err := e.compare(theirs, ours); err != nil {
			return fmt.Errorf("Prometheus was asked for %s: %w", e.theirs, err)
		}
	}
	return nil
}

// promAnswer is the answer to a query.
type promAnswer struct {
	kind   string // resultType
	order  []string
	series map[string][]promPoint // by labels in JSON
}

type promPoint struct {
	ms int64
	v  float64
}

func (p *promRun) evaluate(base, text string, m promMoment) (*promAnswer, error) {
	path, args := "/api/v1/query", []string{"query", text, "time", seconds(m.start), "nocache", "1", "latency_offset", "0s"}
	if m.step > 0 {
		path = "/api/v1/query_range"
		args = append(args, "start", seconds(m.start), "end", seconds(m.end), "step", seconds(m.step))
	}
	a, err := do(http.MethodGet, base+path+"?"+encode(args), nil)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, errors.New(a.String())
	}
	return parsePromAnswer(p.t, a)
}

func parsePromAnswer(t testing.TB, a answer) (*promAnswer, error) {
	var body struct {
		Status string
		Data   struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	parseJSON(t, a, &body)
	out := &promAnswer{kind: body.Data.ResultType, series: map[string][]promPoint{}}
	switch out.kind {
	case "string":
		return out, nil
	case "scalar":
		return out, out.add(t, map[string]string{}, body.Data.Result)
	}
	var list []struct {
		Metric map[string]string
		Value  json.RawMessage
		Values []json.RawMessage
	}
	if err := json.Unmarshal(body.Data.Result, &list); err != nil {
		return nil, fmt.Errorf("cannot parse result %.200s: %w", body.Data.Result, err)
	}
	for _, s := range list {
		if s.Value != nil {
			s.Values = append(s.Values, s.Value)
		}
		if err := out.add(t, s.Metric, s.Values...); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add adds a series whose points are written as [seconds,"value"].
func (a *promAnswer) add(t testing.TB, metric map[string]string, points ...json.RawMessage) error {
	labels := formatLabels(t, metric)
	if _, ok := a.series[labels]; ok {
		return fmt.Errorf("series %s comes twice", labels)
	}
	a.order = append(a.order, labels)
	for _, raw := range points {
		var sec float64
		var value string
		if err := json.Unmarshal(raw, &[]any{&sec, &value}); err != nil {
			return fmt.Errorf("cannot parse point %s of %s: %w", raw, labels, err)
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return fmt.Errorf("cannot parse value of point %s of %s: %w", raw, labels, err)
		}
		a.series[labels] = append(a.series[labels], promPoint{int64(math.Round(sec * 1000)), v})
	}
	return nil
}

// compare compares answers as far as the tags demand, and notes which tags are needed.
func (e *promExpression) compare(theirs, ours *promAnswer) error {
	if theirs.kind != ours.kind {
		if !e.tags["scalar"] || theirs.kind != "scalar" || ours.kind != "vector" {
			return fmt.Errorf("the result of Prometheus is a %s, that of vmselect a %s", theirs.kind, ours.kind)
		}
		e.tagSeen["scalar"] = true
	}
	if e.tags["nan"] {
		var dropped bool
		if theirs, dropped = theirs.withoutNaN(); dropped {
			e.tagSeen["nan"] = true
		}
	}
	if e.tags["name"] {
		without, dropped, err := ours.withoutName()
		if err != nil {
			return err
		}
		if _, named, _ := theirs.withoutName(); dropped && !named {
			e.tagSeen["name"] = true
		}
		ours = without
	}
	if e.tags["order"] && !slices.Equal(theirs.order, ours.order) {
		return fmt.Errorf("the order is %s; want %s", ours.order, theirs.order)
	}
	return compareSeries(theirs.series, ours.series)
}

func compareSeries(want, got map[string][]promPoint) error {
	var errs []error
	for labels, points := range want {
		if _, ok := got[labels]; !ok {
			errs = append(errs, fmt.Errorf("vmselect lacks %s %v", labels, points))
		} else if err := comparePoints(points, got[labels]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w\n  Prometheus %v\n  vmselect   %v", labels, err, points, got[labels]))
		}
	}
	for labels, points := range got {
		if _, ok := want[labels]; !ok {
			errs = append(errs, fmt.Errorf("vmselect has in addition %s %v", labels, points))
		}
	}
	if len(errs) > 3 {
		errs = append(errs[:3], fmt.Errorf("... and %d more", len(errs)-3))
	}
	return errors.Join(errs...)
}

func comparePoints(want, got []promPoint) error {
	if len(want) != len(got) {
		return fmt.Errorf("got %d points; want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.ms != w.ms {
			return fmt.Errorf("point %d is at %d; want %d", i, g.ms, w.ms)
		}
		if !closeTo(w.v, g.v) {
			return fmt.Errorf("at %d: got %v; want %v", w.ms, g.v, w.v)
		}
	}
	return nil
}

// closeTo allows for sums in another order: a relative error of 1e-9.
func closeTo(a, b float64) bool {
	const tolerance = 1e-9
	if a == b || math.IsNaN(a) && math.IsNaN(b) {
		return true
	}
	return math.Abs(a-b) <= tolerance*max(math.Abs(a), math.Abs(b)) && !math.IsInf(a, 0) && !math.IsInf(b, 0)
}

// withoutNaN drops NaN points and the series which then have none.
func (a *promAnswer) withoutNaN() (*promAnswer, bool) {
	out := &promAnswer{kind: a.kind, series: map[string][]promPoint{}}
	dropped := false
	for _, labels := range a.order {
		var points []promPoint
		for _, p := range a.series[labels] {
			if math.IsNaN(p.v) {
				dropped = true
				continue
			}
			points = append(points, p)
		}
		if len(points) > 0 {
			out.order = append(out.order, labels)
			out.series[labels] = points
		}
	}
	return out, dropped
}

// withoutName drops the metric names.
func (a *promAnswer) withoutName() (*promAnswer, bool, error) {
	out := &promAnswer{kind: a.kind, series: map[string][]promPoint{}}
	dropped := false
	for _, labels := range a.order {
		m := map[string]string{}
		if err := json.Unmarshal([]byte(labels), &m); err != nil {
			return nil, false, err
		}
		if m["__name__"] != "" {
			delete(m, "__name__")
			dropped = true
		}
		rest, err := json.Marshal(m)
		if err != nil {
			return nil, false, err
		}
		if _, ok := out.series[string(rest)]; ok {
			return nil, false, fmt.Errorf("two series are %s without name", rest)
		}
		out.order = append(out.order, string(rest))
		out.series[string(rest)] = a.series[labels]
	}
	return out, dropped, nil
}

// parseExpressions reads the table.
func parseExpressions(file string) ([]*promExpression, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list []*promExpression
	for i, line := range strings.Split(string(data), "\n") {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		head, text, ok := strings.Cut(line, ":")
		text = strings.TrimSpace(text)
		indented := strings.HasPrefix(head, " ")
		if !ok || text == "" || indented && len(list) == 0 {
			return nil, fmt.Errorf("%s:%d: want `word: text`", file, i+1)
		}
		words := strings.Fields(head)
		if !indented {
			list = append(list, &promExpression{line: i + 1, text: text, same: words[0] == "same", tags: map[string]bool{}, tagSeen: map[string]bool{}})
		}
		if err := list[len(list)-1].set(words, text); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	for _, e := range list {
		if e.same == (e.why != "") {
			return nil, fmt.Errorf("%s:%d: %s: want a reason for a difference, and only there", file, e.line, e.text)
		}
	}
	return list, nil
}

// set takes the words before the colon.
func (e *promExpression) set(words []string, text string) error {
	switch words[0] {
	case "ours":
		e.ours = text
	case "theirs":
		e.theirs = text
	case "why":
		e.why = text
	case "same", "differs":
		for _, tag := range words[1:] {
			if !slices.Contains([]string{"name", "nan", "scalar", "order", "instant", "range", "empty", "refused"}, tag) {
				return fmt.Errorf("unknown tag %q", tag)
			}
			e.tags[tag] = true
		}
	default:
		return fmt.Errorf("unknown word %q", words[0])
	}
	return nil
}

func formatLabels(t testing.TB, labels map[string]string) string {
	t.Helper()
	text, err := json.Marshal(labels)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parseLabels(t testing.TB, text string) map[string]string {
	t.Helper()
	m := map[string]string{}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func parseJSON(t testing.TB, a answer, dst any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), dst); err != nil {
		t.Fatalf("cannot parse answer %s: %s", a, err)
	}
}
