package protoparser_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang/snappy"
	"google.golang.org/protobuf/encoding/protowire"

	"vmcluster/lib/logger"
	"vmcluster/lib/memory"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/prompb"
	"vmcluster/lib/protoparser"
	"vmcluster/lib/protoparser/exposition"
	"vmcluster/lib/protoparser/graphite"
	"vmcluster/lib/protoparser/influx"
	"vmcluster/lib/protoparser/jsonline"
	"vmcluster/lib/protoparser/opentsdb"
	"vmcluster/lib/protoparser/opentsdbhttp"
	"vmcluster/lib/protoparser/otlp"
	"vmcluster/lib/protoparser/remotewrite"
)

// pipeline is an intake with a parser of each format.
type pipeline struct {
	intake *protoparser.Intake
	set    *metrics.Set
	parse  []func(*protoparser.Request) (protoparser.Result, error)
	clock  atomic.Int64 // Unix seconds

	mu     sync.Mutex
	spaces map[*model.Space]*spaceCheck
}

func newPipeline(maxSeries int, budget *memory.Budget) *pipeline {
	var c protoparser.Config
	c.RegisterFlags(flag.NewFlagSet("test", flag.ContinueOnError))
	c.MaxLabelsPerSeries, c.MaxLabelValueLen = 8, 30
	set := metrics.NewSet()
	p := &pipeline{set: set, spaces: map[*model.Space]*spaceCheck{}}
	p.intake = protoparser.New(protoparser.Options{Config: &c, Logger: logger.Discard(), Metrics: set, Budget: budget})
	p.intake.SetNumbering(maxSeries, time.Hour, func() time.Time { return time.Unix(p.clock.Load(), 0) })
	p.parse = append(p.parse, remotewrite.New(p.intake).Parse, exposition.New(p.intake).Parse, jsonline.New(p.intake).Parse)
	p.parse = append(p.parse, influx.New(p.intake, influx.Config{Separator: "_", SkipSingleField: true, DatabaseLabel: "env", MaxLineSize: 1 << 20, MaxRequestSize: 1 << 20}).Parse)
	p.parse = append(p.parse, graphite.New(p.intake, graphite.Config{SanitizeNames: true}).Parse, opentsdb.New(p.intake, opentsdb.Config{}).Parse)
	p.parse = append(p.parse, opentsdbhttp.New(p.intake, opentsdbhttp.Config{MaxRequestSize: 1 << 20}).Parse)
	p.parse = append(p.parse, otlp.New(p.intake, otlp.Config{MaxRequestSize: 1 << 20, PromoteAll: true, PromoteScope: true, Ignore: []string{"a"}}).Parse)
	return p
}

// spaceCheck knows the keys of the numbers of a space.
type spaceCheck struct {
	mu    sync.Mutex
	keys  map[uint32]string
	users int
	ended bool
	fault string
}

func (c *spaceCheck) Detach() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users > 0 {
		c.fault = "a space ended while a batch used it"
	}
	c.ended = true
}

// sink gathers rows and checks numbers. It asks for some keys before the others and in two goroutines at once, as nodes do.
type sink struct {
	p       *pipeline
	rng     *rand.Rand
	rows    []string
	known   int
	batches int
}

func (s *sink) take(b *model.Batch) error {
	s.batches++
	var check *spaceCheck
	if b.Space() != nil {
		check = b.Space().Attach("check", func() model.Attachment { return &spaceCheck{keys: map[uint32]string{}} }).(*spaceCheck)
		s.p.mu.Lock()
		s.p.spaces[b.Space()] = check
		s.p.mu.Unlock()
		check.mu.Lock()
		check.users++
		check.mu.Unlock()
		defer func() {
			check.mu.Lock()
			check.users--
			check.mu.Unlock()
		}()
	}
	var halves [2]model.Batch
	for i := range b.Len() {
		halves[i%2].Append(b, i)
	}
	var wg sync.WaitGroup
	for i := range halves {
		wg.Go(func() {
			for j := range halves[i].Len() {
				halves[i].Key(j)
			}
		})
	}
	wg.Wait()
	for i := range b.Len() {
		half := &halves[i%2]
		key := half.Key(i / 2)
		if b.Hash(i) != model.HashSeriesKey(key) || half.Hash(i/2) != b.Hash(i) || !bytes.Equal(b.Key(i), key) {
			return fmt.Errorf("series %d has hash %#x and keys %q, %q", i, b.Hash(i), key, b.Key(i))
		}
		if n := b.Number(i); n != model.NoNumber {
			s.known++
			check.mu.Lock()
			if old, ok := check.keys[n]; ok && old != string(key) {
				check.fault = fmt.Sprintf("number %d is %q and %q", n, old, key)
			}
			check.keys[n] = string(key)
			check.mu.Unlock()
		}
		name := model.SeriesKeyString(key)
		for _, x := range b.Samples(i) {
			s.rows = append(s.rows, name+"@"+strconv.FormatInt(x.Timestamp, 10)+"="+strconv.FormatFloat(x.Value, 'g', -1, 64))
		}
	}
	return nil
}

// randomLabels makes label sets out of a small world, some of which break a rule.
func randomLabels(rng *rand.Rand, world int) []model.Label {
	l := []model.Label{{Name: "__name__", Value: "m"}, {Name: "i", Value: strconv.Itoa(rng.IntN(world))}, {Name: "env", Value: "x\\\"}{,\n"[:rng.IntN(8)]}}
	switch rng.IntN(12) {
	case 0:
		l = append(l, model.Label{Name: "i", Value: "twice"})
	case 1:
		l = l[1:]
	case 2:
		l = append(l, model.Label{Name: "long", Value: strings.Repeat("x", 40)})
	case 3:
		for i := range 10 {
			l = append(l, model.Label{Name: "many" + strconv.Itoa(i), Value: "x"})
		}
	case 4:
		l = append(l, model.Label{Name: "", Value: "x"})
	case 5:
		l = append(l, model.Label{Name: "vm_account_id", Value: strconv.Itoa(rng.IntN(3))})
	}
	rng.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	return l
}

func appendRemoteWrite(rng *rand.Rand, dst []byte, labels []model.Label, samples []prompb.Sample) []byte {
	s := prompb.TimeSeries[model.Label]{Labels: labels, Samples: samples}
	if rng.IntN(6) > 0 {
		return prompb.AppendTimeSeries(dst, &s)
	}
	// Samples first, or in the middle of the labels.
	cut := rng.IntN(len(labels) + 1)
	var message []byte
	for _, part := range []prompb.TimeSeries[model.Label]{{Labels: labels[:cut]}, {Samples: samples}, {Labels: labels[cut:]}} {
		one := prompb.AppendTimeSeries(nil, &part)
		_, n := binary.Uvarint(one[1:])
		message = append(message, one[1+n:]...)
	}
	return append(binary.AppendUvarint(append(dst, 0x0a), uint64(len(message))), message...)
}

func appendText(rng *rand.Rand, dst []byte, labels []model.Label, samples []prompb.Sample) []byte {
	for _, s := range samples {
		name, rest := "", ""
		for _, l := range labels {
			if l.Name == "__name__" {
				name = l.Value
				continue
			}
			value := strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "\n", "\\n").Replace(l.Value)
			rest += fmt.Sprintf("%s=\"%s\",", l.Name, value)
		}
		dst = fmt.Appendf(dst, "%s%s{%s} %v %d\n", name, []string{"", "", " "}[rng.IntN(3)], rest, s.Value, s.Timestamp)
		if rng.IntN(10) == 0 {
			dst = append(dst, []string{"bad{\n", "m{i=\"1\",} oops\n", "m 5\n", "m{i=\"1\"\n"}[rng.IntN(4)]...)
		}
	}
	return dst
}

func appendJSON(rng *rand.Rand, dst []byte, labels []model.Label, samples []prompb.Sample) []byte {
	object, values, timestamps := "", "", ""
	for i, l := range labels {
		object += fmt.Sprintf("%s%s:%s", ",,"[:min(i, 1)], strconv.Quote(l.Name), strconv.Quote(l.Value))
	}
	for i, s := range samples {
		sep := ",,"[:min(i, 1)]
		value := fmt.Sprint(s.Value)
		if rng.IntN(20) == 0 {
			value = []string{"null", "true"}[rng.IntN(2)]
		}
		values += sep + value
		timestamps += sep + strconv.FormatInt(s.Timestamp, 10)
	}
	layout := []string{`{"metric":{%s},"values":[%s],"timestamps":[%s]}`, `{"metric":{%s},"values":[%s],"timestamps":[%s]}`,
		`{ "metric": {%s},"values":[%s],"timestamps":[%s]}`, `{"metric":{%s,"k":7},"values":[%s],"timestamps":[%s]}`}[rng.IntN(4)]
	return append(fmt.Appendf(dst, layout, object, values, timestamps), '\n')
}

// appendInflux writes the samples as fields of one line.
func appendInflux(rng *rand.Rand, dst []byte, labels []model.Label, samples []prompb.Sample) []byte {
	name, tags, fields := "", "", ""
	for _, l := range labels {
		if l.Name == "__name__" {
			name = l.Value
			continue
		}
		tags += "," + l.Name + "=" + strings.NewReplacer("\\", "\\\\", " ", "\\ ", ",", "\\,", "\n", "").Replace(l.Value)
	}
	for i, s := range samples {
		fields += fmt.Sprintf("%sf%d=%v", ",,"[:min(i, 1)], i, s.Value)
	}
	if rng.IntN(40) == 0 {
		fields += ",bad"
	}
	return fmt.Appendf(dst, "%s%s %s 1717200000\n", name, tags, fields)
}

// appendWords returns a function which writes samples as lines of Graphite or OpenTSDB. Some values make lines which cannot be parsed.
func appendWords(format string, separator string) func(*rand.Rand, []byte, []model.Label, []prompb.Sample) []byte {
	return func(_ *rand.Rand, dst []byte, labels []model.Label, samples []prompb.Sample) []byte {
		for _, s := range samples {
			name, tags := "", ""
			for _, l := range labels {
				if l.Name == "__name__" {
					name = l.Value
				} else {
					tags += separator + l.Name + "=" + l.Value
				}
			}
			dst = fmt.Appendf(dst, format, name, tags, s.Value, s.Timestamp/1000)
		}
		return dst
	}
}

// appendPuts writes samples as rows of an array which is not closed.
func appendPuts(_ *rand.Rand, dst []byte, labels []model.Label, samples []prompb.Sample) []byte {
	for _, s := range samples {
		name, tags := "", ""
		for _, l := range labels {
			if l.Name == "__name__" {
				name = l.Value
			} else {
				tags += fmt.Sprintf("%s%s:%s", ",,"[:min(len(tags), 1)], strconv.Quote(l.Name), strconv.Quote(l.Value))
			}
		}
		dst = fmt.Appendf(dst, "%s{\"metric\":%q,\"value\":%v,\"tags\":{%s},\"timestamp\":%d}", "[,"[min(len(dst), 1):][:1], name, s.Value, tags, s.Timestamp)
	}
	return dst
}

// message appends a field of a message of protobuf.
func message(dst []byte, number protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, number, protowire.BytesType), b)
}

// appendOTLP writes samples as points of one metric. Labels are attributes of the resource, the scope or the points, in any order, and
// fields are between them; some attributes cannot be read.
func appendOTLP(rng *rand.Rand, dst []byte, labels []model.Label, samples []prompb.Sample) []byte {
	var resource, scope, metric, points []byte
	var attributes [][]byte
	scope = message(scope, 1, []byte(strconv.Itoa(rng.IntN(3))))
	for _, l := range labels {
		b := message(message(nil, 1, []byte(l.Name)), 2, message(nil, 1, []byte(l.Value)))
		if rng.IntN(300) == 0 {
			b = append(b, 0xff)
		}
		switch where := len(l.Value) % 4; {
		case l.Name == "__name__":
			metric = message(metric, 1, []byte(l.Value))
		case where == 0:
			resource = message(resource, 1, b)
		case where == 1:
			scope = message(scope, 3, b)
		default:
			attributes = append(attributes, b)
		}
	}
	isHistogram, field := rng.IntN(3) == 0, protowire.Number(7)
	if isHistogram {
		field = 9
	}
	for _, s := range samples {
		var p []byte
		for _, b := range attributes {
			p = message(p, field, b)
			if rng.IntN(4) == 0 {
				p = protowire.AppendFixed64(protowire.AppendTag(p, 3, protowire.Fixed64Type), uint64(s.Timestamp)*1e6)
			}
		}
		value := math.Float64bits(s.Value)
		if isHistogram {
			value = uint64(s.Value)
			p = message(p, 7, binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.5)))
			p = message(p, 6, binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, value), 0))
		}
		p = protowire.AppendFixed64(protowire.AppendTag(p, 4, protowire.Fixed64Type), value)
		points = message(points, 1, p)
	}
	metric = message(metric, map[bool]protowire.Number{false: 5, true: 9}[isHistogram], points)
	return message(dst, 1, message(message(nil, 2, message(message(nil, 2, metric), 1, scope)), 1, resource))
}

// randomRequest returns a function which makes the same request anew for a sink, and its format.
func randomRequest(rng *rand.Rand, world int) (format int, make func(sink func(*model.Batch) error) *protoparser.Request) {
	writers := []func(*rand.Rand, []byte, []model.Label, []prompb.Sample) []byte{
		appendRemoteWrite, appendText, appendJSON, appendInflux, appendWords("%s%s %v %d\n", ";"), appendWords("put %[1]s %[4]d %[3]v%[2]s\n", " "), appendPuts, appendOTLP,
	}
	format = rng.IntN(len(writers))
	var body []byte
	for range rng.IntN(60) {
		labels := randomLabels(rng, world)
		var samples []prompb.Sample
		n := rng.IntN(4)
		if rng.IntN(4000) == 0 && format%2 == 0 && format < 3 {
			n = 11_000 // more than a batch
		}
		for range n {
			samples = append(samples, prompb.Sample{Timestamp: 1717200000000 + rng.Int64N(1e9), Value: float64(rng.IntN(100))})
		}
		body = writers[format](rng, body, labels, samples)
	}
	encoding := ""
	switch {
	case format == 0:
		body, encoding = snappy.Encode(nil, body), "snappy"
	case format == 6 && len(body) > 0:
		body = append(body, ']')
	}
	req := protoparser.Request{Encoding: encoding, Tenant: model.TenantID{AccountID: uint32(rng.IntN(2))}, TenantFromLabels: rng.IntN(4) == 0, DefaultTimestamp: 5}
	req.Stream, req.Database = rng.IntN(4) > 0, []string{"", "a", "b"}[rng.IntN(3)]
	if rng.IntN(3) == 0 {
		req.ExtraLabels = []model.Label{{Name: "env", Value: strconv.Itoa(rng.IntN(2))}}
	}
	return format, func(sink func(*model.Batch) error) *protoparser.Request {
		r := req
		r.Body, r.Sink = bytes.NewReader(body), sink
		return &r
	}
}

// TestKnownSeries checks that nothing can be told from what is stored whether series are known, whatever is sent.
func TestKnownSeries(t *testing.T) {
	budget := memory.NewBudget(1 << 30)
	for name, c := range map[string]struct {
		world  int
		budget *memory.Budget
		jumps  bool // of the clock, so that tables are renewed
		rules  protoparser.Relabeling
	}{
		"few series":                 {50, budget, false, nil},
		"renewed tables":             {50, budget, true, nil},
		"too many series":            {20_000, budget, true, nil},
		"no memory":                  {5_000, memory.NewBudget(150 << 10), true, nil},
		"relabelled":                 {50, budget, false, someRules(t)},
		"relabelled, renewed tables": {50, budget, true, someRules(t)},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			on := newPipeline(4096, c.budget)
			on.intake.SetRelabeling(c.rules)
			known, dropped := atomic.Int64{}, atomic.Int64{}
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					off := newPipeline(0, nil)
					off.intake.SetRelabeling(c.rules)
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					for range 60 {
						if c.jumps && rng.IntN(10) == 0 {
							on.clock.Add(2000)
						}
						known.Add(int64(compareOne(t, rng, on, off, c.world)))
					}
					dropped.Add(int64(off.set.Counter("vm_relabel_metrics_dropped_total").Get()))
				})
			}
			wg.Wait()
			if known.Load() == 0 {
				t.Error("no series was known")
			}
			if got := on.set.Counter("vm_relabel_metrics_dropped_total").Get(); int64(got) != dropped.Load() || c.rules != nil && got == 0 {
				t.Errorf("%d series were dropped by rules; want %d", got, dropped.Load())
			}
			checkSpaces(t, on, c.jumps)
		})
	}
}

// compareOne sends a request to both pipelines and returns how many series had numbers.
func compareOne(t *testing.T, rng *rand.Rand, on, off *pipeline, world int) int {
	format, request := randomRequest(rng, world)
	got, want := &sink{p: on, rng: rng}, &sink{p: off, rng: rng}
	gotResult, err := on.parse[format](request(got.take))
	wantResult, wantErr := off.parse[format](request(want.take))
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || gotResult != wantResult {
		t.Errorf("result %+v, error %v; want %+v, %v", gotResult, err, wantResult, wantErr)
	}
	if !slices.Equal(got.rows, want.rows) {
		t.Errorf("rows %.500q; want %.500q", got.rows, want.rows)
	}
	if got.batches != want.batches || want.known > 0 {
		t.Errorf("%d batches; want %d; %d series are numbered where numbering is off", got.batches, want.batches, want.known)
	}
	return got.known
}

// checkSpaces checks that all spaces but the newest have ended.
func checkSpaces(t *testing.T, p *pipeline, renewed bool) {
	t.Helper()
	living := 0
	for _, c := range p.spaces {
		if c.fault != "" {
			t.Error(c.fault)
		}
		if !c.ended {
			living++
		}
	}
	if living > 1 || renewed != (len(p.spaces) > 1) {
		t.Errorf("%d of %d spaces live", living, len(p.spaces))
	}
}

func TestNumberMetricsAndMemory(t *testing.T) {
	budget := memory.NewBudget(64 << 20)
	p := newPipeline(10_000, budget)
	var body []byte
	for i := range 6000 {
		body = fmt.Appendf(body, "m{i=\"%d\"} 1\n", i)
	}
	send := func() {
		t.Helper()
		result, err := p.parse[1](&protoparser.Request{Body: bytes.NewReader(body), Sink: func(*model.Batch) error { return nil }})
		if err != nil || result.Rows != 6000 {
			t.Fatal(result, err)
		}
	}
	read := func(name string) (value int64) {
		t.Helper()
		var out bytes.Buffer
		if err := p.set.Write(&out, false); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			if text, ok := strings.CutPrefix(line, name+`{type="insert/series"} `); ok {
				f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
				if err != nil {
					t.Fatal(err)
				}
				return int64(f)
			}
		}
		t.Fatalf("there is no metric %s", name)
		return 0
	}
	send()
	send()
	if read("vm_cache_entries") != 6000 || read("vm_cache_requests_total") != 12000 || read("vm_cache_misses_total") != 6000 {
		t.Errorf("%d entries, %d requests, %d misses", read("vm_cache_entries"), read("vm_cache_requests_total"), read("vm_cache_misses_total"))
	}
	if size := read("vm_cache_size_bytes"); size != budget.Used() || size < 6000*28 || size > read("vm_cache_size_max_bytes") {
		t.Errorf("%d bytes, %d reserved, %d at most", size, budget.Used(), read("vm_cache_size_max_bytes"))
	}
	before := budget.Used()
	p.clock.Add(3600)
	send()
	if read("vm_cache_resets_total") != 1 || read("vm_cache_misses_total") != 12000 || budget.Used() != before {
		t.Errorf("%d resets, %d misses, %d bytes reserved; were %d", read("vm_cache_resets_total"), read("vm_cache_misses_total"), budget.Used(), before)
	}
}
