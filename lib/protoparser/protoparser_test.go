package protoparser

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"vmcluster/lib/errkind"
	"vmcluster/lib/logger"
	"vmcluster/lib/metrics"
	"vmcluster/lib/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newIntake(t testing.TB, args ...string) *Intake {
	t.Helper()
	var c Config
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	c.RegisterFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return New(Options{Config: &c, Logger: logger.Discard(), Metrics: metrics.NewSet()})
}

func newRand(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// pack compresses data as the given encoding.
func pack(t testing.TB, encoding string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch encoding {
	case "snappy":
		return snappy.Encode(nil, data)
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	case "raw deflate":
		w, err = flate.NewWriter(&b, 6)
	case "zstd":
		w, err = zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	default:
		return data
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestStreamEncodings(t *testing.T) {
	in := newIntake(t)
	rng := newRand(t)
	for range 3 { // pooled decoders are used again
		data := []byte(strings.Repeat("some text ", rng.IntN(20_000)))
		for _, e := range []string{"", "identity", "none", "gzip", "deflate", "raw deflate", "zstd", "snappy"} {
			packed := pack(t, e, data)
			header := strings.TrimPrefix(e, "raw ")
			r, err := in.Bodies.Stream(iotest.HalfReader(bytes.NewReader(packed)), header)
			if err != nil {
				t.Fatalf("%s: %s", e, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d of %d bytes, error %v", e, len(got), len(data), err)
			}
			r.Close()
			if e == "" || e == "identity" || e == "none" {
				continue
			}
			checkBroken(t, in, header, packed)
		}
	}
	if _, err := in.Bodies.Stream(strings.NewReader("x"), "br"); errkind.Of(err) != errkind.BadRequest || !strings.Contains(err.Error(), `"br"`) {
		t.Errorf("br: error %v", err)
	}
}

// checkBroken reads a body that is cut off and one that is garbage.
func checkBroken(t *testing.T, in *Intake, encoding string, packed []byte) {
	t.Helper()
	for _, body := range [][]byte{packed[:len(packed)-1], []byte("\xff\xfegarbage")} {
		r, err := in.Bodies.Stream(bytes.NewReader(body), encoding)
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if errkind.Of(err) != errkind.BadRequest {
			t.Errorf("broken %s body of %d bytes: error %v", encoding, len(body), err)
		}
	}
	r, err := in.Bodies.Stream(bytes.NewReader(nil), encoding)
	if err != nil {
		t.Errorf("empty %s body: error %v", encoding, err)
		return
	}
	if got, err := io.ReadAll(r); err != nil || len(got) > 0 {
		t.Errorf("empty %s body gives %q, %v", encoding, got, err)
	}
	r.Close()
}

func TestReadBlock(t *testing.T) {
	in := newIntake(t, "-maxInsertRequestSize=1000")
	data := []byte(strings.Repeat("x", 1000))
	big := []byte(strings.Repeat("x", 1001))
	noise := make([]byte, 1001)
	for i := range noise {
		noise[i] = byte(i * i)
	}
	for name, c := range map[string]struct {
		encoding string
		body     []byte
		want     errkind.Kind
	}{
		"snappy":                        {"snappy", pack(t, "snappy", data), errkind.OK},
		"zstd":                          {"zstd", pack(t, "zstd", data), errkind.OK},
		"snappy said zstd":              {"zstd", pack(t, "snappy", data), errkind.OK},
		"zstd said snappy":              {"snappy", pack(t, "zstd", data), errkind.OK},
		"snappy unsaid":                 {"", pack(t, "snappy", data), errkind.OK},
		"gzip":                          {"gzip", pack(t, "gzip", data), errkind.OK},
		"deflate":                       {"deflate", pack(t, "deflate", data), errkind.OK},
		"snappy too large unpacked":     {"snappy", pack(t, "snappy", big), errkind.TooLarge},
		"zstd too large unpacked":       {"zstd", pack(t, "zstd", big), errkind.TooLarge},
		"gzip too large unpacked":       {"gzip", pack(t, "gzip", big), errkind.TooLarge},
		"too large packed":              {"snappy", noise, errkind.TooLarge},
		"not compressed":                {"", data, errkind.BadRequest},
		"garbage":                       {"snappy", []byte("not snappy at all"), errkind.BadRequest},
		"snappy cut off":                {"snappy", pack(t, "snappy", data)[:20], errkind.BadRequest},
		"zstd cut off":                  {"zstd", pack(t, "zstd", data)[:12], errkind.BadRequest},
		"snappy that promises too much": {"snappy", []byte("\xff\xff\xff\xff\x0f\x00"), errkind.BadRequest},
		"unknown":                       {"br", data, errkind.BadRequest},
	} {
		buf, err := in.Bodies.ReadBlock(bytes.NewReader(c.body), c.encoding)
		if errkind.Of(err) != c.want {
			t.Errorf("%s: error %v", name, err)
		}
		if err == nil && !bytes.Equal(buf.B, data) {
			t.Errorf("%s: wrong %d bytes", name, len(buf.B))
		}
		if c.want == errkind.TooLarge && !strings.Contains(err.Error(), "-maxInsertRequestSize=1000") {
			t.Errorf("%s: error %q names no flag", name, err)
		}
		if err == nil {
			in.Bodies.Put(buf)
		}
	}
	if buf, err := in.Bodies.ReadBlock(strings.NewReader(""), "snappy"); err != nil || len(buf.B) > 0 {
		t.Errorf("empty body: %v", err)
	}
	if _, err := in.Bodies.ReadBlock(iotest.ErrReader(errors.New("connection reset")), "snappy"); errkind.Of(err) != errkind.BadRequest {
		t.Errorf("broken connection: error %v", err)
	}
}

func TestLinesAgainstModel(t *testing.T) {
	in := newIntake(t)
	rng := newRand(t)
	for range 200 {
		maxLen := 1 + rng.IntN(200_000)
		var text bytes.Buffer
		var want []string
		tooLong := 0
		lines := rng.IntN(20)
		for i := range lines {
			n := rng.IntN(100)
			if rng.IntN(3) == 0 {
				n = rng.IntN(300_000)
			}
			line := strings.Repeat(string(rune('a'+i)), n)
			text.WriteString(line)
			text.WriteString([]string{"\n", "\r\n"}[rng.IntN(2)])
			if n > maxLen {
				tooLong++
				continue
			}
			want = append(want, line)
		}
		if rng.IntN(2) == 0 {
			text.WriteString("#") // no line end
			want = append(want, "#")
		}
		l := in.Lines(iotest.DataErrReader(&text), maxLen)
		var got []string
		for l.Next() {
			got = append(got, string(l.At()))
		}
		if !slices.Equal(got, want) || l.TooLong() != tooLong || l.Err() != nil {
			t.Fatalf("got %d lines, %d too long, error %v; want %d and %d", len(got), l.TooLong(), l.Err(), len(want), tooLong)
		}
		l.Release()
		if l.Next() {
			t.Error("there is a line after Release")
		}
	}
}

func TestLinesOfAFailingReader(t *testing.T) {
	in := newIntake(t)
	l := in.Lines(io.MultiReader(strings.NewReader("one\ntwo\nhal"), iotest.ErrReader(errors.New("cut"))), 100)
	defer l.Release()
	n := 0
	for l.Next() {
		n++
	}
	if n != 2 || l.Err() == nil {
		t.Errorf("%d lines, error %v", n, l.Err())
	}
}

// sink gathers batches.
type sink struct {
	batches []int // rows of each
	rows    []string
	err     error
}

func (s *sink) take(b *model.Batch) error {
	if s.err != nil {
		return s.err
	}
	s.batches = append(s.batches, b.Rows())
	for i := range b.Len() {
		for _, x := range b.Samples(i) {
			s.rows = append(s.rows, fmt.Sprintf("%s@%d=%v", model.SeriesKeyString(b.Key(i)), x.Timestamp, x.Value))
		}
	}
	return nil
}

func labels(pairs ...string) []model.Label {
	var l []model.Label
	for i := 0; i < len(pairs); i += 2 {
		l = append(l, model.Label{Name: pairs[i], Value: pairs[i+1]})
	}
	return l
}

func TestLimits(t *testing.T) {
	in := newIntake(t, "-maxLabelsPerTimeseries=3", "-maxLabelNameLen=10", "-maxLabelValueLen=5")
	for name, c := range map[string]struct {
		labels []model.Label
		want   Reason
	}{
		"fine":              {labels("__name__", "m", "a", "1", "b", "2", "empty", ""), reasonCount},
		"no name is long":   {labels("__name__", "12345", "0123456789", "x"), reasonCount},
		"too many":          {labels("__name__", "m", "a", "1", "b", "2", "c", "3"), TooManyLabels},
		"long name":         {labels("__name__", "m", "0123456789x", "1"), TooLongLabelName},
		"long value":        {labels("__name__", "m", "a", "123456"), TooLongLabelValue},
		"long metric name":  {labels("__name__", "123456"), TooLongLabelValue},
		"duplicate":         {labels("__name__", "m", "a", "1", "a", "2"), DuplicateLabelName},
		"duplicate metric":  {labels("__name__", "m", "__name__", "n"), DuplicateLabelName},
		"empty label name":  {labels("__name__", "m", "", "1"), EmptyLabelName},
		"no metric name":    {labels("a", "1"), EmptyMetricName},
		"empty metric name": {labels("a", "1", "__name__", ""), EmptyMetricName},
		"no labels":         {nil, EmptyMetricName},
	} {
		var before [reasonCount]uint64
		for r := range reasonCount {
			before[r] = in.ignored[r].Get()
		}
		s := &sink{}
		c2 := in.Collect(&Request{Sink: s.take})
		for _, l := range [][]model.Label{labels("__name__", "ok1"), c.labels, labels("__name__", "ok2")} {
			if c2.StartSeries(slices.Clone(l), 2) {
				c2.Sample(1, 1)
				c2.Sample(2, 2)
			}
		}
		result, err := c2.Finish()
		c2.Release()
		wantRows := 4
		if c.want == reasonCount {
			wantRows = 6
		}
		if err != nil || result.Rows != wantRows || len(s.rows) != wantRows || result.Dropped != 6-wantRows || (result.Reason == "") != (c.want == reasonCount) {
			t.Errorf("%s: %+v, error %v, rows %v", name, result, err, s.rows)
		}
		for r := range reasonCount {
			want := uint64(0)
			if r == c.want {
				want = 2
			}
			if got := in.ignored[r].Get() - before[r]; got != want {
				t.Errorf("%s: %d rows counted as %s; want %d", name, got, r, want)
			}
		}
	}
}

func TestZeroMeansNoLimit(t *testing.T) {
	in := newIntake(t, "-maxLabelsPerTimeseries=0", "-maxLabelNameLen=0", "-maxLabelValueLen=0")
	long := strings.Repeat("x", 10_000)
	c := in.Collect(&Request{Sink: (&sink{}).take})
	defer c.Release()
	if !c.StartSeries(labels("__name__", "m", long, long), 1) {
		t.Error("the series is left out")
	}
}

// TestSeriesTooLongForStorage checks that a series which no storage takes does not cost the sender the others.
func TestSeriesTooLongForStorage(t *testing.T) {
	in := newIntake(t, "-maxLabelsPerTimeseries=0", "-maxLabelNameLen=0", "-maxLabelValueLen=0")
	s := &sink{}
	c := in.Collect(&Request{Sink: s.take})
	defer c.Release()
	for _, size := range []int{1, maxSeriesKeyBytes, maxSeriesKeyBytes - 100, 1} {
		if c.StartSeries(labels("__name__", "m", "a", strings.Repeat("x", size)), 1) {
			c.Sample(1, 1)
		}
	}
	if result, err := c.Finish(); err != nil || result.Rows != 3 || result.Dropped != 1 || result.Reason == "" {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestExtraLabelsAndTenants(t *testing.T) {
	in := newIntake(t)
	s := &sink{}
	c := in.Collect(&Request{Sink: s.take, TenantFromLabels: true, ExtraLabels: labels("env", "over", "gone", "", "new", "one")})
	for _, l := range [][]model.Label{
		labels("__name__", "a", "env", "t", "gone", "x"),
		labels("vm_account_id", "7", "__name__", "b", "vm_project_id", "9"),
		labels("vm_account_id", "x", "__name__", "c", "vm_project_id", "-1"),
		labels("vm_account_id", "8"),
	} {
		if c.StartSeries(l, 1) {
			c.Sample(5, 1)
		}
	}
	if _, err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	c.Release()
	want := []string{
		`tenant 0:0 a{env="over",new="one"}@5=1`,
		`tenant 7:9 b{env="over",new="one"}@5=1`,
		`tenant 0:0 c{env="over",new="one"}@5=1`,
	}
	if !slices.Equal(s.rows, want) {
		t.Errorf("rows %v; want %v", s.rows, want)
	}
}

func TestNaNIsStoredAndNullIsNot(t *testing.T) {
	in := newIntake(t)
	s := &sink{}
	c := in.Collect(&Request{Sink: s.take})
	if !c.StartSeries(labels("__name__", "m"), 4) {
		t.Fatal("series left out")
	}
	for i, v := range []float64{math.NaN(), math.Float64frombits(0x7ff0000000000002), math.Inf(1), math.Inf(-1)} {
		c.Sample(int64(i), v)
	}
	c.Null()
	result, err := c.Finish()
	c.Release()
	if err != nil || result.Rows != 4 || result.Dropped != 1 || in.ignored[NullValue].Get() != 1 || result.Reason == "" {
		t.Errorf("%+v, error %v, %d nulls counted", result, err, in.ignored[NullValue].Get())
	}
}

func TestBatchesAreBounded(t *testing.T) {
	in := newIntake(t)
	s := &sink{}
	c := in.Collect(&Request{Sink: s.take})
	const huge = 25_001 // one series, several batches
	c.StartSeries(labels("__name__", "huge"), huge)
	for i := range huge {
		c.Sample(int64(i), 1)
	}
	long := strings.Repeat("x", 4000)
	for i := range 3000 { // 12 MB of labels
		c.StartSeries(labels("__name__", "m", "i", fmt.Sprint(i), "long", long), 1)
		c.Sample(int64(i), 2)
	}
	result, err := c.Finish()
	c.Release()
	if err != nil || result.Rows != huge+3000 || len(s.rows) != huge+3000 {
		t.Fatalf("%+v, error %v, %d rows", result, err, len(s.rows))
	}
	slices.Sort(s.rows)
	if n := len(slices.Compact(s.rows)); n != huge+3000 {
		t.Errorf("%d distinct rows", n)
	}
	if slices.Max(s.batches) > maxBatchRows || len(s.batches) < 5 {
		t.Errorf("batches of %v rows", s.batches)
	}
}

func TestSinkErrorEndsTheRequest(t *testing.T) {
	in := newIntake(t)
	s := &sink{err: errkind.New(errkind.Unavailable, "no nodes")}
	c := in.Collect(&Request{Sink: s.take})
	for i := range 3 * maxBatchRows {
		if c.StartSeries(labels("__name__", "m"), 1) {
			c.Sample(int64(i), 1)
		}
	}
	result, err := c.Finish()
	c.Release()
	if errkind.Of(err) != errkind.Unavailable || result.Rows != 0 {
		t.Errorf("%+v, error %v", result, err)
	}
	s.err = nil
	c = in.Collect(&Request{Sink: s.take}) // a pooled collector has forgotten the error
	defer c.Release()
	if result, err := c.Finish(); err != nil || result != (Result{}) {
		t.Errorf("%+v, error %v", result, err)
	}
}
