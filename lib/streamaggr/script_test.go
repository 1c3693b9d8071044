package streamaggr_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"vmcluster/lib/flagvalue"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
	"vmcluster/lib/relabel"
	"vmcluster/lib/streamaggr"
)

var update = flag.Bool("update", false, "rewrite what scripts and docs expect")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stored is an Ingester which remembers samples as lines.
type stored struct {
	mu    sync.Mutex
	start time.Time
	lines []string
	err   error
}

func (s *stored) Ingest(_ context.Context, b *model.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for i := range b.Len() {
		tenant, labels, err := model.ParseSeriesKey(nil, b.Key(i))
		if err != nil {
			return err
		}
		name := model.LabelsString(labels)
		if tenant != (model.TenantID{}) {
			name = tenant.String() + " " + name
		}
		for _, x := range b.Samples(i) {
			s.add(name, strconv.FormatFloat(x.Value, 'g', 10, 64), x.Timestamp)
		}
		for _, h := range b.AppendHistograms(nil, i) {
			s.add(name, "histogram", h.Timestamp)
		}
	}
	return nil
}

func (s *stored) add(name, value string, timestamp int64) {
	s.lines = append(s.lines, fmt.Sprintf("%s %s @%s", name, value, time.UnixMilli(timestamp).Sub(s.start)))
}

// take returns the lines since the last call, sorted.
func (s *stored) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines
	s.lines = nil
	slices.Sort(lines)
	return lines
}

// script runs the lines of one case and returns them with what was stored behind each.
type script struct {
	t     *testing.T
	sink  *stored
	set   *metrics.Set
	a     *streamaggr.Aggregator
	flags streamaggr.Defaults
	out   []string
}

// setFlags reads words like keepInput and dedup=30s.
func (s *script) setFlags(words []string) {
	s.flags = streamaggr.Defaults{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "keepInput":
			s.flags.KeepInput = true
		case "dropInput":
			s.flags.DropInput = true
		case "windows":
			s.flags.EnableWindows = true
		case "ignoreOld":
			s.flags.IgnoreOldSamples = true
		case "ignoreFirst":
			s.flags.IgnoreFirstIntervals, _ = strconv.Atoi(value)
		case "dedup":
			s.flags.DedupInterval = s.duration(value)
		case "drop":
			s.flags.DropInputLabels = strings.Split(value, ",")
		default:
			s.t.Fatalf("flag %q", word)
		}
	}
}

func (s *script) duration(text string) time.Duration {
	var d flagvalue.Duration
	if err := d.Set(text); err != nil {
		s.t.Fatal(err)
	}
	return d.D()
}

// load takes over rules; without any, deduplication alone if flags say so.
func (s *script) load(text string) {
	c, err := streamaggr.Parse("test", []byte(text), s.flags)
	if strings.TrimSpace(text) == "" && s.flags.DedupInterval > 0 {
		c, err = streamaggr.Deduplication(s.flags)
	}
	if err != nil {
		s.out = append(s.out, "> "+err.Error())
		return
	}
	s.a.Use(c)
}

// send stores samples: foo{a="b"} 1 2 @-3s; tenant=1:2 goes before.
func (s *script) send(fields []string) {
	var b model.Batch
	var tenant model.TenantID
	at := time.Now()
	if text, ok := strings.CutPrefix(fields[0], "tenant="); ok {
		tenant, _ = model.ParseTenantID(text)
		fields = fields[1:]
	}
	if last := fields[len(fields)-1]; last[0] == '@' {
		at = at.Add(s.duration(last[1:]))
		fields = fields[:len(fields)-1]
	}
	labels, err := relabel.ParseLabels(fields[0])
	if err == nil {
		err = b.AddSeries(tenant, labels)
	}
	for _, text := range fields[1:] {
		if text == "histogram" {
			b.AddHistogram(at.UnixMilli(), []byte{1})
			continue
		}
		v, e := strconv.ParseFloat(text, 64)
		if err == nil {
			err = e
		}
		b.AddSample(at.UnixMilli(), v)
	}
	if err == nil {
		err = s.a.Ingest(s.t.Context(), &b)
	}
	if err != nil {
		s.out = append(s.out, "> "+err.Error())
	}
}

func (s *script) line(line string) {
	fields := strings.Fields(line)
	switch {
	case len(fields) == 0 || line[0] == '#':
	case line[0] == '+':
		time.Sleep(s.duration(line[1:]))
		synctest.Wait()
	case fields[0] == "flags":
		s.setFlags(fields[1:])
	case fields[0] == "in":
		s.send(fields[1:])
	case fields[0] == "close":
		if err := s.a.Close(); err != nil {
			s.t.Error(err)
		}
	case fields[0] == "metrics":
		s.out = append(s.out, metricLines(s.t, s.set, fields[1])...)
	default:
		s.t.Fatalf("line %q", line)
	}
	for _, stored := range s.sink.take() {
		s.out = append(s.out, "> "+stored)
	}
}

// metricLines returns the values above zero of a family.
func metricLines(t *testing.T, set *metrics.Set, family string) (lines []string) {
	var page strings.Builder
	if err := set.Write(&page, false); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(page.String()) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, family) && !strings.HasSuffix(line, " 0") {
			lines = append(lines, "> "+line)
		}
	}
	return lines
}

// run runs a case and returns it with what it comes to.
func run(t *testing.T, lines []string) (out []string) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t, sink: &stored{start: time.Now()}, set: metrics.NewSet()}
		s.a = streamaggr.New(streamaggr.Options{Next: s.sink, Logger: logger.Discard(), Metrics: s.set})
		defer func() { _ = s.a.Close() }()
		for i := 0; i < len(lines); i++ {
			line := lines[i]
			if strings.HasPrefix(line, ">") {
				continue
			}
			s.out = append(s.out, line)
			if line != "load" {
				s.line(line)
				continue
			}
			var text strings.Builder
			for ; i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  "); i++ {
				s.out = append(s.out, lines[i+1])
				text.WriteString(lines[i+1] + "\n")
			}
			s.load(text.String())
		}
		out = s.out
	})
	return out
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var whole []string
		for i, part := range strings.Split(string(text), "\n## ") {
			title, body, _ := strings.Cut(part, "\n")
			if i == 0 {
				whole = append(whole, part)
				continue
			}
			t.Run(title, func(t *testing.T) {
				got := strings.Join(run(t, strings.Split(body, "\n")), "\n")
				whole = append(whole, title+"\n"+got)
				if got != body && !*update {
					t.Errorf("%s: got\n%s\nwant\n%s", file, got, body)
				}
			})
		}
		if *update {
			if err := os.WriteFile(file, []byte(strings.Join(whole, "\n## ")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
