package bench

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcluster/lib/prompb"
)

func TestShorten(t *testing.T) {
	values := []string{"5", "7", "7", "", "6.5", "6.5", "+Inf", "-3", "-5", "NaN", "9007199254740993", "9007199254740994", "", "1e+06"}
	short := shorten(values)
	want := []string{"5", "+2", "=", ".", "6.5", "=", "!+Inf", "!-3", "-2", "NaN", "9007199254740993", "9007199254740994", ".", "1e+06"}
	if !slices.Equal(short, want) {
		t.Errorf("got %q", short)
	}
	if long, err := lengthen(short); err != nil || !slices.Equal(long, values) {
		t.Errorf("got %q, %v", long, err)
	}
	for _, bad := range [][]string{{"="}, {"+1"}, {""}, {"x"}, {"5", "+x"}} {
		if long, err := lengthen(bad); err == nil {
			t.Errorf("%q is read as %q", bad, long)
		}
	}
}

// TestRecordingRoundTrip records random pages, among them series that begin late, end and pause.
func TestRecordingRoundTrip(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	rec := &recording{seconds: 15}
	var pages []string
	for i := range 20 {
		var b strings.Builder
		for s := range 10 {
			if rng.IntN(4) == 0 {
				continue
			}
			value := fmt.Sprint(rng.IntN(10))
			if rng.IntN(3) == 0 {
				value = fmt.Sprint(rng.NormFloat64() * 1e6)
			}
			fmt.Fprintf(&b, "m_%d{a=\"x, y\",s=\"%d\"} %s\nm_%d %s\n", s, s, value, s, value)
		}
		pages = append(pages, b.String())
		if err := rec.add([]byte(pages[i])); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if err := rec.write(&file); err != nil {
		t.Fatal(err)
	}
	read, err := readRecording(&file)
	if err != nil || read.scrapes != 20 || read.seconds != 15 {
		t.Fatalf("%+v, %v", read, err)
	}
	for i, page := range pages {
		for _, key := range read.order {
			line := key + "} " + read.values[key][i]
			if !strings.Contains(key, "a=") {
				line = strings.TrimSuffix(key, "{") + " " + read.values[key][i]
			}
			if read.values[key][i] != "" && !strings.Contains("\n"+page, "\n"+line+"\n") {
				t.Fatalf("scrape %d never had %q", i, line)
			}
			if read.values[key][i] == "" && strings.Contains("\n"+page, "\n"+strings.TrimSuffix(line, " ")+" ") {
				t.Fatalf("scrape %d has lost %q", i, line)
			}
		}
	}
}

func TestReadRecordingRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"x":                                     "first line",
		recordingHeader + " 2 15\nm{\t1":        "1 values of 2",
		recordingHeader + " 1 15\nm{\t1\nm{\t1": "twice",
		recordingHeader + " 1 15\nm{a\t=":       "no value",
		recordingHeader + " 1 15\n{\t1":         "names of series",
		recordingHeader + " 99999999 15\n":      "first line",
	} {
		if _, err := parseRecording([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; want %q in it", text, err, want)
		}
	}
	if _, err := readRecording(strings.NewReader("x")); err == nil {
		t.Error("what is not compressed is accepted")
	}
	if err := new(recording).add([]byte("m{a=\"\t\"} 1")); err == nil {
		t.Error("a tab is accepted")
	}
}

func FuzzParseRecording(f *testing.F) {
	f.Add([]byte(recordingHeader + " 3 15\nm{a=\"b\"\t1\t+1\t=\nn{\t.\t!-1\t-1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rec, err := parseRecording(text)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := rec.write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := readRecording(&b)
		if err != nil {
			t.Fatalf("%q is written so that it cannot be read: %s", text, err)
		}
		for _, key := range rec.order {
			if !slices.Equal(again.values[key], rec.values[key]) {
				t.Fatalf("%q: %q became %q", key, rec.values[key], again.values[key])
			}
		}
	})
}

func TestCapture(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprintf(w, "# TYPE m counter\nm{a=\"b\"} %d\n", n)
	}))
	defer s.Close()
	dir := t.TempDir()
	sizes, err := Capture(t.Context(), CaptureOptions{From: "x=" + s.URL + ",y=" + s.URL, Out: dir, N: 3, Every: time.Millisecond})
	if err != nil || len(sizes) != 2 {
		t.Fatalf("%v, %v", sizes, err)
	}
	file, err := os.Open(filepath.Join(dir, "y.rec.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if rec, err := readRecording(file); err != nil || !slices.Equal(rec.values[`m{a="b"`], []string{"2", "4", "6"}) {
		t.Errorf("%+v, %v", rec, err)
	}
	for _, name := range []string{"z.1.txt", "z.0.txt", "z.2.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("m "+name[2:3]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Capture(t.Context(), CaptureOptions{Pages: dir, Out: dir, N: 2}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "z.rec.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := readRecording(bytes.NewReader(data)); err != nil || !slices.Equal(rec.values["m{"], []string{"0", "1"}) {
		t.Errorf("%+v, %v", rec, err)
	}
	for _, o := range []CaptureOptions{{}, {Out: dir}, {Out: dir, From: "x", N: 1}, {Out: dir, From: "a/b=" + s.URL, N: 1}, {Out: dir, Pages: t.TempDir()}, {Out: dir, From: "x=http://127.0.0.1:1", N: 1}} {
		if _, err := Capture(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// TestCorpora: each set is consistent, the same for a seed, and its series are those it should have.
func TestCorpora(t *testing.T) {
	for set, wantSeries := range map[string]int{"tune": 800, "judge": 800, "kube": 2 * kubePods * 39} {
		var files [2][]byte
		var m *Manifest
		dir := t.TempDir()
		for i := range files {
			var err error
			if m, err = Corpus(CorpusOptions{Set: set, Dir: dir, Nodes: 2, Scrapes: 50, Seed: 4, End: 1795324981}); err != nil {
				t.Fatal(err)
			}
			if files[i], err = os.ReadFile(filepath.Join(dir, bodiesFile)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(files[0], files[1]) {
			t.Errorf("%s is not the same twice", set)
		}
		samples, last, jobs := int64(0), map[string]int64{}, map[string]bool{}
		err := ReadSeries(dir, func(s *prompb.TimeSeries[prompb.Label]) error {
			var key strings.Builder
			for i, l := range s.Labels {
				if i > 0 && s.Labels[i-1].Name >= l.Name {
					return fmt.Errorf("labels out of order: %v", s.Labels)
				}
				if l.Name == "job" {
					jobs[strings.Clone(l.Value)] = true
				}
				key.WriteString(l.Name + "\x00" + l.Value + "\x00")
			}
			if last[key.String()] >= s.Samples[0].Timestamp {
				return fmt.Errorf("%q: timestamp %d after %d", key.String(), s.Samples[0].Timestamp, last[key.String()])
			}
			last[key.String()] = s.Samples[0].Timestamp
			samples++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if samples != m.Samples || int64(len(last)) != m.Series || m.Active < wantSeries || len(jobs) != 2 || len(m.jobs()) != 2 || !jobs[m.jobs()[0]] || !jobs[m.jobs()[1]] {
			t.Errorf("%s: %d samples of %d series of jobs %v; the manifest is %+v", set, samples, len(last), jobs, m)
		}
		if set == "kube" && (m.Stale == 0 || m.Series <= int64(m.Active)) {
			t.Errorf("no pod was replaced: %+v", m)
		}
	}
	for _, o := range []CorpusOptions{{Set: "nosuch", Dir: t.TempDir(), Nodes: 1, Scrapes: 1}, {Set: "kube", Nodes: 1, Scrapes: 1}} {
		if _, err := Corpus(o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
}

// TestRecordingsAreSmall keeps the repository small.
func TestRecordingsAreSmall(t *testing.T) {
	total := int64(0)
	for _, set := range []string{"tune", "judge"} {
		names, _ := corpusExporters(set)
		for _, name := range names {
			info, err := os.Stat(filepath.Join("testdata", "corpus", name+".rec.gz"))
			if err != nil {
				t.Fatal(err)
			}
			total += info.Size()
			rec, err := loadRecording(name)
			if err != nil || rec.scrapes < 60 || len(rec.order) < 200 {
				t.Errorf("%s: %d scrapes of %d series, %v", name, rec.scrapes, len(rec.order), err)
			}
		}
	}
	if total > 600<<10 {
		t.Errorf("the recordings have %d bytes", total)
	}
}
