package bench

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmcluster/lib/prompb"
)

// A recording is what one exporter has exposed at regular intervals, as gzip of text: a header line
// "vmbench recording 1 SCRAPES SECONDS", then a line for each series with its name and labels and, after
// tabs, its values as they were printed; "=" is the value before, "+N" and "-N" that plus an integer,
// "." none.

const (
	recordingHeader = "vmbench recording 1"
	maxRecording    = 64 << 20 // bytes of text
	maxScrapes      = 1 << 16
)

// recording is what one exporter has exposed.
type recording struct {
	seconds int // between scrapes
	scrapes int
	order   []string            // series, by first appearance
	values  map[string][]string // by series; empty is none
}

// add adds a scrape.
func (r *recording) add(page []byte) error {
	s, err := parseScrape(page)
	if err != nil {
		return err
	}
	if r.values == nil {
		r.values = map[string][]string{}
	}
	for _, key := range s.order {
		if strings.Contains(key, "\t") {
			return fmt.Errorf("series %q has a tab, which a recording cannot hold", key)
		}
		values, ok := r.values[key]
		if !ok {
			r.order = append(r.order, key)
			values = make([]string, r.scrapes, r.scrapes+1)
		}
		if len(values) == r.scrapes { // else the page has the series twice
			r.values[key] = append(values, s.series[key].text)
		}
	}
	r.scrapes++
	for key, values := range r.values {
		if len(values) < r.scrapes {
			r.values[key] = append(values, "")
		}
	}
	return nil
}

// labelsOf returns the labels of series, sorted.
func labelsOf(keys []string) ([][]prompb.Label, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	s, err := parseScrape([]byte(strings.Join(keys, "} 0\n") + "} 0"))
	if err != nil {
		return nil, fmt.Errorf("cannot parse the names of series: %w", err)
	}
	if !slices.Equal(s.order, keys) {
		return nil, errors.New("cannot parse the names of series: some are none")
	}
	var list [][]prompb.Label
	for _, key := range keys {
		list = append(list, s.series[key].labels)
	}
	return list, nil
}

// write writes the recording.
func (r *recording) write(w io.Writer) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(z)
	_, err = fmt.Fprintf(out, "%s %d %d\n", recordingHeader, r.scrapes, r.seconds)
	for _, key := range r.order {
		if err == nil {
			_, err = out.WriteString(key + "\t" + strings.Join(shorten(r.values[key]), "\t") + "\n")
		}
	}
	return errors.Join(err, out.Flush(), z.Close())
}

// smallInteger returns the integer a text is, if it is one that float64 holds, written as Go does.
func smallInteger(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n < 1<<53 && n > -(1<<53) && strconv.FormatInt(n, 10) == text
}

// shorten replaces values by what has changed.
func shorten(values []string) []string {
	var list []string
	previous := ""
	for _, v := range values {
		now, nowOK := smallInteger(v)
		before, beforeOK := smallInteger(previous)
		switch {
		case v == "":
			list = append(list, ".")
			continue
		case v == previous:
			list = append(list, "=")
		case nowOK && beforeOK:
			list = append(list, fmt.Sprintf("%+d", now-before))
		case v[0] == '+' || v[0] == '-': // would be taken for a difference
			list = append(list, "!"+v)
		default:
			list = append(list, v)
		}
		previous = v
	}
	return list
}

// lengthen is the inverse of shorten.
func lengthen(list []string) ([]string, error) {
	var values []string
	previous := ""
	for _, text := range list {
		v := text
		switch {
		case text == ".":
			values = append(values, "")
			continue
		case text == "=":
			v = previous
		case text == "":
			return nil, errors.New("a value is empty")
		case text[0] == '+' || text[0] == '-':
			before, ok := smallInteger(previous)
			delta, err := strconv.ParseInt(text, 10, 64)
			if !ok || err != nil {
				return nil, fmt.Errorf("difference %q has no integer before it", text)
			}
			v = strconv.FormatInt(before+delta, 10)
		case text[0] == '!':
			v = text[1:]
		}
		if _, err := strconv.ParseFloat(v, 64); err != nil {
			return nil, fmt.Errorf("%q is no value", text)
		}
		values = append(values, v)
		previous = v
	}
	return values, nil
}

// readRecording reads what write has written.
func readRecording(r io.Reader) (*recording, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("cannot decompress recording: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(z, maxRecording+1))
	if err != nil {
		return nil, fmt.Errorf("cannot decompress recording: %w", err)
	}
	if len(text) > maxRecording {
		return nil, fmt.Errorf("cannot read a recording of more than %d bytes", maxRecording)
	}
	return parseRecording(text)
}

func parseRecording(text []byte) (*recording, error) {
	header, rest, _ := bytes.Cut(text, []byte("\n"))
	rec := &recording{values: map[string][]string{}}
	if _, err := fmt.Sscanf(string(header), recordingHeader+" %d %d", &rec.scrapes, &rec.seconds); err != nil || rec.scrapes < 0 || rec.scrapes > maxScrapes || rec.seconds < 0 {
		return nil, fmt.Errorf("cannot read recording: %q is not its first line; `vmbench capture` writes recordings", header)
	}
	for line := range strings.Lines(string(rest)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		values, err := lengthen(f[1:])
		if err != nil {
			return nil, fmt.Errorf("cannot read recording of %s: %w", f[0], err)
		}
		if len(values) != rec.scrapes || rec.values[f[0]] != nil {
			return nil, fmt.Errorf("cannot read recording of %s: %d values of %d scrapes, or it is there twice", f[0], len(values), rec.scrapes)
		}
		rec.order = append(rec.order, f[0])
		rec.values[f[0]] = values
	}
	if _, err := labelsOf(rec.order); err != nil {
		return nil, fmt.Errorf("cannot read recording: %w", err)
	}
	return rec, nil
}

// CaptureOptions say what to record how often.
type CaptureOptions struct {
	From  string // name=URL, separated by commas
	Pages string
	Out   string
	N     int
	Every time.Duration
	Log   io.Writer
}

// RegisterFlags registers the flags of `vmbench capture`.
func (o *CaptureOptions) RegisterFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.From, "from", "", "what to scrape: NAME=URL, separated by commas, such as node_exporter=http://localhost:9100/metrics")
	fs.StringVar(&o.Pages, "pages", "", "folder with saved pages instead, named NAME.NUMBER.txt")
	fs.StringVar(&o.Out, "out", "", "folder to write NAME.rec.gz to")
	fs.IntVar(&o.N, "n", 120, "scrapes; of saved pages at most as many, 0 is all")
	fs.DurationVar(&o.Every, "every", scrapeSeconds*time.Second, "time between scrapes")
}

// Capture records what exporters expose and returns the sizes of the files it writes, by path.
func Capture(ctx context.Context, o CaptureOptions) (map[string]int, error) {
	if o.Out == "" || (o.From == "") == (o.Pages == "") || o.N < 0 || o.From != "" && o.N == 0 {
		return nil, errors.New("cannot capture: give -out, and either -from and the number -n, or -pages")
	}
	if err := os.MkdirAll(o.Out, 0o755); err != nil {
		return nil, fmt.Errorf("cannot create -out=%s: %w", o.Out, err)
	}
	recordings := map[string]*recording{}
	var err error
	if o.Pages != "" {
		err = o.readPages(recordings)
	} else {
		err = o.scrape(ctx, recordings)
	}
	if err != nil {
		return nil, err
	}
	sizes := map[string]int{}
	for name, rec := range recordings {
		path := filepath.Join(o.Out, name+".rec.gz")
		var b bytes.Buffer
		if err := rec.write(&b); err != nil {
			return nil, fmt.Errorf("cannot write recording of %s: %w", name, err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			return nil, fmt.Errorf("cannot write recording of %s: %w", name, err)
		}
		sizes[path] = b.Len()
	}
	return sizes, nil
}

// readPages reads the saved pages of each name in the order of their file names.
func (o *CaptureOptions) readPages(recordings map[string]*recording) error {
	paths, err := filepath.Glob(filepath.Join(o.Pages, "*.txt"))
	if err != nil || len(paths) == 0 {
		return fmt.Errorf("cannot find pages in -pages=%s: they are named NAME.NUMBER.txt", o.Pages)
	}
	slices.Sort(paths)
	for _, path := range paths {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		if rec := recordings[name]; rec != nil && o.N > 0 && rec.scrapes >= o.N {
			continue
		}
		page, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("cannot read page: %w", err)
		}
		if err := o.addPage(recordings, name, page); err != nil {
			return err
		}
	}
	return nil
}

func (o *CaptureOptions) addPage(recordings map[string]*recording, name string, page []byte) error {
	if recordings[name] == nil {
		recordings[name] = &recording{seconds: int(o.Every.Seconds())}
	}
	if err := recordings[name].add(page); err != nil {
		return fmt.Errorf("cannot parse page of %s: %w", name, err)
	}
	return nil
}

// scrape scrapes all exporters again and again.
func (o *CaptureOptions) scrape(ctx context.Context, recordings map[string]*recording) error {
	start := time.Now()
	for i := range o.N {
		if err := pause(ctx, time.Until(start.Add(time.Duration(i)*o.Every))); err != nil {
			return err
		}
		for _, from := range strings.Split(o.From, ",") {
			name, url, ok := strings.Cut(from, "=")
			if !ok || name == "" || strings.ContainsAny(name, "./") {
				return fmt.Errorf("cannot scrape %q: write NAME=URL, the name without dots and slashes", from)
			}
			page, err := httpGet(ctx, url)
			if err != nil {
				return fmt.Errorf("cannot scrape %s: %w", name, err)
			}
			if err := o.addPage(recordings, name, page); err != nil {
				return err
			}
		}
	}
	return nil
}
